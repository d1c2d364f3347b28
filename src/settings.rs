//! The settings, `calsync.*`, each with its unit, range and who may set it.
//!
//! What widens trust (where requests go, what may be reached) takes a superuser or the configuration file. Helper
//! threads must not read settings: [`Settings::snapshot`] copies what a round of work needs.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use calsync_core::destination::Origin;
use calsync_core::providers::google::address::{self, Undeliverable};
use calsync_core::schedule::Polling;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_guard, pg_sys};

use crate::error::Error;

/// What a question about a window that the cache does not hold gets for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum OnUncovered {
    #[name = c"error"]
    Error,
    #[name = c"busy"]
    Busy,
    #[name = c"ignore"]
    Ignore,
}

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"*"));
static WORKER_ROLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(DEFAULT_WORKER_ROLE));
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(300);
static MAX_POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(1200);
static PUSH_POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(6 * 3600);
static FULL_SYNC_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(30 * DAY);
static MAX_CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(16);
static REQUESTS_PER_MINUTE: GucSetting<i32> = GucSetting::<i32>::new(600);
static PROJECT_REQUESTS_PER_MINUTE: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
static MAX_RESPONSE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(32 * 1024);
static HORIZON: GucSetting<i32> = GucSetting::<i32>::new(365 * DAY);
static RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * DAY);
static CHANGE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * DAY);
static MAX_STALENESS: GucSetting<i32> = GucSetting::<i32>::new(DAY);
static ON_UNCOVERED: GucSetting<OnUncovered> = GucSetting::<OnUncovered>::new(OnUncovered::Error);
static GOOGLE_API_URL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"https://www.googleapis.com/calendar/v3"));
static GOOGLE_TOKEN_URL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"https://oauth2.googleapis.com/token"));
static WEBHOOK_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"calsync.key"));
static ALLOW_PRIVATE_NETWORK: GucSetting<bool> = GucSetting::<bool>::new(false);

/// The role that CREATE EXTENSION makes for it.
pub const DEFAULT_WORKER_ROLE: &CStr = c"calsync_worker";

const DAY: i32 = 86_400;
/// The most that `calsync.horizon` and `calsync.retention` can be set to.
pub const LONGEST_REACH_IN_DAYS: u64 = 20 * 365;
const LONGEST_REACH: i32 = LONGEST_REACH_IN_DAYS as i32 * DAY;

/// Announces the settings to Postgres; once, when the library is loaded.
pub fn define() {
    define_worker();
    define_network();
    define_answers();
    // A misspelt setting is told, not silently kept.
    // SAFETY: a plain call with a constant string, at library load.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"calsync".as_ptr()) };
}

