//! docs/time.md is true: every block marked *series* is expanded, and takes place as the page says.

mod time_support;

use std::path::Path;

use calsync_core::event::{OriginalStart, Span};
use calsync_core::options::KNOWN_BUSY;
use chrono::TimeDelta;
use time_support::{Recurring, at, between, days, meeting, on_the_wall, utc};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/time.md");
    std::fs::read_to_string(path).expect("docs/time.md")
}

/// One block: an event, and what the page says of it.
#[derive(Default)]
struct Example {
    event: Option<Recurring>,
    starts: Vec<String>,
    problem: Option<String>,
}

impl Example {
    fn read(block: &str) -> Self {
        let mut lines = block.lines().filter(|line| !line.is_empty());
        let head = lines.next().expect("an event");
        let mut example = Self { event: Some(event(head)), ..Self::default() };
        for line in lines {
            example.line(line, head);
        }
        example
    }

    fn line(&mut self, line: &str, head: &str) {
        let zone = head.split([' ', ',']).find(|word| word.contains('/')).unwrap_or("UTC");
        if let Some(starts) = line.strip_prefix("= ") {
            self.starts = starts.split(", ").map(str::to_owned).collect();
        } else if let Some(problem) = line.strip_prefix("! ") {
            self.problem = Some(problem.to_owned());
        } else if let Some(original) = line.strip_prefix("deleted ") {
            self.event = self.event.take().map(|event| event.without(OriginalStart::At(at(original, zone))));
        } else {
            self.event = self.event.take().map(|event| event.recurs(line));
        }
    }
}

/// `2026-03-28 02:30 Europe/Vienna, 30 min`, `2026-03-29, all day, Europe/Vienna`, `…, calendar Europe/Vienna`.
fn event(head: &str) -> Recurring {
    let parts: Vec<&str> = head.split(", ").collect();
    if let [day, "all day", zone] = parts[..] {
        return days(day, 1, zone);
    }
    let calendar = parts.get(2).and_then(|part| part.strip_prefix("calendar "));
    let (start, zone) = parts[0].rsplit_once(' ').expect("a zone");
    let minutes = parts[1].strip_suffix(" min").and_then(|minutes| minutes.parse().ok()).expect("minutes");
    let floating = zone == "floating";
    let mut event = meeting(start, minutes, if floating { calendar.expect("a calendar") } else { zone });
    if let Span::Timed { zone, .. } = &mut event.span
        && floating
    {
        *zone = None;
    }
    match calendar {
        Some(calendar) => event.in_calendar_of(calendar),
        None => event,
    }
}

#[test]
fn every_series_of_the_page_takes_place_as_the_page_says() {
    let page = page();
    let blocks: Vec<&str> = page.split("```series\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 15, "the page has lost its examples");
    for block in blocks {
        let Example { event, starts, problem } = Example::read(block);
        let event = event.expect("an event");
        let window = between(utc("2026-01-01 00:00"), utc("2026-01-01 00:00") + TimeDelta::days(3_000));

        let found = event.expanded(window);

        assert_eq!(found.problem.map(|told| told.to_string()), problem, "{block}");
        let told: Vec<String> = (found.intervals.iter().zip(&starts))
            .map(|(interval, told)| {
                let start = on_the_wall(interval.start(), event.calendar);
                let hours = (interval.end() - interval.start()).num_hours();
                if told.contains(" for ") { format!("{start} for {hours} h") } else { start }
            })
            .collect();
        assert_eq!((told, found.intervals.len()), (starts.clone(), starts.len()), "{block}");
    }
}

#[test]
fn the_page_has_the_steps_to_a_busy_status_in_their_order() {
    let page = page();
    let table: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    let steps: Vec<String> =
        KNOWN_BUSY.iter().map(|(key, status, _)| format!("`{key}` | `{}` |", status.label())).collect();

    let shown: Vec<usize> =
        steps.iter().filter_map(|step| table.iter().position(|line| line.ends_with(step.as_str()))).collect();

    assert_eq!(shown.len(), steps.len(), "each step is in the table");
    assert!(shown.is_sorted());
}
