//! Which URL may be asked, and at which addresses?
//!
//! Two questions, because a name proves nothing: [`Destination::read`] judges what is written, [`Rules::admitted`] what
//! the name turned out to mean, and only those addresses are connected to. Pure: looking names up is somebody else's work.
//!
//! What is written is read by a grammar narrower than RFC 3986, so that no other reader of URLs can take it for something
//! else; then it is written anew from the parts, and that is what is asked.
//!
//! The hard cases, each a line of a table in `tests/destination.rs`:
//! - an IPv4 address in octal, in hexadecimal, as one number or in fewer than four parts
//! - an address within an address: mapped, compatible, NAT64, 6to4, Teredo
//! - the metadata services of the clouds, which hand out keys to whoever asks
//! - a name with public and private addresses: the public ones are asked
//! - plain http to a name that is called localhost and lies elsewhere

mod address;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use address::{Reach, reach};

/// What the administrator allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The provider's, as the settings name them; no other is asked.
    pub origins: Vec<Origin>,
    /// `calsync.allow_private_network`: addresses of this machine and of private networks too, and plain http to loopback.
    pub allow_private_network: bool,
}

/// Why a URL is not asked: SQLSTATE SC008.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it holds characters that belong into no URL")]
    Characters,
    #[error("it is not https")]
    Scheme,
    #[error("it holds a user name or a password")]
    UserInfo,
    #[error("it has a fragment")]
    Fragment,
    #[error("its host is neither a DNS name nor an IP address")]
    Host,
    #[error("its host is an IP address that is not written as one")]
    DisguisedAddress,
    #[error("its port is none that a web server uses")]
    Port,
    #[error("its path has dot segments")]
    DotSegments,
    #[error("no setting names its host")]
    OtherOrigin,
    #[error("without TLS only loopback may be asked, and only with calsync.allow_private_network = on")]
    PlainHttp,
    #[error("its host is not in the public Internet, and calsync.allow_private_network is off")]
    Private,
    #[error("its host has no address that may be asked")]
    Unreachable,
}

impl Refused {
    /// For `last_error`, where no SQLSTATE stands beside the text.
    pub fn told(self) -> String {
        format!("refused URL (SC008): {self}")
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Characters => "Write what is not a printable ASCII character of a URL as %XX, and the host as xn--.",
            Self::Scheme => "Begin it with https://.",
            Self::UserInfo => "Leave out what is before the @: credentials belong into calsync_add_credential().",
            Self::Fragment => "Leave out the # and what follows.",
            Self::Host => "Write the host as letters, digits, hyphens and dots, or as an IP address, IPv6 in brackets.",
            Self::DisguisedAddress => "Write an IPv4 address as four decimal numbers.",
            Self::Port => "Leave out the port, or use one from 1024 on.",
            Self::DotSegments => "Leave out the segments \".\" and \"..\".",
            Self::OtherOrigin => "Only the hosts of calsync.google_api_url and calsync.google_token_url are asked.",
            Self::PlainHttp => {
                "Begin it with https://, or for a test on this machine set calsync.allow_private_network."
            }
            Self::Private => "Use a host with a public address; for a test set calsync.allow_private_network.",
            Self::Unreachable => "Use a host with a public address.",
        }
    }
}

/// Whether the connection is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Https,
    Http,
}

impl Scheme {
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Https, Self::Http].into_iter().find(|scheme| scheme.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// The host of a URL, in the one form that each has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// In lower case, without the dot of the root.
    Name(String),
    Address(IpAddr),
}

/// Scheme, host and port (RFC 6454 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
}

impl Origin {
    /// Of a URL that a setting holds, of which so far only the form can be judged.
    pub fn read(url: &str) -> Result<Self, Refused> {
        Destination::parse(url).map(|destination| destination.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        if self.port != self.scheme.default_port() { write!(f, ":{}", self.port) } else { Ok(()) }
    }
}

/// A URL that may be asked, as far as that can be told before its name is looked up. Displays as that URL, in canonical
/// form; its `Debug` form leaves out the query, which holds tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    origin: Origin,
    /// Path and query.
    target: String,
}

