//! Every function of availability against a model that looks at every minute: random calendars, fed by deltas, asked
//! random questions. A round is known by its seed.

use std::collections::{BTreeMap, BTreeSet};

use calsync_integration::items::today;
use calsync_integration::model::{Diary, Kind, Minute, Wish, clock, minute, next_change, reached, rfc3339, runs};
use calsync_integration::{Dice, Fed};
use chrono::{Datelike, Days};
use chrono_tz::Tz;
use postgres::{Client, Row};
use serde_json::{Value, json};

const ROUNDS: u64 = 12;
const QUESTIONS: usize = 12;
/// Europe and America change their clocks, Lord Howe by half an hour; India and Nepal are half and three quarters off.
const ZONES: [Tz; 5] =
    [Tz::Europe__Vienna, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Asia__Kolkata, Tz::Asia__Kathmandu];

/// Some calendars around a change of the clocks, and their diaries.
struct Office {
    fed: Fed,
    dice: Dice,
    zone: Tz,
    /// Three days around the change, in UTC.
    days: (Minute, Minute),
    diaries: BTreeMap<String, Diary>,
    /// How many lines of each kind of answer agreed.
    agreed: BTreeMap<&'static str, usize>,
}

impl Office {
    fn open(fed: Fed, seed: u64) -> Self {
        let mut dice = Dice::seeded(seed);
        let zone = dice.one_of(&ZONES);
        let first = next_change(zone, today()) - Days::new(1);
        let start = minute(first.and_hms_opt(0, 0, 0).unwrap().and_utc());
        let mut office = Office {
            fed,
            dice,
            zone,
            days: (start, start + 3 * 1440),
            diaries: BTreeMap::new(),
            agreed: BTreeMap::new(),
        };
        for name in ["anna", "ben", "cleo", "room"] {
            let name = format!("{name}{seed}");
            office.fed.subscribe(&name, json!({}));
            let events = office.dice.roll(14);
            let mut diary = Diary::default();
            let items = diary.change(&mut office.dice, start - 1440, start + 4 * 1440, events);
            office.fed.list_of(&name, &items);
            office.diaries.insert(name, diary);
        }
        office
    }

    fn changes(&mut self) {
        for (name, diary) in &mut self.diaries {
            let additions = self.dice.roll(4);
            let items = diary.change(&mut self.dice, self.days.0, self.days.1, additions);
            self.fed.change_of(name, &items);
        }
    }

    /// Two moments of the three days, in order.
    fn window(&mut self) -> (Minute, Minute) {
        let length = (self.days.1 - self.days.0) as usize;
        let (one, other) = (self.dice.roll(length) as Minute, self.dice.roll(length) as Minute);
        (self.days.0 + one.min(other), self.days.0 + one.max(other) + 1)
    }

    /// One to six names, some perhaps twice.
    fn names(&mut self) -> Vec<String> {
        let all: Vec<String> = self.diaries.keys().cloned().collect();
        (0..1 + self.dice.roll(6)).map(|_| all[self.dice.roll(all.len())].clone()).collect()
    }

    /// At least one: with none nothing is asked.
    fn kinds(&mut self) -> Vec<Kind> {
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| self.dice.once_in(2)).collect();
        if kinds.is_empty() { vec![self.dice.one_of(&Kind::ALL)] } else { kinds }
    }

    fn blocking(&self) -> BTreeMap<String, BTreeSet<Minute>> {
        let taken = |diary: &Diary| diary.taken(&[Kind::Tentative, Kind::Busy, Kind::OutOfOffice]);
        self.diaries.iter().map(|(name, diary)| (name.clone(), taken(diary))).collect()
    }

    fn agree<T: PartialEq + std::fmt::Debug>(&mut self, about: &'static str, told: &[T], wanted: &[T], question: &str) {
        assert_eq!(told, wanted, "{about}, {question}");
        *self.agreed.entry(about).or_default() += told.len();
    }

    /// Opening hours of several intervals.
    fn hours(&mut self) -> Option<BTreeSet<Minute>> {
        if self.dice.once_in(3) {
            return None;
        }
        let pieces: Vec<(Minute, Minute)> = (0..1 + self.dice.roll(5)).map(|_| self.window()).collect();
        Some(pieces.into_iter().flat_map(|(from, to)| from..to.min(from + 700)).collect())
    }
}

