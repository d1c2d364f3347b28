//! What a credential's secret looks like: which shapes there are, and what is wrong with one that is none.
//!
//! Whoever reads the complaint may not be who may know the secret, and it goes to the server's log: it names keys that
//! we know, and quotes nothing else, neither values nor keys.
//!
//! A key file's `token_uri` is not followed, and neither is any other URL in it: a secret must not name the host that
//! it is sent to. That is for the setting `calsync.google_token_url` to say.

use std::fmt;

use serde_json::{Map, Value, json};

/// What a provider wants to see before it answers.
///
/// Its `Debug` form tells the shape and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Nothing: the provider is asked as nobody.
    None,
    /// An application, and one user's consent that it may read.
    OauthClient(OauthClient),
    /// An account of a machine's own, with a private key.
    ServiceAccount(ServiceAccount),
    /// A token that goes into each request as it is (RFC 6750).
    Bearer { token: String },
    /// A name and a password that go into each request (RFC 7617).
    Basic { username: String, password: String },
}

/// RFC 6749 §6.
#[derive(Clone, PartialEq, Eq)]
pub struct OauthClient {
    pub client_id: String,
    pub client_secret: String,
    pub refresh_token: String,
}

/// <https://developers.google.com/identity/protocols/oauth2/service-account>
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    pub client_email: String,
    /// PEM, PKCS #8.
    pub private_key: String,
    pub private_key_id: Option<String>,
    /// The number by which an administrator delegates a domain to it.
    pub client_id: Option<String>,
    pub subject: Subject,
}

/// As whom a service account asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Subject {
    /// As itself: it sees what is shared with it.
    Itself,
    /// As this user of a domain that is delegated to it.
    User(String),
    /// Each calendar as the user that it is named for: its remote id.
    EachCalendar,
}

/// The key of a secret by which [`Subject`] is told: a user's address, or `*`.
const SUBJECT: &str = "sub";
const EACH_CALENDAR: &str = "*";

/// Why something is no secret. Safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSecret(String);

impl InvalidSecret {
    /// The shapes there are.
    pub const HINT: &str = "Pass one of: {\"client_id\": ..., \"client_secret\": ..., \"refresh_token\": ...} or Google's \
         authorized_user file; a service account's key file as downloaded, with \"sub\" (a user's address, or \"*\") \
         where a domain is delegated to it; {\"token\": ...}; {\"username\": ..., \"password\": ...}; or {\"file\": ...}, a \
         file on the server that holds one of these.";
}

fn invalid<T>(problem: impl Into<String>) -> Result<T, InvalidSecret> {
    Err(InvalidSecret(problem.into()))
}

/// The longest that goes into a header or the form of a token request, in bytes: a token, a user's name, a password. Google's
/// access tokens have 2,048 at most, its refresh tokens 512.
pub const LONGEST_TOKEN: usize = 8 * 1024;
/// An id, an address, a client's secret.
const LONGEST_ID: usize = 1024;
/// The PEM of an RSA key of 4,096 bits has about 3,300.
const LONGEST_PRIVATE_KEY: usize = 16 * 1024;

const OAUTH_KEYS: [&str; 3] = ["client_id", "client_secret", "refresh_token"];
const ACCOUNT_KEYS: [&str; 3] = ["client_email", "private_key", SUBJECT];

impl Secret {
    /// Reads any shape. The error says which key is missing, misspelt, empty or of the wrong type.
    pub fn read(secret: &Value) -> Result<Self, InvalidSecret> {
        let Value::Object(keys) = secret else { return invalid("it is not a JSON object") };
        if keys.is_empty() {
            return Ok(Self::None);
        }
        let has = |key: &str| keys.contains_key(key);
        let kind = keys.get("type").and_then(Value::as_str);
        if kind == Some("service_account") || has("private_key") || has("client_email") {
            return read_service_account(
                Keys::of(keys, "a service account", &ACCOUNT_KEYS)?.needing(&["client_email", "private_key"])?,
            );
        }
        let read = if let Some(client) = keys.get("installed").or(keys.get("web")) {
            read_client_file(keys, client)
        } else if kind == Some("authorized_user") || OAUTH_KEYS.iter().any(|key| has(key)) {
            read_oauth_client(Keys::of(keys, "an OAuth client", &OAUTH_KEYS)?.needing(&OAUTH_KEYS)?)
        } else if has("token") {
            let keys = Keys::of(keys, "a bearer token", &["token"])?;
            Ok(Self::Bearer { token: keys.token("token", LONGEST_TOKEN)? })
        } else if has("username") || has("password") {
            let needed = ["username", "password"];
            let keys = Keys::of(keys, "a name and password", &needed)?.needing(&needed)?;
            Ok(Self::Basic { username: keys.user_name("username")?, password: keys.line("password")? })
        } else {
            let every = OAUTH_KEYS.into_iter().chain(ACCOUNT_KEYS).chain(["token", "username", "password"]);
            return match every.into_iter().find(|known| keys.keys().any(|key| is_like(key, known))) {
                Some(known) => invalid(format!("it has no \"{known}\", but a key that looks like it, misspelt")),
                None => invalid("it has none of the keys of any known shape"),
            };
        }?;
        match has(SUBJECT) {
            true => invalid("\"sub\" goes with a service account only"),
            false => Ok(read),
        }
    }

