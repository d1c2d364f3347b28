//! The keys that seal secrets: a file beside the database, for the server's own eyes.
//!
//! One key a line, in base64, the newest last; it seals, the older ones only open what they sealed, in other databases
//! of the cluster too. Order and repetition do no harm, so that lines of another server's file can be appended. A dump of
//! the database holds no key, a copy of the data directory does, the write-ahead log does not.
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

use super::trouble::Trouble;
use crate::error::Error;
use crate::settings;

pub const KEY_ID_LENGTH: usize = 8;
const KEY_LENGTH: usize = 32;
/// With its padding.
const KEY_IN_BASE64: usize = 44;
/// More is no key file.
const LARGEST: u64 = 1 << 20;

pub type KeyId = [u8; KEY_ID_LENGTH];

pub struct Key {
    bytes: [u8; KEY_LENGTH],
    /// Where it stands in the file, counted from 1.
    pub line: usize,
}

impl Key {
    /// Names the key without telling it: a part of its hash.
    pub fn id(&self) -> KeyId {
        let mut id = [0; KEY_ID_LENGTH];
        id.copy_from_slice(&digest(&SHA256, &self.bytes).as_ref()[..KEY_ID_LENGTH]);
        id
    }

    pub fn shown_id(&self) -> String {
        shown_id(&self.id())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn random() -> Result<Self, Error> {
        let mut bytes = [0; KEY_LENGTH];
        SystemRandom::new().fill(&mut bytes).map_err(|_| super::no_randomness())?;
        Ok(Key { bytes, line: 0 })
    }
}

/// A key's id for a person, in hexadecimal digits.
pub fn shown_id(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the key file holds: one key at least. The same key twice is one, in the place where it is last.
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
        make_if_missing()?;
        Self::read()?.ok_or(Error::KeyFile(Trouble::LeadsNowhere))
    }

    pub fn newest(&self) -> &Key {
        &self.newest
    }

    /// In the order of the file, the newest last.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.older.iter().chain([&self.newest])
    }

    pub fn find(&self, id: &[u8]) -> Option<&Key> {
        self.all().find(|key| key.id() == id)
    }

    fn of(file: &File) -> Result<Self, Error> {
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).map_err(|error| unusable(&error))?;
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            // Where one was appended to a file that did not end with a line break, a line has two, or a comment after it.
            let line = line.split('#').next().unwrap_or_default().trim();
            for key in line.as_bytes().chunks(KEY_IN_BASE64) {
                let bytes = BASE64_STANDARD.decode(key).ok().and_then(|bytes| bytes.try_into().ok());
                let bytes = bytes.ok_or(Error::KeyFile(Trouble::Damaged))?;
                keys.retain(|key| key.bytes != bytes);
                keys.push(Key { bytes, line: number + 1 });
            }
        }
        let newest = keys.pop().ok_or(Error::KeyFile(Trouble::Damaged))?;
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
            writeln!(
                file,
                "# Keys of pg_calsync, each below its id; the last one seals. Whoever has them opens all credentials."
            )?;
            for key in self.all() {
                writeln!(file, "# {}\n{}", key.shown_id(), BASE64_STANDARD.encode(key.bytes))?;
            }
            file.sync_all()
        };
        write().map_err(|error| unusable(&error))?;
        Ok(staged)
    }
}

/// Makes a key file with one key, unless there is a file. True: it was made.
pub fn make_if_missing() -> Result<bool, Error> {
    let path = path()?;
    if open(&path)?.is_some() {
        return Ok(false);
    }
    let new = KeyFile { newest: Key::random()?, older: Vec::new() };
    let staged = new.write_beside(&path)?;
    // A link appears at once and with all that it holds; where somebody was faster, his keys count.
    let linked = std::fs::hard_link(&staged, &path);
    let _ = std::fs::remove_file(&staged);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unusable(&error)),
        linked => {
            sync_directory_of(&path)?;
            Ok(linked.is_ok())
        }
    }
}

/// Adds a key, which seals from now on, unless another one than `newest` does so already: somebody has just added it. The
/// older ones stay. True: it was added.
pub fn add_key_after(newest: &KeyId) -> Result<bool, Error> {
    // Where it is a link, the file is replaced and not the link.
    let path = std::fs::canonicalize(path()?).map_err(|error| unusable(&error))?;
    let file = open(&path)?.ok_or(Error::KeyFile(Trouble::Damaged))?;
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
    let KeyFile { newest: last, older } = KeyFile::of(&file)?;
    if last.id() != *newest {
        return Ok(false);
    }
    let keys = KeyFile { newest: Key::random()?, older: older.into_iter().chain([last]).collect() };
    remove_leftovers(&path);
    let staged = keys.write_beside(&path)?;
    std::fs::rename(&staged, &path).map_err(|error| {
        let _ = std::fs::remove_file(&staged);
        unusable(&error)
    })?;
    sync_directory_of(&path)?;
    Ok(true)
}

/// What a process left that died while it wrote beside the file: it holds keys, too. Nobody else writes there while this one
/// has the file locked.
fn remove_leftovers(path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let is_leftover = |found: &str| {
        let process = found.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".new"));
        process.is_some_and(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_leftover) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Where the key file is, or is to be.
pub fn path() -> Result<PathBuf, Error> {
    let name = settings::key_file();
    if name.is_empty() {
        return Err(Error::KeyFile(Trouble::Unset));
    }
    // SAFETY: set when the server starts, and never changed.
    let data_directory = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Ok(Path::new(&*data_directory.to_string_lossy()).join(name))
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
    let trouble = if !is.is_file() {
        Some(Trouble::NotAFile)
    } else if is.uid() != ourselves {
        Some(Trouble::OfAnother { user: is.uid(), server: ourselves })
    } else if is.mode() & 0o077 != 0 {
        Some(Trouble::OpenToOthers { mode: is.mode() & 0o7777 })
    } else {
        None
    };
    match trouble {
        Some(trouble) => Err(Error::KeyFile(trouble)),
        None => Ok(Some(file)),
    }
}

/// What was made or renamed in it is there after a power cut.
fn sync_directory_of(path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| unusable(&error))
}

fn unusable(error: &io::Error) -> Error {
    Error::KeyFile(Trouble::Unusable(error.to_string()))
}