impl Destination {
    /// The destination that a URL names, where the rules allow it.
    pub fn read(url: &str, rules: &Rules) -> Result<Self, Refused> {
        let destination = Self::parse(url)?;
        let Origin { scheme, host, .. } = &destination.origin;
        match host {
            Host::Address(address) => rules.admits(*scheme, *address)?,
            Host::Name(name) if *scheme == Scheme::Http && !(is_localhost(name) && rules.allow_private_network) => {
                return Err(Refused::PlainHttp);
            }
            Host::Name(_) => {}
        }
        if rules.origins.contains(&destination.origin) { Ok(destination) } else { Err(Refused::OtherOrigin) }
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn parse(url: &str) -> Result<Self, Refused> {
        if !url.bytes().all(belongs_into_a_url) {
            return Err(Refused::Characters);
        }
        let (scheme, rest) = url.split_once("://").ok_or(Refused::Scheme)?;
        let scheme = Scheme::from_name(scheme).ok_or(Refused::Scheme)?;
        if rest.contains('#') {
            return Err(Refused::Fragment);
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Refused::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(port) => read_port(port, scheme)?,
            None => scheme.default_port(),
        };
        let host = read_host(host)?;
        let path = target.split('?').next().unwrap_or_default();
        if path.split('/').any(is_dot_segment) {
            return Err(Refused::DotSegments);
        }
        // RFC 9112 §3.2.1: an empty path is sent as "/".
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { origin: Origin { scheme, host, port }, target })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({}{})", self.origin, self.target.split('?').next().unwrap_or_default())
    }
}

impl Rules {
    /// Of the addresses that a host's name stands for, those that may be connected to; never none.
    pub fn admitted(
        &self,
        scheme: Scheme,
        answers: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Refused> {
        let mut because = Refused::Unreachable;
        let mut admitted = Vec::new();
        for answer in answers {
            match self.admits(scheme, answer.ip()) {
                Ok(()) => admitted.push(answer),
                Err(refused) => because = refused,
            }
        }
        if admitted.is_empty() { Err(because) } else { Ok(admitted) }
    }

    fn admits(&self, scheme: Scheme, address: IpAddr) -> Result<(), Refused> {
        match (scheme, reach(address)) {
            (Scheme::Http, _) if address.is_loopback() && self.allow_private_network => Ok(()),
            (Scheme::Http, _) => Err(Refused::PlainHttp),
            (Scheme::Https, Reach::Public) => Ok(()),
            (Scheme::Https, Reach::Private) if self.allow_private_network => Ok(()),
            (Scheme::Https, Reach::Private) => Err(Refused::Private),
            (Scheme::Https, Reach::Never) => Err(Refused::Unreachable),
        }
    }
}

/// RFC 3986 §2: unreserved, reserved, and the percent sign. Not the rest of ASCII, which readers of URLs take differently.
fn belongs_into_a_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), Refused> {
    // The colons of an IPv6 address are within its brackets.
    let end_of_host = match authority.starts_with('[') {
        true => authority.find(']').ok_or(Refused::Host)? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end_of_host);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(Refused::Host),
    }
}

/// The scheme's own, or one that belongs to no other well-known protocol.
fn read_port(text: &str, scheme: Scheme) -> Result<u16, Refused> {
    let port = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let port: u16 = port.and_then(|text| text.parse().ok()).ok_or(Refused::Port)?;
    if port == scheme.default_port() || port >= 1024 { Ok(port) } else { Err(Refused::Port) }
}

fn read_host(text: &str) -> Result<Host, Refused> {
    if let Some(text) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        // Without the zone id of RFC 6874: it means another host on each machine.
        return text.parse::<Ipv6Addr>().map(|address| Host::Address(address.into())).map_err(|_| Refused::Host);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if is_read_as_a_number(name.rsplit('.').next().unwrap_or_default()) {
        // Rust's parser knows the dotted decimal form and no other.
        let address: Result<Ipv4Addr, _> = name.parse();
        return address.map(|address| Host::Address(address.into())).map_err(|_| Refused::DisguisedAddress);
    }
    if is_host_name(&name) { Ok(Host::Name(name)) } else { Err(Refused::Host) }
}

/// As the URL Standard has it ("ends in a number checker"): what ends so, inet_aton() takes for an address.
fn is_read_as_a_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hexadecimal || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// RFC 1123 §2.1: letters, digits and hyphens. A name in another script comes as RFC 5890 writes it, with xn--.
fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// RFC 6761 §6.3.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// RFC 3986 §6.2.2.3, however they are written: a server that resolves them would serve another resource than was meant.
fn is_dot_segment(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}