fn range((from, to): (Minute, Minute)) -> String {
    format!("[{},{})", rfc3339(from), rfc3339(to))
}

fn multirange(minutes: &BTreeSet<Minute>) -> String {
    let ranges: Vec<String> = runs(minutes.iter().copied()).into_iter().map(range).collect();
    format!("{{{}}}", ranges.join(","))
}

/// The columns `f` and `t`, seconds since 1970, as minutes.
fn span(row: &Row) -> (Minute, Minute) {
    let at = |column| {
        let seconds: f64 = row.get(column);
        assert_eq!(seconds % 60.0, 0.0, "whole minutes in, whole minutes out");
        seconds as Minute / 60
    };
    (at("f"), at("t"))
}

fn spans(
    sql: &mut Client,
    statement: &str,
    arguments: &[&(dyn postgres::types::ToSql + Sync)],
) -> Vec<(Minute, Minute)> {
    let statement = format!(
        "SELECT extract(epoch FROM lower(r))::float8 AS f, extract(epoch FROM upper(r))::float8 AS t FROM {statement} AS r"
    );
    let rows = sql.query(&statement, arguments).unwrap_or_else(|error| panic!("{statement} {arguments:?}: {error:?}"));
    rows.iter().map(span).collect()
}

/// For each calendar asked, once and in order, the runs of its minutes within the window.
fn busy_as_asked(
    office: &Office,
    names: &[String],
    window: (Minute, Minute),
    kinds: &[Kind],
) -> Vec<(String, (Minute, Minute))> {
    let mut wanted = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if !names[..at].contains(name) {
            let taken = office.diaries[name].taken(kinds);
            let runs = runs(taken.range(window.0..window.1).copied());
            wanted.extend(runs.into_iter().map(|run| (name.clone(), run)));
        }
    }
    wanted
}

fn ask_busy(office: &mut Office, round: &str) {
    let (window, names, kinds) = (office.window(), office.names(), office.kinds());
    let labels: Vec<&str> = kinds.iter().map(|kind| kind.label()).collect();
    let rows = office.fed.sql.query(
        "SELECT calendar, extract(epoch FROM lower(busy))::float8 AS f, extract(epoch FROM upper(busy))::float8 AS t \
         FROM calsync_busy($1::text::tstzrange, $2, $3::text[]::calsync.busy_status[])",
        &[&range(window), &names, &labels],
    );
    let told: Vec<_> = rows.expect("busy").iter().map(|row| (row.get::<_, String>(0), span(row))).collect();

    let wanted = busy_as_asked(office, &names, window, &kinds);
    office.agree("busy", &told, &wanted, &format!("{round} {names:?}"));

    let union = spans(
        &mut office.fed.sql,
        "unnest(calsync_busy_union($1::text::tstzrange, $2, $3::text[]::calsync.busy_status[]))",
        &[&range(window), &names, &labels],
    );
    let mut anybody = BTreeSet::new();
    for name in &names {
        anybody.extend(office.diaries[name].taken(&kinds).range(window.0..window.1));
    }
    office.agree("union", &union, &runs(anybody), &format!("{round} {names:?}"));
}

fn ask_free(office: &mut Office, round: &str) {
    let (window, names, hours) = (office.window(), office.names(), office.hours());
    let shortest = office.dice.one_of(&[0, 15, 60, 500]);
    let taken = office.blocking();
    let free = |minute: &Minute| names.iter().all(|name| !taken[name].contains(minute));
    let open = |minute: &Minute| hours.as_ref().is_none_or(|hours| hours.contains(minute));

    let told = spans(
        &mut office.fed.sql,
        "calsync_free($1::text::tstzrange, $2, $3::text::tstzmultirange, make_interval(mins => $4))",
        &[&range(window), &names, &hours.as_ref().map(multirange), &(shortest as i32)],
    );
    let mut wanted = runs((window.0..window.1).filter(|minute| free(minute) && open(minute)));
    wanted.retain(|(from, to)| to - from >= shortest);
    office.agree("free", &told, &wanted, &format!("{round} {names:?}"));

    let is_free = "SELECT calsync_is_free($1::text::tstzrange, $2)";
    for window in [window, (window.0, window.0 + 20)] {
        let told: bool = office.fed.sql.query_one(is_free, &[&range(window), &names]).expect("is_free").get(0);
        let wanted = (window.0..window.1).all(|minute| free(&minute));
        let about = if wanted { "is_free: yes" } else { "is_free: no" };
        office.agree(about, &[told], &[wanted], &format!("{round} {window:?} {names:?}"));
    }
}

