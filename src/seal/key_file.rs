//! The keys that seal secrets: a file beside the database, for the server's own eyes.
//!
//! One key a line, in base64, the newest last; it seals, the older ones only open what they sealed, in other databases
//! of the cluster too. A dump of the database holds no key, a copy of the data directory does.
//!
//! The hard cases, each with a test in `tests/integration`:
//! - two sessions that need the first key at once get the same one: the file appears whole, or not at all
//! - a file that others can read is refused, before anything is sealed with it
//! - a key is on the disk before anything that it sealed

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pgrx::pg_sys;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::Error;
use crate::settings;

pub const KEY_ID_LENGTH: usize = 8;
const KEY_LENGTH: usize = 32;
/// More is no key file.
const LARGEST: u64 = 1 << 20;

pub struct Key([u8; KEY_LENGTH]);

impl Key {
    /// Names the key without telling it: a part of its hash.
    pub fn id(&self) -> [u8; KEY_ID_LENGTH] {
        let mut id = [0; KEY_ID_LENGTH];
        id.copy_from_slice(&digest(&SHA256, &self.0).as_ref()[..KEY_ID_LENGTH]);
        id
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn random() -> Result<Self, Error> {
        let mut key = [0; KEY_LENGTH];
        SystemRandom::new().fill(&mut key).map_err(|_| super::no_randomness())?;
        Ok(Key(key))
    }
}

/// What the key file holds: one key at least.
pub struct KeyFile {
    newest: Key,
    older: Vec<Key>,
}

impl KeyFile {
    /// None: there is none.
    pub fn read() -> Result<Option<Self>, Error> {
        let path = path()?;
        match open(&path)? {
            Some(file) => Self::of(&file).map(Some),
            None => Ok(None),
        }
    }

    /// The keys; where there is no file yet, one is made.
    pub fn read_or_make() -> Result<Self, Error> {
        if let Some(keys) = Self::read()? {
            return Ok(keys);
        }
        let path = path()?;
        let new = KeyFile { newest: Key::random()?, older: Vec::new() };
        let staged = new.write_beside(&path)?;
        // A link appears at once and with all that it holds; where somebody was faster, his keys count.
        let linked = std::fs::hard_link(&staged, &path);
        let _ = std::fs::remove_file(&staged);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unusable(&error)),
            _ => {
                sync_directory_of(&path)?;
                Self::read()?.ok_or_else(|| Error::Internal("a key file vanished while it was made".to_owned()))
            }
        }
    }

    pub fn newest(&self) -> &Key {
        &self.newest
    }

    pub fn find(&self, id: &[u8]) -> Option<&Key> {
        self.older.iter().chain([&self.newest]).find(|key| key.id() == id)
    }

    fn of(file: &File) -> Result<Self, Error> {
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).map_err(|error| unusable(&error))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut keys = Vec::new();
        for line in lines {
            let key = BASE64_STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            keys.push(Key(key.ok_or_else(no_key_file)?));
        }
        let newest = keys.pop().ok_or_else(no_key_file)?;
        Ok(KeyFile { newest, older: keys })
    }

    /// Into a new file in the same directory, for the server's user alone, and on the disk.
    fn write_beside(&self, path: &Path) -> Result<PathBuf, Error> {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!(".{}.new", std::process::id()));
        let staged = PathBuf::from(staged);
        // Left by a process of the same number that died over it.
        let _ = std::fs::remove_file(&staged);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
            writeln!(file, "# Keys of pg_calsync, the newest last. Whoever has them can open all credentials.")?;
            for key in self.older.iter().chain([&self.newest]) {
                writeln!(file, "{}", BASE64_STANDARD.encode(key.0))?;
            }
            file.sync_all()
        };
        write().map_err(|error| unusable(&error))?;
        Ok(staged)
    }
}

