//! A subscription's own wishes: the `options` jsonb of `calsync_subscribe`.
//!
//! Everything is optional; a key nobody knows is an error rather than a silent nothing, for a misspelt
//! `"max_stalenes"` would otherwise promise freshness that is not checked.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::busy::BusyStatus;

/// The keys of `options`, each with its default and what it means, for documentation and hints.
pub const KNOWN: [(&str, &str, &str); 6] = [
    (
        "store",
        "\"details\"",
        "what is kept of an event: \"busy_only\", \"details\" or \"full\" (also the raw resource)",
    ),
    (
        "max_staleness",
        "null",
        "how old the last sync may be, e.g. \"15min\" or 900 (seconds); null: calsync.max_staleness",
    ),
    ("incremental", "true", "false: every sync lists the whole calendar instead of using sync tokens"),
    ("busy", "{}", "busy status for each step of the mapping, e.g. {\"tentative\": \"free\"}"),
    ("changes", "false", "true: what changes is written to calsync.change, for calsync_changes()"),
    ("notify", "false", "true: NOTIFY calsync_change, with the calendar as payload, when something changed"),
];

/// The steps of the mapping from event to busy status that `busy` may override, in their order of precedence, each
/// with its default and when it holds.
pub const KNOWN_BUSY: [(&str, BusyStatus, &str); 9] = [
    ("declined", BusyStatus::Free, "the calendar's owner has declined"),
    ("working_location", BusyStatus::Free, "an entry that says where somebody works (eventType workingLocation)"),
    ("birthday", BusyStatus::Free, "eventType birthday"),
    ("transparent", BusyStatus::Free, "shown as \"available\" (transparency transparent)"),
    ("out_of_office", BusyStatus::OutOfOffice, "eventType outOfOffice"),
    ("tentative", BusyStatus::Tentative, "the event's status or the owner's response is tentative"),
    ("needs_action", BusyStatus::Busy, "an invitation that the owner has not answered"),
    ("focus_time", BusyStatus::Busy, "eventType focusTime"),
    ("from_gmail", BusyStatus::Busy, "eventType fromGmail"),
];

/// Beyond this, a staleness limit is a slip of the keyboard; it also keeps clear of Postgres' interval arithmetic.
const LONGEST_STALENESS: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A subscription's `options`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub store: Store,
    /// How old the last successful sync may be before answers are refused; None: what the setting says.
    pub max_staleness: Option<Duration>,
    /// False: never ask with a sync token, every round is a full sync.
    pub incremental: bool,
    pub busy: BusyRules,
    /// True: changes are written to the change feed.
    pub changes: bool,
    /// True: a transaction that changes the calendar notifies.
    pub notify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: Store::default(),
            max_staleness: None,
            incremental: true,
            busy: BusyRules::default(),
            changes: false,
            notify: false,
        }
    }
}

/// What is kept of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Store {
    /// Ids, times, and what decides busy.
    BusyOnly,
    /// Also what a person would want to read: the columns of `calsync.event`.
    #[default]
    Details,
    /// Also the resource as the provider gave it.
    Full,
}

impl Store {
    pub const ALL: [Self; 3] = [Self::BusyOnly, Self::Details, Self::Full];

    /// The word for it in `options`.
    pub fn label(self) -> &'static str {
        match self {
            Self::BusyOnly => "busy_only",
            Self::Details => "details",
            Self::Full => "full",
        }
    }
}

/// Something in `options` that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid option \"{key}\": {reason}")]
pub struct InvalidOption {
    /// The key, nested ones as `busy.declined`; `options` where the whole is meant.
    pub key: String,
    pub reason: String,
    hint: String,
}

impl InvalidOption {
    fn new(key: impl Into<String>, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into(), hint: hint.into() }
    }

    /// What to write instead.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl Options {
    /// Reads `options`. A key whose value is null counts as absent.
    pub fn read(json: &Value) -> Result<Self, InvalidOption> {
        let Some(given) = json.as_object() else {
            return Err(InvalidOption::new("options", "it is not a JSON object", "Pass '{}' for the defaults."));
        };
        let mut options = Self::default();
        for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "store" => options.store = read_store(value)?,
                "max_staleness" => options.max_staleness = Some(read_staleness(value)?),
                "incremental" => options.incremental = read_bool(key, value)?,
                "busy" => options.busy = BusyRules::read(value)?,
                "changes" => options.changes = read_bool(key, value)?,
                "notify" => options.notify = read_bool(key, value)?,
                _ => return Err(unknown_key(key.clone(), KNOWN.iter().map(|known| known.0))),
            }
        }
        known_keys_only(given)?;
        Ok(options)
    }
}

/// Unknown keys are refused even where their value is null.
fn known_keys_only(given: &Map<String, Value>) -> Result<(), InvalidOption> {
    match given.keys().find(|key| KNOWN.iter().all(|known| known.0 != key.as_str())) {
        Some(key) => Err(unknown_key(key.clone(), KNOWN.iter().map(|known| known.0))),
        None => Ok(()),
    }
}

fn unknown_key<'a>(key: String, known: impl Iterator<Item = &'a str>) -> InvalidOption {
    let known: Vec<String> = known.map(|name| format!("\"{name}\"")).collect();
    InvalidOption::new(key, "there is no such option", format!("The options are {}.", known.join(", ")))
}

fn read_store(value: &Value) -> Result<Store, InvalidOption> {
    let wanted = value.as_str().unwrap_or_default();
    Store::ALL.into_iter().find(|store| store.label() == wanted).ok_or_else(|| {
        InvalidOption::new(
            "store",
            format!("{value} is none of its values"),
            "Use \"busy_only\", \"details\" or \"full\".",
        )
    })
}