/// A random wish, and the arguments that say it, but for whose calendars: those from $3 on.
fn wish(office: &mut Office) -> (Wish, Option<i32>) {
    let dice = |office: &mut Office, of: &[Minute]| office.dice.one_of(of);
    let wish = Wish {
        window: office.window(),
        hours: office.hours(),
        duration: dice(office, &[1, 10, 15, 30, 45, 60, 120, 1440]),
        step: dice(office, &[1, 7, 15, 30, 45, 50, 60, 240, 1440]),
        before: dice(office, &[0, 0, 5, 30, 180]),
        after: dice(office, &[0, 0, 5, 30, 180]),
        zone: if office.dice.once_in(3) { office.dice.one_of(&ZONES) } else { office.zone },
        earliest: Minute::MIN,
    };
    let most = office.dice.once_in(3).then(|| 1 + office.dice.roll(9) as i32);
    (wish, most)
}

const SLOT_ARGUMENTS: &str = "make_interval(mins => $3), make_interval(mins => $4), $5, $6::text::tstzmultirange, \
                              make_interval(mins => $7), make_interval(mins => $8), make_interval(mins => $9), $10";

fn ask_slots(office: &mut Office, round: &str) {
    let (names, (mut wish, most)) = (office.names(), wish(office));
    let now: f64 = {
        office.fed.sql.batch_execute("BEGIN").expect("a transaction, for its now()");
        office.fed.sql.query_one("SELECT extract(epoch FROM now())::float8", &[]).expect("now").get(0)
    };
    // Now and then the notice reaches into the window.
    let now_minute = (now / 60.0).ceil() as Minute;
    let notice = if office.dice.once_in(3) { (wish.window.0 + wish.window.1) / 2 - now_minute } else { 0 };
    wish.earliest = now_minute + notice;
    let groups: Vec<(usize, Vec<String>)> = (0..1 + office.dice.roll(3))
        .map(|_| {
            let members = office.names();
            let distinct = members.iter().collect::<BTreeSet<_>>().len();
            (1 + office.dice.roll(distinct), members)
        })
        .collect();
    let as_json = groups.iter().map(|(needed, members)| {
        let distinct = members.iter().collect::<BTreeSet<_>>().len();
        if *needed == distinct {
            json!({"all": true, "calendars": members})
        } else {
            json!({"any": needed, "calendars": members})
        }
    });
    let as_json: Value = as_json.collect();
    let minutes = |minutes: Minute| minutes as i32;
    let (window, hours) = (range(wish.window), wish.hours.as_ref().map(multirange));
    let (duration, step, before, after, notice) =
        (minutes(wish.duration), minutes(wish.step), minutes(wish.before), minutes(wish.after), minutes(notice));
    let zone = wish.zone.name();

    let told = spans(
        &mut office.fed.sql,
        &format!("calsync_slots($1::text::tstzrange, $2, {SLOT_ARGUMENTS})"),
        &[&window, &names, &duration, &step, &zone, &hours, &before, &after, &notice, &most],
    );
    let group_rows = office.fed.sql.query(
        &format!(
            "SELECT extract(epoch FROM lower(slot))::float8 AS f, extract(epoch FROM upper(slot))::float8 AS t, calendars \
             FROM calsync_group_slots($1::text::tstzrange, $2, {SLOT_ARGUMENTS})"
        ),
        &[&window, &as_json, &duration, &step, &zone, &hours, &before, &after, &notice, &most],
    );
    let told_of_groups: Vec<_> = group_rows
        .unwrap_or_else(|error| panic!("{round} {as_json}: {error:?}"))
        .iter()
        .map(|row| (span(row), row.get::<_, Vec<String>>("calendars")))
        .collect();
    office.fed.sql.batch_execute("COMMIT").expect("the end of the transaction");

    let taken = office.blocking();
    let everybody: Vec<&BTreeSet<Minute>> = names.iter().map(|name| &taken[name]).collect();
    let most = most.map_or(usize::MAX, |most| most as usize);
    let meeting = |start: Minute| (start, start + wish.duration);
    let wanted: Vec<_> = wish.slots(&everybody).into_iter().take(most).map(meeting).collect();
    office.agree("slots", &told, &wanted, &format!("{round} {names:?} {wish:?}"));
    let wanted = wish.group_slots(&groups, &taken).into_iter().take(most);
    let wanted: Vec<_> = wanted.map(|(start, who)| (meeting(start), who)).collect();
    office.agree("group slots", &told_of_groups, &wanted, &format!("{round} {as_json} {wish:?}"));
}

