//! Opening hours as JSON says them. Every refusal names the path of the element.

use chrono::{NaiveDate, TimeDelta};
use serde_json::{Map, Value};

use super::{Hours, Override};
use crate::invalid::Invalid;

const WEEKLY: &str =
    "Pass an array such as '[{\"days\": [\"mon\", \"tue\"], \"start\": \"09:00\", \"end\": \"17:00\"}]'.";
const OVERRIDES: &str = "Pass an array such as '[{\"date\": \"2026-12-24\", \"start\": \"09:00\", \"end\": \"12:00\"}, \
                         {\"from\": \"2026-12-25\", \"to\": \"2026-12-31\", \"closed\": true}]'.";
const TIME: &str = "Write it as \"09:00\" or \"09:00:00\"; \"24:00\" is the end of the day.";
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// An object, and where it stands.
type Located<'a> = (String, &'a Map<String, Value>);

pub(super) fn weekly(rules: &Value) -> Result<[Vec<Hours>; 7], Invalid> {
    let mut weekly: [Vec<Hours>; 7] = Default::default();
    for (path, rule) in objects(rules, "weekly", WEEKLY)? {
        known_keys(rule, &path, &["days", "start", "end"], WEEKLY)?;
        let days = rule.get("days").and_then(Value::as_array);
        let days = days.ok_or_else(|| Invalid::new(format!("{path}.days must be an array of days"), WEEKLY))?;
        let hours = hours(rule, &path)?;
        for (at, day) in days.iter().enumerate() {
            weekly[weekday(day, &format!("{path}.days[{at}]"))?].push(hours);
        }
    }
    for day in &mut weekly {
        day.sort_unstable();
        day.dedup();
    }
    Ok(weekly)
}

pub(super) fn overrides(overrides: &Value) -> Result<Vec<Override>, Invalid> {
    let objects = objects(overrides, "overrides", OVERRIDES)?;
    objects.into_iter().map(|(path, object)| one_override(object, &path)).collect()
}

fn one_override(object: &Map<String, Value>, path: &str) -> Result<Override, Invalid> {
    known_keys(object, path, &["date", "from", "to", "closed", "start", "end"], OVERRIDES)?;
    let (from, to) = match (object.get("date"), object.get("from"), object.get("to")) {
        (Some(day), None, None) => (date(day, &format!("{path}.date"))?, date(day, &format!("{path}.date"))?),
        (None, Some(from), Some(to)) => (date(from, &format!("{path}.from"))?, date(to, &format!("{path}.to"))?),
        _ => {
            let message = format!("{path} must have either \"date\", or \"from\" and \"to\"");
            return Err(Invalid::new(message, OVERRIDES));
        }
    };
    if to < from {
        return Err(Invalid::new(format!("{path}.to is before {path}.from"), "Both days are included: from <= to."));
    }
    let says_hours = object.contains_key("start") || object.contains_key("end");
    let hours = match (object.get("closed"), says_hours) {
        (None, true) => Some(hours(object, path)?),
        (Some(Value::Bool(true)), false) => None,
        (Some(Value::Bool(true)) | None, _) => {
            let message = format!("{path} must have either \"closed\", or \"start\" and \"end\"");
            return Err(Invalid::new(message, OVERRIDES));
        }
        (Some(_), _) => {
            let hint = "An override with \"start\" and \"end\" is open; leave \"closed\" out.";
            return Err(Invalid::new(format!("{path}.closed must be true"), hint));
        }
    };
    Ok(Override { from, to, hours })
}

/// The elements of an array of objects, each with its path.
fn objects<'a>(value: &'a Value, name: &str, shape: &str) -> Result<Vec<Located<'a>>, Invalid> {
    let elements = value.as_array().ok_or_else(|| Invalid::new(format!("{name} must be an array"), shape))?;
    let objects = elements.iter().enumerate().map(|(at, element)| {
        let path = format!("{name}[{at}]");
        match element.as_object() {
            Some(object) => Ok((path, object)),
            None => Err(Invalid::new(format!("{path} must be an object"), shape)),
        }
    });
    objects.collect()
}

fn known_keys(object: &Map<String, Value>, path: &str, known: &[&str], shape: &str) -> Result<(), Invalid> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Invalid::new(format!("{path} has an unknown key \"{key}\""), shape)),
        None => Ok(()),
    }
}

fn hours(object: &Map<String, Value>, path: &str) -> Result<Hours, Invalid> {
    let start = clock(object.get("start"), &format!("{path}.start"))?;
    let end = clock(object.get("end"), &format!("{path}.end"))?;
    let day = TimeDelta::days(1);
    if start == day {
        return Err(Invalid::new(format!("{path}.start must be before \"24:00\""), TIME));
    }
    if start == end {
        let hint =
            "For the whole day say \"00:00\" to \"24:00\"; for none leave the element out, or say \"closed\": true.";
        return Err(Invalid::new(format!("{path}.end must not be the same as {path}.start"), hint));
    }
    // Past midnight: until that time of the next day.
    Ok(Hours { start, end: if end < start { end + day } else { end } })
}

/// Time since midnight.
fn clock(value: Option<&Value>, path: &str) -> Result<TimeDelta, Invalid> {
    let read = |text: &str| {
        let mut parts = text.split(':').map(|part| match part.as_bytes() {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
            _ => None,
        });
        let (hours, minutes) = (parts.next()??, parts.next()??);
        let seconds = parts.next().unwrap_or(Some(0))?;
        let time = TimeDelta::seconds(hours * 3600 + minutes * 60 + seconds);
        (parts.next().is_none() && minutes < 60 && seconds < 60 && time <= TimeDelta::days(1)).then_some(time)
    };
    let invalid = || Invalid::new(format!("{path} must be a time of the day"), TIME);
    value.and_then(Value::as_str).and_then(read).ok_or_else(invalid)
}

fn date(value: &Value, path: &str) -> Result<NaiveDate, Invalid> {
    // chrono also reads what is not of this form: signs, spaces, years of another length.
    let of_this_form = |text: &&str| text.len() == 10 && text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    let read = value.as_str().filter(of_this_form);
    let read = read.and_then(|text| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok());
    read.ok_or_else(|| Invalid::new(format!("{path} must be a date"), "Write it as \"2026-12-24\"."))
}

/// From Monday, 0.
fn weekday(value: &Value, path: &str) -> Result<usize, Invalid> {
    let name = value.as_str().unwrap_or_default().to_lowercase();
    let found = DAYS.iter().position(|day| *day == name || day[..3] == name);
    found.ok_or_else(|| {
        let hint = "Days are \"monday\" to \"sunday\", or \"mon\" to \"sun\"; numbers are not taken, for not everybody \
                    counts them from the same day.";
        Invalid::new(format!("{path} must be a day of the week"), hint)
    })
}
