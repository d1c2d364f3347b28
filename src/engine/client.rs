//! The HTTP client: whom it connects to, how long it waits, how much it reads.
//!
//! ureq does the talking. What is ours is the distrust: a URL is asked only as [`Destination`] wrote it anew, a connection
//! goes only to an address that [`Rules`] admitted, and there is no second look-up between the check and the connection.
//! Neither redirects nor the environment's proxies are followed: both would carry a request, with its credential, to a
//! host that nobody allowed.
//!
//! The hard cases, each with a test in `tests/integration/tests/all/network.rs`:
//! - a name that leads to this machine or to a metadata service
//! - a small answer that unpacks into a large one, a head or a body without an end, one byte a second
//! - a certificate that nobody trusts, that has expired, or that is another host's: no fallback

use std::io::{self, Read};
use std::time::Duration;

use calsync_core::destination::{Destination, Origin, Refused, Rules, Scheme};
use calsync_core::providers::{Answer, Method, Request};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::settings::Settings;

/// The most that an answer's head may take.
const LARGEST_HEAD: usize = 64 * 1024;

/// The most that is read of what is no list of events: an error, a grant, a channel. They are read as JSON values, which
/// take many times the space of their text.
const LARGEST_OTHER: u64 = 64 * 1024;

/// The settings that concern the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    connect_timeout: Duration,
    request_timeout: Duration,
    /// In bytes, unpacked.
    max_response_size: u64,
    rules: Rules,
}

impl From<&Settings> for Manners {
    fn from(settings: &Settings) -> Self {
        let urls = [&settings.google_api_url, &settings.google_token_url];
        Manners {
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.request_timeout,
            max_response_size: settings.max_response_size,
            rules: Rules {
                origins: urls.into_iter().filter_map(|url| Origin::read(url).ok()).collect(),
                allow_private_network: settings.allow_private_network,
            },
        }
    }
}

/// Cheap to clone: the clones share their connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    rules: Rules,
    max_response_size: u64,
}

impl Client {
    pub fn new(manners: &Manners) -> Self {
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_resolve(Some(manners.connect_timeout))
            .timeout_connect(Some(manners.connect_timeout))
            .timeout_global(Some(manners.request_timeout))
            .max_response_header_size(LARGEST_HEAD)
            .user_agent(concat!("pg_calsync/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let resolver = CheckedResolver { rules: manners.rules.clone(), system: DefaultResolver::default() };
        Client {
            agent: ureq::Agent::with_parts(config, DefaultConnector::default(), resolver),
            rules: manners.rules.clone(),
            max_response_size: manners.max_response_size,
        }
    }

    /// Sends a request and waits for the whole answer, at most as long as `calsync.request_timeout` says.
    pub fn ask(&self, request: &Request) -> Answer {
        let destination = match Destination::read(&request.url, &self.rules) {
            Ok(destination) => destination,
            Err(refused) => return Answer::Refused(refused),
        };
        let mut call = ureq::http::Request::builder().uri(destination.to_string());
        for (name, value) in &request.headers {
            call = call.header(*name, value);
        }
        let answered = match &request.method {
            Method::Get => call.method("GET").body(()).map(|call| self.agent.run(call)),
            Method::Post(body) => call.method("POST").body(body.as_str()).map(|call| self.agent.run(call)),
        };
        match answered {
            Ok(Ok(response)) => self.read(response, matches!(request.method, Method::Get)),
            Ok(Err(error)) => unanswered(&error),
            Err(_) => Answer::None { reason: "the request cannot be written as HTTP".to_owned() },
        }
    }

    fn read(&self, mut response: ureq::http::Response<ureq::Body>, is_list: bool) -> Answer {
        let status = response.status().as_u16();
        let is_error = status != 200;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| calsync_core::providers::read_retry_after(value, chrono::Utc::now()));
        let (most, bound) = match is_list && !is_error {
            true => (self.max_response_size, "calsync.max_response_size"),
            false => (LARGEST_OTHER.min(self.max_response_size), "an answer of its kind is"),
        };
        let mut body = Vec::new();
        // Of what has been unpacked: a small answer may grow large.
        match response.body_mut().as_reader().take(most + 1).read_to_end(&mut body) {
            // What an error says counts more than how long it goes on.
            Ok(_) if body.len() as u64 > most && is_error => {
                body.truncate(most as usize);
                Answer::Http { status, retry_after, body }
            }
            Ok(_) if body.len() as u64 > most => {
                Answer::None { reason: format!("the answer is larger than {bound} ({} kB)", most / 1024) }
            }
            Ok(_) => Answer::Http { status, retry_after, body },
            Err(error) => broken_off(error),
        }
    }
}

/// The system's own look-up, from whose answers only those are kept that may be connected to.
#[derive(Debug)]
struct CheckedResolver {
    rules: Rules,
    system: DefaultResolver,
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let refuse = |refused: Refused| ureq::Error::Other(Box::new(refused));
        let scheme = uri.scheme_str().and_then(Scheme::from_name).ok_or_else(|| refuse(Refused::Scheme))?;
        let found = self.system.resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        for address in self.rules.admitted(scheme, found.iter().copied()).map_err(refuse)? {
            kept.push(address);
        }
        Ok(kept)
    }
}

/// What went wrong, without the URL: its query holds tokens.
fn unanswered(error: &ureq::Error) -> Answer {
    if let ureq::Error::Other(other) = error
        && let Some(refused) = other.downcast_ref::<Refused>()
    {
        return Answer::Refused(*refused);
    }
    Answer::None {
        reason: match error {
            ureq::Error::Timeout(ureq::Timeout::Resolve) => "the provider's host was not looked up in time".to_owned(),
            ureq::Error::Timeout(which) => format!("the provider did not answer in time ({which})"),
            ureq::Error::HostNotFound => "the provider's host was not found".to_owned(),
            ureq::Error::ConnectionFailed => "the provider's host could not be reached".to_owned(),
            ureq::Error::Io(error) => match tls_error(error) {
                Some(error) => format!("TLS failed: {error}"),
                None => format!("the provider could not be reached: {error}"),
            },
            ureq::Error::Tls(what) => format!("TLS failed: {what}"),
            ureq::Error::Rustls(error) => format!("TLS failed: {error}"),
            ureq::Error::Protocol(error) => format!("the answer is not HTTP: {error}"),
            ureq::Error::LargeResponseHeader(..) => {
                format!("the answer's head is larger than {} kB", LARGEST_HEAD / 1024)
            }
            _ => "the request failed".to_owned(),
        },
    }
}

/// In the middle of the body.
fn broken_off(error: io::Error) -> Answer {
    let reason = match ureq::Error::from(error) {
        ureq::Error::Timeout(which) => format!("the answer did not end in time ({which})"),
        ureq::Error::Decompress(..) => "the answer cannot be unpacked".to_owned(),
        ureq::Error::Protocol(error) => format!("the answer is not HTTP: {error}"),
        ureq::Error::Io(error) => format!("the answer broke off: {error}"),
        _ => "the answer broke off".to_owned(),
    };
    Answer::None { reason }
}

/// What fails while shaking hands comes wrapped as an error of the connection.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}