fn define_worker() {
    use GucContext::Sighup;
    let none = GucFlags::empty();
    GucRegistry::define_bool_guc(
        c"calsync.enabled",
        c"Whether calendars are synced.",
        c"Off: neither the worker nor calsync_run() asks any provider; the cache goes on answering until it is stale.",
        &ENABLED,
        Sighup,
        none,
    );
    GucRegistry::define_string_guc(
        c"calsync.databases",
        c"Databases in which a worker may run, separated by commas.",
        c"'*': all that have the extension.",
        &DATABASES,
        Sighup,
        none,
    );
    GucRegistry::define_string_guc(
        c"calsync.worker_role",
        c"Role as which the worker connects.",
        c"A member of calsync_worker, with LOGIN. Takes effect when the worker next starts.",
        &WORKER_ROLE,
        Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    seconds(
        c"calsync.poll_interval",
        c"How often a calendar is polled in which something happens.",
        &POLL_INTERVAL,
        1,
        30 * DAY,
    );
    seconds(
        c"calsync.max_poll_interval",
        c"How often a calendar is polled in which nothing happens. Less than calsync.poll_interval: as often as that.",
        &MAX_POLL_INTERVAL,
        1,
        30 * DAY,
    );
    seconds(
        c"calsync.push_poll_interval",
        c"How often a calendar with a live push channel is polled.",
        &PUSH_POLL_INTERVAL,
        1,
        30 * DAY,
    );
    seconds(
        c"calsync.full_sync_interval",
        c"How often a calendar is listed in full although its sync token is good. 0: never.",
        &FULL_SYNC_INTERVAL,
        0,
        3650 * DAY,
    );
    GucRegistry::define_int_guc(
        c"calsync.max_concurrency",
        c"Requests in flight at once, for each worker.",
        c"",
        &MAX_CONCURRENCY,
        1,
        256,
        Sighup,
        none,
    );
    GucRegistry::define_int_guc(
        c"calsync.requests_per_minute",
        c"Requests a minute for each credential, and for all calendars without one together.",
        c"In any sliding minute, by all workers of the cluster; a tenth of it at once.",
        &REQUESTS_PER_MINUTE,
        1,
        1_000_000,
        Sighup,
        none,
    );
    GucRegistry::define_int_guc(
        c"calsync.project_requests_per_minute",
        c"Requests a minute for all credentials together.",
        c"In any sliding minute, by all workers of the cluster; a tenth of it at once.",
        &PROJECT_REQUESTS_PER_MINUTE,
        1,
        1_000_000,
        Sighup,
        none,
    );
}

fn define_network() {
    use GucContext::{Sighup, Suset};
    for (name, text, setting) in [
        (c"calsync.connect_timeout", c"How long connecting to a provider may take.", &CONNECT_TIMEOUT),
        (c"calsync.request_timeout", c"How long a provider's answer may take as a whole.", &REQUEST_TIMEOUT),
    ] {
        GucRegistry::define_int_guc(name, text, c"", setting, 100, 600_000, Sighup, GucFlags::UNIT_MS);
    }
    GucRegistry::define_int_guc(
        c"calsync.max_response_size",
        c"Larger answers of a provider are refused.",
        c"",
        &MAX_RESPONSE_SIZE,
        64,
        1024 * 1024,
        Sighup,
        GucFlags::UNIT_KB,
    );
    for (name, text, setting) in [
        (c"calsync.google_api_url", c"Where the Google Calendar API is.", &GOOGLE_API_URL),
        (
            c"calsync.google_token_url",
            c"Where Google's access tokens come from. Secrets are sent there.",
            &GOOGLE_TOKEN_URL,
        ),
    ] {
        DEFINING.store(true, Ordering::Relaxed);
        // SAFETY: the hook cannot unwind into Postgres.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                name,
                text,
                c"https only, but for loopback with calsync.allow_private_network.",
                setting,
                Sighup,
                GucFlags::SUPERUSER_ONLY,
                Some(check_url),
                None,
                None,
            );
        }
        DEFINING.store(false, Ordering::Relaxed);
    }
    for (name, text, setting) in [
        (
            c"calsync.webhook_url",
            c"Where providers send push notifications: an https URL whose requests reach calsync_webhook(). Empty: no push.",
            &WEBHOOK_URL,
        ),
        (
            c"calsync.key_file",
            c"The file with the keys that seal secrets; relative to the data directory. Made at first use.",
            &KEY_FILE,
        ),
    ] {
        GucRegistry::define_string_guc(name, text, c"", setting, Sighup, GucFlags::SUPERUSER_ONLY);
    }
    GucRegistry::define_bool_guc(
        c"calsync.allow_private_network",
        c"Whether providers on this machine and in private networks may be reached, without TLS on loopback.",
        c"For tests. Metadata services and the like are never reached.",
        &ALLOW_PRIVATE_NETWORK,
        Suset,
        GucFlags::SUPERUSER_ONLY,
    );
}

/// While the URLs are announced Postgres shows the hook what the configuration file already holds. Refused then, a slip of
/// the pen would not stop the server but send it to the default, the real Google: it is taken, and no sync succeeds. A
/// parallel worker takes it over from its leader, whose query has nothing to do with it.
static DEFINING: AtomicBool = AtomicBool::new(false);

/// A URL that could never be asked is refused where it is set (SC008), not a round later.
#[pg_guard]
unsafe extern "C-unwind" fn check_url(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes the place of the new value, a string or null.
    let url = unsafe { (!(*new_value).is_null()).then(|| CStr::from_ptr(*new_value)) };
    let checked = Origin::read(&url.unwrap_or_default().to_string_lossy());
    // SAFETY: reads a variable of the backend.
    let copies = unsafe { pg_sys::InitializingParallelWorker };
    DEFINING.load(Ordering::Relaxed)
        || copies
        || checked.map_err(|refused| Error::from(refused).refuse_setting()).is_ok()
}