fn ask_open_hours(office: &mut Office, round: &str) {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let (window, zone) = (office.window(), office.zone);
    let time = |minute: Minute| format!("{:02}:{:02}", minute / 60, minute % 60);
    let dice = &mut office.dice;
    let mut hours = || {
        let start = dice.roll(1440) as Minute;
        (start, (start + 1 + dice.roll(1438) as Minute) % 1440)
    };
    let rules: Vec<_> = (0..7).map(|day| (day, hours())).collect();
    let special = (clock(window.0, zone).date() + Days::new(1), hours());
    let closed = clock(window.0, zone).date() + Days::new(2);
    let (special_date, (from, to)) = special;
    let weekly: Value = rules
        .iter()
        .map(|(day, (from, to))| json!({"days": [DAYS[*day]], "start": time(*from), "end": time(*to)}))
        .collect();
    let overrides = json!([
        {"date": special_date.to_string(), "start": time(from), "end": time(to)},
        {"from": closed.to_string(), "to": closed.to_string(), "closed": true},
    ]);

    let told = spans(
        &mut office.fed.sql,
        "unnest(calsync_open_hours($1::text::tstzrange, $2, $3, $4))",
        &[&range(window), &zone.name(), &weekly, &overrides],
    );

    let mut open = BTreeSet::new();
    for date in (clock(window.0, zone).date() - Days::new(2)).iter_days().take(8) {
        let (from, to) = match date {
            _ if date == closed => continue,
            _ if date == special_date => (from, to),
            _ => rules[date.weekday().num_days_from_monday() as usize].1,
        };
        let to = if to < from { to + 1440 } else { to };
        open.extend(
            (reached(date, from, zone)..reached(date, to, zone)).filter(|minute| (window.0..window.1).contains(minute)),
        );
    }
    office.agree("open hours", &told, &runs(open), &format!("{round} {zone} {weekly} {overrides}"));
}

fn ask_freebusy(office: &mut Office, round: &str) {
    let (window, names) = (office.window(), office.names());
    let items: Value = names.iter().map(|name| json!({"id": name})).collect();
    let request = json!({"timeMin": rfc3339(window.0), "timeMax": rfc3339(window.1), "timeZone": office.zone.name(), "items": items});
    let row = office.fed.sql.query_one("SELECT calsync_freebusy($1)", &[&request]);
    let answer: Value = row.unwrap_or_else(|error| panic!("{round} {request}: {error:?}")).get(0);

    let taken = office.blocking();
    let told = |name: &String| -> Vec<(Minute, Minute)> {
        let busy = answer["calendars"][name]["busy"].as_array().expect("busy");
        let at = |time: &Value| {
            minute(time.as_str().expect("a time").parse::<chrono::DateTime<chrono::Utc>>().expect("RFC 3339"))
        };
        busy.iter().map(|busy| (at(&busy["start"]), at(&busy["end"]))).collect()
    };
    for name in &names {
        let wanted = runs(taken[name].range(window.0..window.1).copied());
        office.agree("freebusy", &told(name), &wanted, &format!("{round} {name}"));
        assert_eq!(answer["calendars"][name].get("errors"), None);
    }
}

#[test]
fn every_answer_is_that_of_a_model_which_looks_at_every_minute() {
    let mut fed = Fed::new();
    let mut agreed: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 1..=ROUNDS {
        let mut office = Office::open(fed, seed);
        for question in 0..QUESTIONS {
            let round = format!("seed {seed}, question {question}");
            ask_busy(&mut office, &round);
            ask_free(&mut office, &round);
            ask_slots(&mut office, &round);
            ask_open_hours(&mut office, &round);
            ask_freebusy(&mut office, &round);
            if question % 4 == 3 {
                office.changes();
            }
        }
        for (about, lines) in office.agreed {
            *agreed.entry(about).or_default() += lines;
        }
        fed = office.fed;
    }
    assert!(agreed.len() == 9 && agreed.values().all(|lines| *lines >= 50), "too little was asked: {agreed:?}");
}
