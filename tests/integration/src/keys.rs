//! Keys of service accounts, made when a test needs them.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// A fresh key pair, and the file that Google's console would give for it.
pub struct ServiceAccountKey {
    pub email: String,
    pub private_key: String,
    /// PKCS #1, DER.
    pub public_key: Vec<u8>,
}

impl ServiceAccountKey {
    pub fn generate(email: &str) -> Self {
        let private_key = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"");
        let public_key = openssl(&["rsa", "-RSAPublicKey_out", "-outform", "DER"], &private_key);
        let private_key = String::from_utf8(private_key).expect("PEM is text");
        ServiceAccountKey { email: email.to_owned(), private_key, public_key }
    }

    /// As downloaded; with `sub`, where a user is to be impersonated.
    pub fn file(&self, sub: Option<&str>) -> Value {
        let mut file = json!({
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "4a6f",
            "private_key": self.private_key,
            "client_email": self.email,
            "client_id": "1234567890",
            // Whoever followed this would send an assertion to a stranger.
            "token_uri": "https://stranger.invalid/token",
            "universe_domain": "googleapis.com",
        });
        if let Some(sub) = sub {
            file["sub"] = json!(sub);
        }
        file
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let command = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = command.expect("the tests make keys with openssl");
    child.stdin.take().expect("it is piped").write_all(input).expect("openssl reads");
    let output = child.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}