fn define_answers() {
    seconds(c"calsync.horizon", c"How far ahead of now occurrences are expanded.", &HORIZON, DAY, LONGEST_REACH);
    seconds(c"calsync.retention", c"How far back from now occurrences are kept.", &RETENTION, 0, LONGEST_REACH);
    seconds(c"calsync.change_retention", c"How long the change feed is kept.", &CHANGE_RETENTION, 60, 3650 * DAY);
    GucRegistry::define_int_guc(
        c"calsync.max_staleness",
        c"How old a calendar's last sync may be before answers about it are refused (SC003).",
        c"Calendars are polled at least twice within what the configuration says.",
        &MAX_STALENESS,
        1,
        3650 * DAY,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_enum_guc(
        c"calsync.on_uncovered",
        c"What a question gets that the cache cannot answer: error, busy, or ignore.",
        c"ignore answers from what is there, and may say \"free\" out of ignorance.",
        &ON_UNCOVERED,
        GucContext::Userset,
        GucFlags::default(),
    );
}

fn seconds(
    name: &'static std::ffi::CStr,
    text: &'static std::ffi::CStr,
    setting: &'static GucSetting<i32>,
    min: i32,
    max: i32,
) {
    GucRegistry::define_int_guc(name, text, c"", setting, min, max, GucContext::Sighup, GucFlags::UNIT_S);
}

/// What a round of syncing needs to know, copied: safe to read anywhere.
#[derive(Debug, Clone)]
pub struct Settings {
    pub enabled: bool,
    pub polling: Polling,
    pub push_poll_interval: Duration,
    /// None: never.
    pub full_sync_interval: Option<Duration>,
    pub max_concurrency: usize,
    pub requests_per_minute: u32,
    pub project_requests_per_minute: u32,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// In bytes.
    pub max_response_size: u64,
    pub google_api_url: String,
    pub google_token_url: String,
    pub webhook: Webhook,
    pub allow_private_network: bool,
}

/// Where notifications shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Webhook {
    /// No push.
    None,
    /// What is set is no address that a provider would deliver to.
    Unusable(Undeliverable),
    Address(String),
}

/// How much of time is expanded.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub horizon: Duration,
    pub retention: Duration,
}

impl Settings {
    /// Main thread only.
    pub fn snapshot() -> Self {
        let seconds = |setting: &GucSetting<i32>| Duration::from_secs(setting.get().max(0) as u64);
        let millis = |setting: &GucSetting<i32>| Duration::from_millis(setting.get().max(0) as u64);
        Settings {
            enabled: ENABLED.get(),
            polling: Polling { shortest: seconds(&POLL_INTERVAL), longest: seconds(&MAX_POLL_INTERVAL) },
            push_poll_interval: seconds(&PUSH_POLL_INTERVAL),
            full_sync_interval: Some(seconds(&FULL_SYNC_INTERVAL)).filter(|interval| !interval.is_zero()),
            max_concurrency: MAX_CONCURRENCY.get().max(1) as usize,
            requests_per_minute: REQUESTS_PER_MINUTE.get().max(1) as u32,
            project_requests_per_minute: PROJECT_REQUESTS_PER_MINUTE.get().max(1) as u32,
            connect_timeout: millis(&CONNECT_TIMEOUT),
            request_timeout: millis(&REQUEST_TIMEOUT),
            max_response_size: MAX_RESPONSE_SIZE.get().max(1) as u64 * 1024,
            google_api_url: text(&GOOGLE_API_URL),
            google_token_url: text(&GOOGLE_TOKEN_URL),
            webhook: webhook(),
            allow_private_network: ALLOW_PRIVATE_NETWORK.get(),
        }
    }
}

/// `calsync.webhook_url`, checked.
pub fn webhook() -> Webhook {
    let url = text(&WEBHOOK_URL);
    if url.is_empty() {
        return Webhook::None;
    }
    match address::check(&url, ALLOW_PRIVATE_NETWORK.get()) {
        Ok(()) => Webhook::Address(url),
        Err(why) => Webhook::Unusable(why),
    }
}

pub fn window() -> Window {
    Window {
        horizon: Duration::from_secs(HORIZON.get().max(0) as u64),
        retention: Duration::from_secs(RETENTION.get().max(0) as u64),
    }
}

pub fn change_retention() -> Duration {
    Duration::from_secs(CHANGE_RETENTION.get().max(0) as u64)
}

pub fn enabled() -> bool {
    ENABLED.get()
}

/// In seconds.
pub fn max_staleness() -> i64 {
    i64::from(MAX_STALENESS.get())
}

pub fn on_uncovered() -> OnUncovered {
    ON_UNCOVERED.get()
}

/// As it was set; empty: none.
pub fn key_file() -> String {
    text(&KEY_FILE)
}

/// As whom the worker connects.
pub fn worker_role() -> CString {
    WORKER_ROLE.get().filter(|role| !role.is_empty()).unwrap_or_else(|| DEFAULT_WORKER_ROLE.to_owned())
}

/// Whether a worker may run in this database.
pub fn serves_database(name: &str) -> bool {
    text(&DATABASES).split(',').map(str::trim).any(|entry| entry == "*" || entry == name)
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}