fn read_bool(key: &str, value: &Value) -> Result<bool, InvalidOption> {
    value.as_bool().ok_or_else(|| {
        InvalidOption::new(key, format!("{value} is neither true nor false"), "Use true or false, without quotes.")
    })
}

fn read_staleness(value: &Value) -> Result<Duration, InvalidOption> {
    let invalid = |reason: String| {
        InvalidOption::new(
            "max_staleness",
            reason,
            "Use a text such as \"90s\", \"15min\", \"6h\", \"1d\", or a number of seconds.",
        )
    };
    let duration = match value {
        Value::Number(seconds) => seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        Value::String(text) => read_duration(text),
        _ => None,
    };
    match duration {
        None => Err(invalid(format!("{value} is not a length of time"))),
        Some(duration) if duration < Duration::from_millis(1) => {
            Err(invalid("it must be more than nothing".to_owned()))
        }
        Some(duration) if duration > LONGEST_STALENESS => Err(invalid(format!("{value} is more than a hundred years"))),
        Some(duration) => Ok(duration),
    }
}

/// A length of time as Postgres settings are written: a number and one of `ms`, `s`, `min`, `h`, `d`; without a unit,
/// seconds.
fn read_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds_a_unit = match unit.trim_start() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds_a_unit).ok()
}

/// What an event says about itself that decides whether it blocks its time, in the words of Google's event resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusyFacts<'a> {
    /// `confirmed` or `tentative`; a cancelled event never gets as far as this.
    pub status: &'a str,
    pub transparency: Option<&'a str>,
    pub event_type: Option<&'a str>,
    /// What the attendee who is the calendar itself has answered.
    pub self_response: Option<&'a str>,
}

impl BusyFacts<'_> {
    /// The key of the step that decides; None: nothing special, an ordinary event.
    ///
    /// The order is that of [`KNOWN_BUSY`]: declined, working location, birthday, transparent, out of office,
    /// tentative, needs action, focus time, from Gmail. Working locations and birthdays come before transparent
    /// because Google makes both transparent: the other way round their own rules would never be asked.
    pub fn step(&self) -> Option<&'static str> {
        let responded = |answer: &str| self.self_response == Some(answer);
        Some(match self.event_type.unwrap_or("default") {
            _ if responded("declined") => "declined",
            "workingLocation" => "working_location",
            "birthday" => "birthday",
            _ if self.transparency == Some("transparent") => "transparent",
            "outOfOffice" => "out_of_office",
            _ if self.status == "tentative" || responded("tentative") => "tentative",
            _ if responded("needsAction") => "needs_action",
            "focusTime" => "focus_time",
            "fromGmail" => "from_gmail",
            _ => return None,
        })
    }
}

/// The busy status for each step of the mapping. [`KNOWN_BUSY`] lists the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyRules {
    pub declined: BusyStatus,
    pub working_location: BusyStatus,
    pub birthday: BusyStatus,
    pub transparent: BusyStatus,
    pub out_of_office: BusyStatus,
    pub tentative: BusyStatus,
    pub needs_action: BusyStatus,
    pub focus_time: BusyStatus,
    pub from_gmail: BusyStatus,
}

impl Default for BusyRules {
    fn default() -> Self {
        let [
            declined,
            working_location,
            birthday,
            transparent,
            out_of_office,
            tentative,
            needs_action,
            focus_time,
            from_gmail,
        ] = KNOWN_BUSY.map(|known| known.1);
        Self {
            declined,
            working_location,
            birthday,
            transparent,
            out_of_office,
            tentative,
            needs_action,
            focus_time,
            from_gmail,
        }
    }
}

impl BusyRules {
    /// What this event makes of its time: the first step that holds decides, else it is busy.
    pub fn status(&self, facts: &BusyFacts<'_>) -> BusyStatus {
        facts.step().map_or(BusyStatus::Busy, |step| self.of(step))
    }

    /// What a step of [`KNOWN_BUSY`] gives.
    pub fn of(&self, step: &str) -> BusyStatus {
        let mut rules = *self;
        rules.rule(step).map_or(BusyStatus::Busy, |rule| *rule)
    }

    fn read(json: &Value) -> Result<Self, InvalidOption> {
        let Some(given) = json.as_object() else {
            return Err(InvalidOption::new(
                "busy",
                "it is not a JSON object",
                "Pass an object such as {\"tentative\": \"free\"}.",
            ));
        };
        let mut rules = Self::default();
        for (key, value) in given {
            let Some(rule) = rules.rule(key) else {
                return Err(unknown_key(format!("busy.{key}"), KNOWN_BUSY.iter().map(|known| known.0)));
            };
            if !value.is_null() {
                *rule = value.as_str().and_then(BusyStatus::from_label).ok_or_else(|| no_status(key, value))?;
            }
        }
        Ok(rules)
    }

    fn rule(&mut self, key: &str) -> Option<&mut BusyStatus> {
        Some(match key {
            "declined" => &mut self.declined,
            "working_location" => &mut self.working_location,
            "birthday" => &mut self.birthday,
            "transparent" => &mut self.transparent,
            "out_of_office" => &mut self.out_of_office,
            "tentative" => &mut self.tentative,
            "needs_action" => &mut self.needs_action,
            "focus_time" => &mut self.focus_time,
            "from_gmail" => &mut self.from_gmail,
            _ => return None,
        })
    }
}

fn no_status(key: &str, value: &Value) -> InvalidOption {
    let labels = BusyStatus::ALL.map(|status| format!("\"{}\"", status.label())).join(", ");
    InvalidOption::new(format!("busy.{key}"), format!("{value} is no busy status"), format!("Use one of {labels}."))
}
