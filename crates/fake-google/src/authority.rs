//! A certificate authority for a test, and what it certifies.
//!
//! Keys and certificates are made when they are asked for and kept in memory: nothing to check in, to leak or to renew.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// Whoever trusts [`Authority::pem`] trusts what it certifies.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A server's certificate with its key.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

impl Authority {
    /// # Panics
    /// Where no key can be made: a test has nothing better to do. So do the methods.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The authority's own certificate, as a file of trusted ones holds it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Certifies DNS names and IP addresses.
    pub fn certify(&self, names: &[&str]) -> Identity {
        self.issue(CertificateParams::new(owned(names)).expect("names"))
    }

    /// The same, as it was years ago.
    pub fn certify_for_the_past(&self, names: &[&str]) -> Identity {
        let mut params = CertificateParams::new(owned(names)).expect("names");
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity::new(certificate, &key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// Certified by nobody but itself.
    ///
    /// # Panics
    /// As [`Authority::new`].
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(owned(names)).expect("names");
        Self::new(params.self_signed(&key).expect("a certificate"), &key)
    }

    fn new(certificate: rcgen::Certificate, key: &KeyPair) -> Self {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .expect("the key belongs to the certificate");
        Self(Arc::new(config))
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
