//! Every error that a user can meet, and the one place where it becomes an SQLSTATE.
//!
//! Class SC is pg_calsync's own; where Postgres has a code for the case, that one is used. DETAIL says why, HINT the
//! exact fix. API functions end in [`Report::report`]; nothing below them raises by itself.

mod unanswered;

use std::ffi::c_int;

use calsync_core::delta::InvalidDelta;
use calsync_core::destination::Refused;
use calsync_core::invalid::{Invalid, Refusal};
use calsync_core::options::InvalidOption;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, spi};

use crate::seal::trouble::{Place, Trouble};
use crate::sqlstate::{give_next_error_the_sqlstate, packed};
use crate::store::owner;

pub use unanswered::{NotCovered, Remedy, Stale};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("calendar \"{calendar}\" is unknown")]
    UnknownCalendar { calendar: String },
    #[error("calendar name \"{calendar}\" is ambiguous")]
    AmbiguousCalendar { calendar: String, owners: Vec<String> },
    #[error("calendar \"{calendar}\" is not covered for {wanted}")]
    NotCovered { calendar: String, wanted: String, why: Box<NotCovered> },
    #[error("calendar \"{calendar}\" is stale")]
    Stale { calendar: String, why: Stale },
    /// Several calendars of one question, each with its own reason.
    #[error("{} of {asked} calendars cannot answer: {}", each.len(), listed(each.iter().filter_map(Error::calendar)))]
    Several { each: Vec<Error>, asked: usize },
    #[error("sync token conflict for calendar \"{calendar}\"")]
    TokenConflict { calendar: String, why: TokenConflict },
    #[error("{0}")]
    InvalidDelta(#[from] InvalidDelta),
    #[error("{message}")]
    Credential { message: String, detail: String, hint: String },
    #[error("{0}")]
    KeyFile(Trouble),
    #[error("refused URL")]
    RefusedUrl(#[from] Refused),
    #[error("{0}")]
    InvalidOption(#[from] InvalidOption),
    #[error("{message}")]
    Argument { code: PgSqlErrorCode, message: String, detail: String, hint: String },
    /// Ours, not the user's.
    #[error("internal error: {0}")]
    Spi(#[from] spi::SpiError),
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::argument(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, invalid.to_string(), invalid.hint())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(invalid) => invalid.into(),
            Refusal::TooMuch(too_much) => Self::too_much(too_much.to_string(), too_much.hint()),
        }
    }
}

/// Why a delta does not fit what the cache holds.
#[derive(Debug, Clone)]
pub enum TokenConflict {
    /// The delta starts from another token than the cache stands at.
    Expected { expected: Option<String>, stands_at: Option<String> },
    /// The page does not follow the pages that are staged.
    Page { given: String, awaited: Option<String> },
    /// The staged pages are so old that nobody can mean to continue them.
    Abandoned { since: String },
    /// The round under way began with another token.
    Round { expected: Option<String>, began_with: Option<String> },
}

/// `message` with DETAIL, HINT, and what SQLSTATE it is.
struct Parts {
    sqlstate: Sqlstate,
    detail: String,
    hint: String,
}

enum Sqlstate {
    Ours(&'static [u8; 5]),
    Postgres(PgSqlErrorCode),
}

impl Error {
    /// An argument that Postgres has a code for.
    pub fn argument(code: PgSqlErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Argument { code, message: message.into(), detail: String::new(), hint: hint.into() }
    }

    /// What only the owner may do, asked for by a role that the calendar is shared with.
    pub fn not_the_owner(calendar: &str, owner: &str) -> Self {
        Error::Argument {
            code: PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            message: format!("calendar \"{calendar}\" belongs to role \"{owner}\""),
            detail: "It is shared with this role, which may ask about it.".into(),
            hint: format!("Have a member of role \"{owner}\" do it, or subscribe a calendar of your own."),
        }
    }

    /// More than we are willing to compute or to keep in memory.
    pub fn too_much(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::argument(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message, hint)
    }

    /// The error for calendars that cannot answer, at least one: its own for one, one that names all for several.
    pub fn refused(mut each: Vec<Error>, asked: usize) -> Self {
        match each.pop() {
            Some(only) if each.is_empty() => only,
            Some(last) => {
                each.push(last);
                Error::Several { each, asked }
            }
            None => Error::Internal("nobody refused".to_owned()),
        }
    }

    /// A credential that is not good, or that cannot be sealed or opened.
    pub fn credential(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Credential { message: message.into(), detail: detail.into(), hint: hint.into() }
    }

    /// Message, detail and hint in one text, for `last_error`.
    pub fn told(&self) -> String {
        let Parts { detail, hint, .. } = self.parts();
        let parts = [self.to_string(), detail, hint];
        let said = parts.iter().map(|part| part.trim_end_matches('.')).filter(|part| !part.is_empty());
        said.collect::<Vec<_>>().join(". ")
    }

    /// The calendar that cannot answer.
    fn calendar(&self) -> Option<&str> {
        match self {
            Error::UnknownCalendar { calendar }
            | Error::AmbiguousCalendar { calendar, .. }
            | Error::NotCovered { calendar, .. }
            | Error::Stale { calendar, .. } => Some(calendar),
            _ => None,
        }
    }

    /// A NULL where a value must be: an answer about nothing would read as "free".
    pub fn null_argument(name: &str) -> Self {
        Self::argument(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{name} must not be null"),
            format!("Pass a value for {name}; where a null means \"nothing to ask\", leave the call out."),
        )
    }

    /// A NULL in an array that must have none.
    pub fn null_element(name: &str) -> Self {
        Self::argument(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{name} must not contain null"),
            format!("Leave the nulls out, as with array_remove({name}, NULL)."),
        )
    }

    fn parts(&self) -> Parts {
        let ours = |code, detail: String, hint: String| Parts { sqlstate: Sqlstate::Ours(code), detail, hint };
        match self {
            Error::UnknownCalendar { calendar } => ours(
                b"SC001",
                "No subscription of that name belongs to this role, or to a role that it is a member of.".into(),
                format!(
                    "SELECT calsync_subscribe('{}'); calsync.status has the names, calsync.shares what is offered to it.",
                    literal(calendar)
                ),
            ),
            Error::AmbiguousCalendar { owners, .. } => Parts {
                sqlstate: Sqlstate::Postgres(PgSqlErrorCode::ERRCODE_AMBIGUOUS_ALIAS),
                detail: format!("Each of these roles has one that this role may see: {}.", owners.join(", ")),
                hint:
                    "SET ROLE to the one that is meant, give the calendars different names, or refuse what is shared: \
                       SELECT calsync_unshare(calendar, role, owner)."
                        .into(),
            },
            Error::NotCovered { why, calendar, .. } => {
                let (detail, hint) = why.detail_and_hint(calendar);
                ours(b"SC002", detail, hint)
            }
            Error::Stale { why, calendar } => {
                let (detail, hint) = why.detail_and_hint(calendar);
                ours(b"SC003", detail, hint)
            }
            Error::Several { each, .. } => several(each),
            Error::TokenConflict { why, calendar } => {
                let (detail, hint) = why.detail_and_hint(calendar);
                ours(b"SC004", detail, hint)
            }
            Error::InvalidDelta(invalid) => ours(
                b"SC005",
                "It was refused as a whole: the calendar is as it was.".into(),
                invalid.hint().to_owned(),
            ),
            Error::Credential { detail, hint, .. } => ours(b"SC006", detail.clone(), hint.clone()),
            Error::KeyFile(trouble) => ours(b"SC006", trouble.detail(Place::Unnamed), trouble.hint(Place::Unnamed)),
            Error::RefusedUrl(refused) => {
                ours(b"SC008", format!("The URL is refused: {refused}."), refused.hint().into())
            }
            Error::InvalidOption(invalid) => Parts {
                sqlstate: Sqlstate::Postgres(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE),
                detail: String::new(),
                hint: invalid.hint().to_owned(),
            },
            Error::Argument { code, detail, hint, .. } => {
                Parts { sqlstate: Sqlstate::Postgres(*code), detail: detail.clone(), hint: hint.clone() }
            }
            Error::Spi(_) | Error::Internal(_) => Parts {
                sqlstate: Sqlstate::Postgres(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR),
                detail: String::new(),
                hint: "This is a bug in pg_calsync: please report it with the server log.".into(),
            },
        }
    }

    /// For a setting's check hook, which must not raise: why the value is refused, in Postgres' own message.
    pub fn refuse_setting(&self) {
        let Parts { sqlstate, detail, hint } = self.parts();
        let code = match sqlstate {
            Sqlstate::Postgres(code) => code as c_int,
            Sqlstate::Ours(code) => packed(code),
        };
        let copied = |text: &str| std::ffi::CString::new(text).ok();
        // SAFETY: check hooks run on the backend's only Postgres thread; the texts are copied into memory that lives as
        // long as the statement, or the reading of the file, whose message they become.
        unsafe {
            pg_sys::GUC_check_errcode(code);
            pg_sys::GUC_check_errdetail_string =
                copied(&detail).map_or(std::ptr::null_mut(), |text| pg_sys::pstrdup(text.as_ptr()));
            pg_sys::GUC_check_errhint_string =
                copied(&hint).map_or(std::ptr::null_mut(), |text| pg_sys::pstrdup(text.as_ptr()));
        }
    }

    /// Raises it as a Postgres ERROR. Only the API functions do, as their last act.
    fn raise(&self) -> ! {
        let Parts { sqlstate, mut detail, mut hint } = self.parts();
        let mut message = self.to_string();
        // What is kept in a table names no file; who gets this may see its name, or not.
        if let Error::KeyFile(trouble) = self {
            let place = owner::place_for_the_caller();
            (message, detail, hint) = (trouble.message(place), trouble.detail(place), trouble.hint(place));
        }
        let code = match sqlstate {
            Sqlstate::Postgres(code) => code,
            Sqlstate::Ours(code) => {
                give_next_error_the_sqlstate(code);
                PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION
            }
        };
        let mut report = ErrorReport::new(code, message, "");
        if !detail.is_empty() {
            report = report.set_detail(detail);
        }
        if !hint.is_empty() {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

impl TokenConflict {
    fn detail_and_hint(&self, calendar: &str) -> (String, String) {
        let token =
            |token: &Option<String>| token.as_ref().map_or("none (a full sync)".to_owned(), |t| format!("\"{t}\""));
        match self {
            TokenConflict::Expected { expected, stands_at } => (
                format!(
                    "The delta was fetched with token {}, the cache stands at {}. Nothing was changed.",
                    token(expected),
                    stands_at
                        .as_ref()
                        .map_or("none (never synced, or to be synced in full)".to_owned(), |t| format!("\"{t}\""))
                ),
                match stands_at {
                    Some(_) => "Somebody else moved it: fetch again from the token the cache stands at.".into(),
                    None => "List the calendar in full and apply that without expectedSyncToken.".into(),
                },
            ),
            TokenConflict::Page { given, awaited } => (
                match awaited {
                    Some(awaited) => format!("The page was fetched with \"{given}\", awaited is \"{awaited}\"."),
                    None => format!("The page was fetched with \"{given}\", but no round is open."),
                },
                "Send the pages of a round in order, or begin it anew with \"pageToken\": null.".into(),
            ),
            TokenConflict::Abandoned { since } => (
                format!("Pages of an earlier round are staged since {since}, and this one does not say that it follows."),
                "Say which page this is: \"pageToken\": null for the first of a round, or the token it was fetched with."
                    .into(),
            ),
            TokenConflict::Round { expected, began_with } => (
                format!(
                    "The pages that are staged were fetched with token {}, this one with {}.",
                    token(began_with),
                    token(expected)
                ),
                format!(
                    "Begin the round anew with \"pageToken\": null, or SELECT calsync_resync('{}') to drop what is \
                     staged.",
                    literal(calendar)
                ),
            ),
        }
    }
}

/// So many of several calendars are named in the message; the others are counted.
const NAMED: usize = 20;
/// So many are named, each with its reason, in DETAIL.
const DETAILED: usize = 1_000;

/// `"a", "b" and 3 more`
fn listed<'a>(calendars: impl Iterator<Item = &'a str>) -> String {
    let mut quoted: Vec<String> = calendars.map(|calendar| format!("\"{calendar}\"")).collect();
    let more = quoted.len().saturating_sub(NAMED);
    quoted.truncate(NAMED);
    match more {
        0 => quoted.join(", "),
        more => format!("{} and {more} more", quoted.join(", ")),
    }
}

/// The SQLSTATE is that of what must be mended first: an ambiguous name, then an unknown one, then what is not covered,
/// then what is stale.
fn several(each: &[Error]) -> Parts {
    let sqlstate = if each.iter().any(|error| matches!(error, Error::AmbiguousCalendar { .. })) {
        Sqlstate::Postgres(PgSqlErrorCode::ERRCODE_AMBIGUOUS_ALIAS)
    } else if each.iter().any(|error| matches!(error, Error::UnknownCalendar { .. })) {
        Sqlstate::Ours(b"SC001")
    } else if each.iter().any(|error| matches!(error, Error::NotCovered { .. })) {
        Sqlstate::Ours(b"SC002")
    } else {
        Sqlstate::Ours(b"SC003")
    };
    let mut reasons: Vec<String> =
        each.iter().take(DETAILED).map(|error| format!("{error}: {}", error.parts().detail)).collect();
    if each.len() > DETAILED {
        reasons.push(format!("And {} more.", each.len() - DETAILED));
    }
    let names = each.iter().take(NAMED).filter_map(Error::calendar).map(|name| format!("'{}'", literal(name)));
    let them = match each.len() {
        0..=NAMED => format!("ARRAY[{}]", names.collect::<Vec<_>>().join(", ")),
        _ => "calendars".to_owned(),
    };
    Parts {
        sqlstate,
        detail: reasons.join("\n"),
        hint: format!(
            "SELECT * FROM calsync_coverage({them}); asked about one of them alone, the error tells its fix."
        ),
    }
}

/// For use between single quotes.
pub fn literal(text: &str) -> String {
    text.replace('\'', "''")
}

/// What ends every API function: the value, or the error raised.
pub trait Report<T> {
    fn report(self) -> T;
}

impl<T> Report<T> for Result<T, Error> {
    fn report(self) -> T {
        self.unwrap_or_else(|error| error.raise())
    }
}
