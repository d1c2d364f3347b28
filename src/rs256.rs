//! RS256 (RFC 7518 §3.3): how a service account proves who it is.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

/// A private key that signs.
pub struct SigningKey(RsaKeyPair);

impl SigningKey {
    /// From PEM that holds PKCS #8, as in Google's key files: RSA with 2048 to 4096 bits. None: it is no such key.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (text, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let text: String = text.split_whitespace().collect();
        let der = BASE64_STANDARD.decode(text).ok()?;
        RsaKeyPair::from_pkcs8(&der).ok().map(Self)
    }

    /// None: there is no randomness to blind the computation with.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
        Some(signature)
    }
}
