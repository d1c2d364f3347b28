//! Secrets at rest: sealed with AES-256-GCM, each time with another nonce, bound to whose credential it is.
//!
//! Sealed bytes are: a version (1), the key's id (8), the nonce (12), and what was sealed with its tag (16). Owner and
//! name of the credential are authenticated with them, so that a row copied to another name opens nothing. The keys are
//! not in the database: see [`key_file`].

pub mod key_file;
pub mod trouble;

use calsync_core::credential::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::Error;
use key_file::{KEY_ID_LENGTH, Key, KeyFile};
use trouble::Trouble;

const VERSION: u8 = 1;
const HEADER: usize = 1 + KEY_ID_LENGTH;

/// No secret that is taken is larger when it is sealed, in bytes, whatever JSON makes of its letters. More is not read from
/// a table: it was stored before secrets had a bound.
pub const LARGEST_SEALED: usize = 128 * 1024;

/// Seals a secret with the newest key; the first time, the key file is made.
pub fn seal(owner: &str, name: &str, secret: &Secret) -> Result<Vec<u8>, Error> {
    let keys = KeyFile::read_or_make()?;
    let key = keys.newest();
    let mut sealed = vec![VERSION];
    sealed.extend_from_slice(&key.id());
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| no_randomness())?;
    let bound_to = bound_to(&sealed, owner, name);
    let mut text = secret.to_json().to_string().into_bytes();
    cipher(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to), &mut text)
        .map_err(|_| Error::Internal("a secret could not be sealed".to_owned()))?;
    sealed.extend_from_slice(&nonce);
    sealed.append(&mut text);
    Ok(sealed)
}

/// Opens what [`seal`] made for this very credential. Trouble with the key file is [`Error::KeyFile`]; anything else means
/// that the credential must be added again.
pub fn open(owner: &str, name: &str, sealed: &[u8]) -> Result<Secret, Error> {
    let damaged = || {
        Error::credential(
            format!("credential \"{name}\" cannot be opened"),
            "What is stored is not what was sealed for it: it was altered, or copied from another credential.",
            "Add it again with calsync_add_credential().",
        )
    };
    let unusable = |why: String| {
        Error::credential(
            format!("credential \"{name}\" cannot be used"),
            format!("What is stored is no secret: {why}."),
            "Add it again with calsync_add_credential().",
        )
    };
    if sealed.len() > LARGEST_SEALED {
        return Err(unusable("it is too large".to_owned()));
    }
    if sealed.len() < HEADER + NONCE_LEN || sealed[0] != VERSION {
        return Err(damaged());
    }
    let (header, rest) = sealed.split_at(HEADER);
    let (nonce, text) = rest.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
    let keys = KeyFile::read()?;
    let Some(key) = keys.as_ref().and_then(|keys| keys.find(&header[1..])) else {
        return Err(Error::KeyFile(Trouble::KeyMissing {
            credential: name.to_owned(),
            key: key_file::shown_id(&header[1..]),
            file_is_there: keys.is_some(),
        }));
    };
    let mut text = text.to_vec();
    let opened = cipher(key)?
        .open_in_place(nonce, Aad::from(bound_to(header, owner, name)), &mut text)
        .map_err(|_| damaged())?;
    let json = serde_json::from_slice(opened).map_err(|_| damaged())?;
    Secret::read(&json).map_err(|why| unusable(why.to_string()))
}

/// What the sealed text is authenticated together with. The owner's length keeps owner and name apart.
fn bound_to(header: &[u8], owner: &str, name: &str) -> Vec<u8> {
    let length = (owner.len() as u64).to_be_bytes();
    [header, &length, owner.as_bytes(), name.as_bytes()].concat()
}

fn cipher(key: &Key) -> Result<LessSafeKey, Error> {
    let key = UnboundKey::new(&AES_256_GCM, key.bytes());
    key.map(LessSafeKey::new).map_err(|_| Error::Internal("a key has the wrong length".to_owned()))
}

fn no_randomness() -> Error {
    Error::Internal("the operating system gives no random bytes".to_owned())
}