    /// The same in one form, which [`Self::read`] reads.
    pub fn to_json(&self) -> Value {
        match self {
            Self::None => json!({}),
            Self::OauthClient(client) => json!({
                "client_id": client.client_id,
                "client_secret": client.client_secret,
                "refresh_token": client.refresh_token,
            }),
            Self::ServiceAccount(account) => {
                let mut keys = Map::new();
                let subject = match &account.subject {
                    Subject::Itself => None,
                    Subject::User(user) => Some(user.as_str()),
                    Subject::EachCalendar => Some(EACH_CALENDAR),
                };
                for (key, value) in [
                    ("type", Some("service_account")),
                    ("client_email", Some(&account.client_email)),
                    ("private_key", Some(&account.private_key)),
                    ("private_key_id", account.private_key_id.as_deref()),
                    ("client_id", account.client_id.as_deref()),
                    (SUBJECT, subject),
                ] {
                    keys.extend(value.map(|value| (key.to_owned(), value.into())));
                }
                Value::Object(keys)
            }
            Self::Bearer { token } => json!({ "token": token }),
            Self::Basic { username, password } => json!({ "username": username, "password": password }),
        }
    }
}

impl Subject {
    /// As whom the calendar with this remote id is asked for; None: as the account itself.
    pub fn user_of<'a>(&'a self, remote_id: &'a str) -> Option<&'a str> {
        match self {
            Subject::Itself => None,
            Subject::User(user) => Some(user),
            Subject::EachCalendar => Some(remote_id),
        }
    }
}

fn read_oauth_client(keys: Keys) -> Result<Secret, InvalidSecret> {
    Ok(Secret::OauthClient(OauthClient {
        client_id: keys.token("client_id", LONGEST_ID)?,
        client_secret: keys.token("client_secret", LONGEST_ID)?,
        refresh_token: keys.token("refresh_token", LONGEST_TOKEN)?,
    }))
}

/// The file that Google's console gives for a client: `{"installed": {…}}` or `{"web": {…}}`. A refresh token it has
/// none: that is put beside it.
fn read_client_file(keys: &Map<String, Value>, client: &Value) -> Result<Secret, InvalidSecret> {
    let Value::Object(client) = client else { return invalid("its client is not a JSON object") };
    let mut merged = client.clone();
    if let Some(token) = keys.get("refresh_token") {
        merged.insert("refresh_token".to_owned(), token.clone());
    }
    // A misspelt one is to be found there, too.
    let misspelt = keys.keys().find(|key| is_like(key, "refresh_token"));
    merged.extend(misspelt.map(|key| (key.clone(), Value::Null)));
    read_oauth_client(Keys::of(&merged, "an OAuth client", &OAUTH_KEYS)?.needing(&OAUTH_KEYS)?)
}

fn read_service_account(keys: Keys) -> Result<Secret, InvalidSecret> {
    // Whoever carried the key through an environment variable has its line breaks as two characters.
    let private_key = keys.text("private_key", LONGEST_PRIVATE_KEY)?.replace("\\n", "\n");
    if !private_key.trim_start().starts_with("-----BEGIN PRIVATE KEY-----") {
        return invalid("its \"private_key\" is not a private key in PEM (-----BEGIN PRIVATE KEY-----)");
    }
    let subject = match keys.keys.contains_key(SUBJECT) {
        false => Subject::Itself,
        true => match keys.token(SUBJECT, LONGEST_ID)? {
            each if each == EACH_CALENDAR => Subject::EachCalendar,
            user if user.contains('@') => Subject::User(user),
            _ => return invalid("its \"sub\" is neither a user's address nor \"*\""),
        },
    };
    Ok(Secret::ServiceAccount(ServiceAccount {
        client_email: keys.token("client_email", LONGEST_ID)?,
        private_key,
        private_key_id: keys.optional("private_key_id")?,
        client_id: keys.optional("client_id")?,
        subject,
    }))
}