/// Adds a key, which seals from now on. The older ones stay.
pub fn add_key() -> Result<(), Error> {
    KeyFile::read_or_make()?;
    // Where it is a link, the file is replaced and not the link.
    let path = std::fs::canonicalize(path()?).map_err(|error| unusable(&error))?;
    let file = open(&path)?.ok_or_else(no_key_file)?;
    // SAFETY: a plain call on an open file; closing it gives the lock up.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    // Who waited for another rotation would hold the lock of a file that is there no more.
    let is_current =
        || std::fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
    if !locked || !is_current() {
        return Err(Error::credential(
            "the keys are being rotated already",
            "Another session, perhaps of another database, is writing the key file.",
            "SELECT calsync_rotate_key() again.",
        ));
    }
    let KeyFile { newest, older } = KeyFile::of(&file)?;
    let keys = KeyFile { newest: Key::random()?, older: older.into_iter().chain([newest]).collect() };
    let staged = keys.write_beside(&path)?;
    std::fs::rename(&staged, &path).map_err(|error| {
        let _ = std::fs::remove_file(&staged);
        unusable(&error)
    })?;
    sync_directory_of(&path)
}

/// Where the key file is, or is to be.
pub fn path() -> Result<PathBuf, Error> {
    let name = settings::key_file();
    if name.is_empty() {
        return Err(Error::credential(
            "secrets cannot be sealed",
            "calsync.key_file is empty.",
            "Set calsync.key_file to the name of a file that the server may make, or reset it.",
        ));
    }
    // SAFETY: set when the server starts, and never changed.
    let data_directory = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Ok(Path::new(&*data_directory.to_string_lossy()).join(name))
}

/// The key file for a message: where the data directory is, is not for everybody to know who sees that.
pub fn shown() -> String {
    let name = settings::key_file();
    match Path::new(&name).is_absolute() {
        true => format!("\"{name}\""),
        false => format!("\"{name}\" in the data directory"),
    }
}

/// A shell command that mends it.
fn command(command: &str) -> String {
    let name = settings::key_file();
    let quoted = format!("'{}'", name.replace('\'', "'\\''"));
    match Path::new(&name).is_absolute() {
        true => format!("{command} {quoted}"),
        false => format!("cd \"$PGDATA\" && {command} {quoted}"),
    }
}

/// None: there is none. One that is not ours alone is refused.
fn open(path: &Path) -> Result<Option<File>, Error> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&error)),
    };
    let is = file.metadata().map_err(|error| unusable(&error))?;
    // SAFETY: a plain call.
    let ourselves = unsafe { libc::geteuid() };
    let refused =
        |detail: String, hint: String| Error::credential(format!("key file {} is refused", shown()), detail, hint);
    if !is.is_file() {
        return Err(refused("It is not a regular file.".into(), "Set calsync.key_file to another name.".into()));
    }
    if is.uid() != ourselves {
        return Err(refused(
            format!("It belongs to user {}, the server runs as user {ourselves}.", is.uid()),
            format!("As root: {} && {}", command(&format!("chown {ourselves}")), command("chmod 0600")),
        ));
    }
    if is.mode() & 0o077 != 0 {
        return Err(refused(
            format!("Others than the server can read or write it: its mode is {:04o}.", is.mode() & 0o7777),
            format!("{}; if others may have read it, then SELECT calsync_rotate_key().", command("chmod 0600")),
        ));
    }
    Ok(Some(file))
}

/// What was made or renamed in it is there after a power cut.
fn sync_directory_of(path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| unusable(&error))
}

fn unusable(error: &io::Error) -> Error {
    Error::credential(
        format!("key file {} cannot be used", shown()),
        format!("{error}."),
        "The server's user must be able to read it and to write to its directory; see calsync.key_file.",
    )
}

fn no_key_file() -> Error {
    Error::credential(
        format!("key file {} is damaged", shown()),
        "It has to hold one key a line, each 32 bytes in base64.",
        "Copy it from a backup of the data directory; without it every credential must be added again.",
    )
}
