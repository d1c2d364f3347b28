//! What can be wrong with the key file, and what mends it.
//!
//! Where the file is, is for superusers to know, as the setting is: to all others, and in what is stored, it is the file
//! that `calsync.key_file` names.

use std::fmt;
use std::path::Path;

use crate::settings;

/// Trouble of ours: the provider was not asked, and mending the file heals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// `calsync.key_file` is empty.
    Unset,
    NotAFile,
    /// It is a link to a file that there is none of.
    LeadsNowhere,
    OfAnother {
        user: u32,
        server: u32,
    },
    OpenToOthers {
        mode: u32,
    },
    /// The operating system says why.
    Unusable(String),
    Damaged,
    /// The file is well, and does not hold the key that this credential was sealed with.
    KeyMissing {
        credential: String,
        /// In hexadecimal digits.
        key: String,
        file_is_there: bool,
    },
}

/// How the file is called in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Named,
    Unnamed,
}

impl Place {
    /// The file, as the object of a sentence.
    pub fn file(self) -> String {
        let name = settings::key_file();
        match self {
            Place::Unnamed => "the file that calsync.key_file names".to_owned(),
            Place::Named if Path::new(&name).is_absolute() => format!("\"{name}\""),
            Place::Named => format!("\"{name}\" in the data directory"),
        }
    }

    /// A shell command about it.
    fn command(self, command: &str) -> String {
        let name = settings::key_file();
        let quoted = format!("'{}'", name.replace('\'', "'\\''"));
        match self {
            Place::Unnamed => format!("{command} {}", self.file()),
            Place::Named if Path::new(&name).is_absolute() => format!("{command} {quoted}"),
            Place::Named => format!("cd \"$PGDATA\" && {command} {quoted}"),
        }
    }

    fn key_file(self) -> String {
        match self {
            Place::Unnamed => "the key file".to_owned(),
            Place::Named => format!("key file {}", self.file()),
        }
    }
}

impl Trouble {
    pub fn message(&self, place: Place) -> String {
        let file = place.key_file();
        match self {
            Trouble::Unset => "secrets can neither be sealed nor opened".to_owned(),
            Trouble::NotAFile | Trouble::LeadsNowhere | Trouble::OfAnother { .. } | Trouble::OpenToOthers { .. } => {
                format!("{file} is refused")
            }
            Trouble::Unusable(_) => format!("{file} cannot be used"),
            Trouble::Damaged => format!("{file} is damaged"),
            Trouble::KeyMissing { credential, .. } => {
                format!("credential \"{credential}\" cannot be opened: the key that sealed it is not here")
            }
        }
    }

    pub fn detail(&self, place: Place) -> String {
        match self {
            Trouble::Unset => "calsync.key_file is empty.".to_owned(),
            Trouble::NotAFile => "It is not a regular file.".to_owned(),
            Trouble::LeadsNowhere => "It is a link to a file that does not exist.".to_owned(),
            Trouble::OfAnother { user, server } => {
                format!("It belongs to user {user}, the server runs as user {server}.")
            }
            Trouble::OpenToOthers { mode } => {
                format!("Others than the server can read or write it: its mode is {mode:04o}.")
            }
            Trouble::Unusable(why) => format!("{why}."),
            Trouble::Damaged => "It has to hold one key a line, each 32 bytes in base64.".to_owned(),
            Trouble::KeyMissing { key, file_is_there: true, .. } => {
                format!("Its id is {key}, and {} does not hold it.", place.file())
            }
            Trouble::KeyMissing { key, .. } => format!("Its id is {key}, and {} does not exist.", place.file()),
        }
    }

    pub fn hint(&self, place: Place) -> String {
        match self {
            Trouble::Unset => {
                "Set calsync.key_file to the name of a file that the server may make, or reset it.".to_owned()
            }
            Trouble::NotAFile => "Set calsync.key_file to another name.".to_owned(),
            Trouble::LeadsNowhere => {
                "Bring the file to where the link leads, or set calsync.key_file to another name; should there never have \
                 been one, remove the link."
                    .to_owned()
            }
            Trouble::OfAnother { server, .. } => {
                format!("As root: {} && {}", place.command(&format!("chown {server}")), place.command("chmod 0600"))
            }
            Trouble::OpenToOthers { .. } => format!(
                "{}; if others may have read it, then SELECT calsync_rotate_key().",
                place.command("chmod 0600")
            ),
            Trouble::Unusable(_) => {
                "The server's user must be able to read it and to write to its directory; see calsync.key_file."
                    .to_owned()
            }
            Trouble::Damaged => "Mend the line that is none, or copy the file from a backup of the data directory; a \
                                 credential whose key is lost must be added again."
                .to_owned(),
            Trouble::KeyMissing { .. } => format!(
                "Append that key's line, from the key file of the server where the credential was added, to {} (never copy \
                 one over the other), or add the credential again with calsync_add_credential().",
                place.file()
            ),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message(Place::Unnamed))
    }
}
