//! Whatever JSON comes as groups, hours or a freebusy request is taken or refused, and what is taken can be answered.

mod time_support;

use calsync_core::freebusy::Request;
use calsync_core::interval::Interval;
use calsync_core::open_hours::OpenHours;
use calsync_core::slots::{Grid, Groups, Meeting};
use serde_json::{Map, Value, json};
use time_support::dice::Dice;
use time_support::{minutes, tz, years};

const KEYS: [&str; 17] = [
    "any",
    "all",
    "calendars",
    "days",
    "start",
    "end",
    "date",
    "from",
    "to",
    "closed",
    "timeMin",
    "timeMax",
    "timeZone",
    "items",
    "id",
    "groupExpansionMax",
    "calendarExpansionMax",
];
const TEXTS: [&str; 21] = [
    "",
    "a",
    "b",
    "mon",
    "SUNDAY",
    "09:00",
    "24:00",
    "00:00",
    "02:30",
    "23:59:59",
    "09:0",
    "2026-03-29",
    "2026-10-25",
    "-262143-01-01",
    "+262142-12-31",
    "0000-00-00",
    "2026-03-29T02:30:00+01:00",
    "9999-12-31T23:59:59-23:59",
    "2026-03-01T00:00:00Z",
    "Europe/Vienna",
    "\u{1F4C5}",
];

/// An object as one of the parsers wants it, but for a text that may be any.
fn sensible(dice: &mut Dice, wanted: Wanted) -> Value {
    let text = |dice: &mut Dice, of: &[&'static str]| {
        let of = if dice.one_in(8) { &TEXTS } else { of };
        json!(dice.any(of))
    };
    let (clocks, dates) = (&TEXTS[5..10], ["2026-03-29", "2026-10-25", "-262143-01-01", "+262142-12-31"]);
    let times = ["2026-03-29T02:30:00+01:00", "9999-12-31T23:59:59-23:59", "2026-03-01T00:00:00Z"];
    match wanted {
        Wanted::Group if dice.one_in(2) => json!({"all": true, "calendars": [text(dice, &["a"])]}),
        Wanted::Group => json!({"any": dice.between(0, 3), "calendars": [text(dice, &["a"]), text(dice, &["b"])]}),
        Wanted::Rule => json!({"days": ["mon", "sun", "sat"], "start": text(dice, clocks), "end": text(dice, clocks)}),
        Wanted::Override => {
            json!({"from": text(dice, &dates), "to": text(dice, &dates), "start": text(dice, clocks), "end": text(dice, clocks)})
        }
        Wanted::Request => {
            json!({"timeMin": text(dice, &times), "timeMax": text(dice, &times), "items": [{"id": text(dice, &["a"])}], "timeZone": "Asia/Kolkata"})
        }
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Group,
    Rule,
    Override,
    Request,
}

fn junk(dice: &mut Dice, depth: u32) -> Value {
    match dice.between(0, if depth == 0 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => json!(dice.one_in(2)),
        2 => json!(dice.between(-3, 60)),
        3 => json!(dice.any(&[0.5, -1e300, 1e18])),
        4 | 5 => json!(dice.any(&TEXTS)),
        6 | 7 => (0..dice.between(0, 3)).map(|_| junk(dice, depth - 1)).collect(),
        8 => {
            let wanted = dice.any(&[Wanted::Group, Wanted::Rule, Wanted::Override, Wanted::Request]);
            sensible(dice, wanted)
        }
        _ => {
            let fields = (0..dice.between(0, 4)).map(|_| (dice.any(&KEYS).to_owned(), junk(dice, depth - 1)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

fn list(dice: &mut Dice, wanted: Wanted) -> Value {
    (0..dice.between(0, 2)).map(|_| if dice.one_in(3) { junk(dice, 3) } else { sensible(dice, wanted) }).collect()
}

#[test]
fn whatever_comes_is_taken_or_refused() {
    let mut dice = Dice::seeded(11);
    let window = Interval::new(years(2026, 1).start(), years(2026, 1).start() + minutes(120 * 1440)).expect("a window");
    let (mut groups, mut hours, mut requests) = (0, 0, 0);
    for _ in 0..30_000 {
        let zone = tz(dice.any(&["Europe/Vienna", "Australia/Lord_Howe"]));
        if let Ok(taken) = Groups::parse(&list(&mut dice, Wanted::Group)) {
            let meeting = Meeting::new(minutes(30), minutes(0), minutes(5)).expect("a meeting");
            let grid = Grid::new(minutes(1440), zone).expect("a step");
            let busy = vec![vec![window]; taken.calendars().len()];
            assert_eq!(taken.slots(meeting, grid, &[window], &busy, || ()).count(), 0);
            groups += 1;
        }
        if let Ok(taken) = OpenHours::parse(&list(&mut dice, Wanted::Rule), &list(&mut dice, Wanted::Override)) {
            let open = taken.within(window, zone, || ()).expect("a few months are not too much");
            assert!(open.windows(2).all(|pair| pair[0].end() < pair[1].start()), "disjoint, in order, merged");
            hours += 1;
        }
        let request = if dice.one_in(3) { junk(&mut dice, 4) } else { sensible(&mut dice, Wanted::Request) };
        if let Ok(taken) = Request::parse(&request) {
            let told = taken.answer([("a".to_owned(), vec![taken.window], None)], || ()).expect("JSON");
            let told: Value = serde_json::from_str(&told).expect("JSON");
            assert!(told["calendars"]["a"]["busy"][0]["start"].is_string());
            requests += 1;
        }
    }
    assert!(groups > 1000 && hours > 1000 && requests > 1000, "too much was refused: {groups} {hours} {requests}");
}
