//! 1,000 typical masters, three years old, expanded over a year: ours, and `rrule`'s own `all` on the same input.
//!
//! `cargo bench -p calsync-core --bench expand`

use std::hint::black_box;

use calsync_core::event::{Kind, Span};
use calsync_core::expansion::occurrences;
use calsync_core::interval::Interval;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use criterion::{Criterion, criterion_group, criterion_main};

const ZONES: [Tz; 4] = [Tz::Europe__Vienna, Tz::America__New_York, Tz::Asia__Kolkata, Tz::UTC];

/// What people's calendars are full of.
const RULES: [&str; 8] = [
    "FREQ=WEEKLY",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=DAILY",
    "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
    "FREQ=MONTHLY;BYMONTHDAY=15",
    "FREQ=MONTHLY;BYDAY=1MO",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
];

struct Master {
    start: DateTime<Tz>,
    rule: &'static str,
}

fn masters() -> Vec<Master> {
    (0..1_000)
        .map(|index| {
            let day = NaiveDate::from_ymd_opt(2023, 11, 1).unwrap() + TimeDelta::days(index % 28);
            let local = day.and_hms_opt(8 + u32::try_from(index % 10).unwrap(), 0, 0).unwrap();
            let zone = ZONES[index as usize / 8 % ZONES.len()];
            Master { start: local.and_local_timezone(zone).unwrap(), rule: RULES[index as usize % RULES.len()] }
        })
        .collect()
}

fn window() -> Interval {
    let day = |year| NaiveDate::from_ymd_opt(year, 11, 20).unwrap().and_time(Default::default()).and_utc();
    Interval::new(day(2026), day(2027)).unwrap()
}

fn ours(masters: &[(Kind, Tz)], window: Interval) -> usize {
    masters.iter().map(|(kind, zone)| occurrences(kind, &[], window, *zone).intervals.len()).sum()
}

fn rrules(masters: &[String], window: Interval) -> usize {
    let before = window.end().with_timezone(&rrule::Tz::UTC);
    let after = window.start().with_timezone(&rrule::Tz::UTC);
    masters
        .iter()
        .map(|text| text.parse::<rrule::RRuleSet>().unwrap().after(after).before(before).all(u16::MAX).dates.len())
        .sum()
}

fn as_event(master: &Master) -> (Kind, Tz) {
    let starts_at = master.start.with_timezone(&Utc);
    let zone = master.start.timezone();
    let span =
        Span::Timed { starts_at, ends_at: starts_at + TimeDelta::minutes(30), zone: Some(zone.name().to_owned()) };
    (Kind::Master { span, recurrence: vec![format!("RRULE:{}", master.rule)] }, zone)
}

fn as_text(master: &Master) -> String {
    let local = master.start.format("%Y%m%dT%H%M%S");
    format!("DTSTART;TZID={}:{local}\nRRULE:{}", master.start.timezone().name(), master.rule)
}

fn expand(criterion: &mut Criterion) {
    let (window, masters) = (window(), masters());
    let events: Vec<_> = masters.iter().map(as_event).collect();
    let texts: Vec<_> = masters.iter().map(as_text).collect();
    println!("{} occurrences; rrule finds {}", ours(&events, window), rrules(&texts, window));

    let mut group = criterion.benchmark_group("1,000 masters over a year");
    group.sample_size(20);
    group.bench_function("pg_calsync", |bencher| bencher.iter(|| ours(black_box(&events), window)));
    group.bench_function("rrule", |bencher| bencher.iter(|| rrules(black_box(&texts), window)));
    group.finish();
}

criterion_group!(benches, expand);
criterion_main!(benches);