/// The keys of an object that is to be of a certain shape.
struct Keys<'a> {
    keys: &'a Map<String, Value>,
    shape: &'static str,
}

impl<'a> Keys<'a> {
    /// Keys that no shape knows are left alone (Google's files have some, and may get more), unless one looks like a
    /// known key misspelt: left alone, a "subject" would quietly be no subject.
    fn of(keys: &'a Map<String, Value>, shape: &'static str, known: &[&str]) -> Result<Self, InvalidSecret> {
        let misspelt = known.iter().find(|known| {
            !keys.contains_key(**known)
                && keys.keys().any(|key| !HARMLESS.contains(&key.as_str()) && is_like(key, known))
        });
        match misspelt {
            Some(known) => invalid(format!("{shape} has \"{known}\"; here is a key that looks like it, misspelt")),
            None => Ok(Keys { keys, shape }),
        }
    }

    /// All of these must be there: whoever lacks several is told at once.
    fn needing(self, needed: &[&str]) -> Result<Self, InvalidSecret> {
        let missing: Vec<String> =
            needed.iter().filter(|key| !self.keys.contains_key(**key)).map(|key| format!("\"{key}\"")).collect();
        match missing.split_last() {
            None => Ok(self),
            Some((only, [])) => invalid(format!("{} needs {only}, which is missing", self.shape)),
            Some((last, others)) => {
                invalid(format!("{} needs {} and {last}, which are missing", self.shape, others.join(", ")))
            }
        }
    }

    /// Of `longest` bytes at most: it is copied and searched for with each request.
    fn text(&self, key: &str, longest: usize) -> Result<&'a str, InvalidSecret> {
        match self.keys.get(key) {
            None => invalid(format!("{} needs \"{key}\", which is missing", self.shape)),
            Some(Value::String(text)) if text.len() > longest => {
                invalid(format!("its \"{key}\" is too long: {longest} bytes at most"))
            }
            Some(Value::String(text)) if text.trim().is_empty() => invalid(format!("its \"{key}\" is empty")),
            Some(Value::String(text)) => Ok(text),
            Some(_) => invalid(format!("its \"{key}\" is not a string")),
        }
    }

    /// On one line: it goes into an HTTP header.
    fn line(&self, key: &str) -> Result<String, InvalidSecret> {
        let text = self.text(key, LONGEST_TOKEN)?;
        match text.chars().any(char::is_control) {
            true => invalid(format!("its \"{key}\" has a line break or another control character in it")),
            false => Ok(text.to_owned()),
        }
    }

    /// Visible ASCII, as all that Google makes.
    fn token(&self, key: &str, longest: usize) -> Result<String, InvalidSecret> {
        let text = self.text(key, longest)?;
        match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(text.to_owned()),
            false => invalid(format!("its \"{key}\" has white space or letters in it that no such key has")),
        }
    }

    /// RFC 7617 §2: a colon would end it.
    fn user_name(&self, key: &str) -> Result<String, InvalidSecret> {
        let name = self.line(key)?;
        match name.contains(':') {
            true => invalid(format!("its \"{key}\" has a colon in it")),
            false => Ok(name),
        }
    }

    fn optional(&self, key: &str) -> Result<Option<String>, InvalidSecret> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.token(key, LONGEST_ID).map(Some),
        }
    }
}

/// Keys of Google's own files that look like others.
const HARMLESS: [&str; 4] = ["private_key_id", "client_id", "token_uri", "token"];

/// Whether `key` is `known` with other separators or case, up to two letters wrong, or by a name that people use.
fn is_like(key: &str, known: &str) -> bool {
    const ALSO_CALLED: [(&str, &str); 6] = [
        ("subject", SUBJECT),
        ("email", "client_email"),
        ("key", "private_key"),
        ("accesstoken", "token"),
        ("user", "username"),
        ("secret", "client_secret"),
    ];
    let plain = |text: &str| -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase()).collect()
    };
    if key == known || key.len() > 64 {
        return false;
    }
    let (key, wanted) = (plain(key), plain(known));
    let also = ALSO_CALLED.iter().any(|(name, meant)| *meant == known && name.as_bytes() == key);
    also || key == wanted || (wanted.len() > 5 && distance(&key, &wanted) <= 2)
}

/// How many letters must be added, taken away or changed (Levenshtein).
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no secret",
            Self::OauthClient(_) => "an OAuth client",
            Self::ServiceAccount(_) => "a service account",
            Self::Bearer { .. } => "a bearer token",
            Self::Basic { .. } => "a name and password",
        })
    }
}

impl fmt::Debug for OauthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthClient").finish_non_exhaustive()
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").finish_non_exhaustive()
    }
}
