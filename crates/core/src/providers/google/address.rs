//! Where notifications can be sent to: `calsync.webhook_url`.
//!
//! Google delivers to https only, to a host that its servers find by name, with a certificate that a public authority
//! has signed (guide "Push notifications", "Required properties"). What cannot work is said before it is asked for; the
//! certificate only Google can judge.

use std::net::IpAddr;

/// Longer ones are none of Google's business.
const LONGEST: usize = 2048;

/// Names that lead nowhere from outside (RFC 6761, RFC 6762, RFC 8375, and what routers and clusters use).
const PRIVATE_SUFFIXES: [&str; 9] =
    [".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa", ".test", ".invalid"];

/// Why no provider would deliver to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undeliverable {
    #[error("it is not an https URL")]
    NotHttps,
    #[error("it has no host")]
    NoHost,
    #[error("it holds a user name or a password, which would be shown to the provider")]
    HoldsCredentials,
    #[error("its host is not reachable from outside")]
    PrivateHost,
    #[error("its host is an address, for which no public authority signs a certificate")]
    NumericHost,
    #[error("it holds characters that a URL cannot hold, or a fragment")]
    NotAUrl,
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
}

/// Whether a provider could deliver to this URL. `allow_loopback`: http to this very machine will do, for tests.
pub fn check(url: &str, allow_loopback: bool) -> Result<(), Undeliverable> {
    if url.len() > LONGEST {
        return Err(Undeliverable::TooLong);
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['#', '"', '<', '>', '\\', '`']) {
        return Err(Undeliverable::NotAUrl);
    }
    let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) if allow_loopback => (false, rest),
        _ => return Err(Undeliverable::NotHttps),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Undeliverable::HoldsCredentials);
    }
    let host = host(authority).to_ascii_lowercase();
    if host.is_empty() {
        return Err(Undeliverable::NoHost);
    }
    let ip: Option<IpAddr> = host.parse().ok();
    if ip.map_or(host == "localhost", |ip| ip.is_loopback()) && allow_loopback {
        return Ok(());
    }
    if !secure {
        return Err(Undeliverable::NotHttps);
    }
    if ip.is_some() {
        return Err(Undeliverable::NumericHost);
    }
    let name = host.trim_end_matches('.');
    let is_private = PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    if is_private || !name.contains('.') || name.starts_with('.') {
        return Err(Undeliverable::PrivateHost);
    }
    // "127.1" and "0x7f.1" are numbers to a resolver, and no top-level domain begins with a digit.
    if name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
        return Err(Undeliverable::NumericHost);
    }
    Ok(())
}

/// Without the port; of `[::1]:80` what is inside the brackets.
fn host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}
