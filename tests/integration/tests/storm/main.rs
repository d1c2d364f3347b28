//! The storm: users edit calendars at a fake Google while everything that can fail fails, readers look on, and each time
//! quiet returns the cache must say what Google's own free/busy says.
//!
//! What users do and what goes wrong is drawn from a seed (and from the day, from which all dates are counted), so that
//! a failing seed can be sent through the storm again: `make soak SEED=17`. How the threads interleave is not repeated; a
//! race may need a few runs.
//!
//! - [`user`]: the acts of people in their calendars
//! - [`weather`]: faults at the provider, in the network, in the server
//! - [`reader`]: what a reader must never see meanwhile
//! - [`calm`]: what must hold once quiet has returned
//!
//! | variable | |
//! |---|---|
//! | `STORM_SEEDS` | how many seeds, 40 by default; the first is `STORM_FIRST`, 1 by default |
//! | `STORM_SEED` | this one only, telling each act |
//! | `STORM_ACTS` | acts a seed, 300 by default |
//! | `STORM_THREADS` | seeds at the same time, each in a cluster of its own; 3 by default |

mod calm;
mod moments;
mod reader;
mod rules;
mod sky;
mod user;
mod weather;

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sky::Sky;

/// How often quiet returns.
const PHASES: usize = 5;

#[test]
fn whatever_happens_the_cache_ends_up_saying_what_google_says() {
    let one = number("STORM_SEED");
    let first = one.or(number("STORM_FIRST")).unwrap_or(1);
    let seeds = if one.is_some() { 1 } else { number("STORM_SEEDS").unwrap_or(40) };
    let acts = number("STORM_ACTS").unwrap_or(300) as usize;
    let threads = number("STORM_THREADS").unwrap_or(3).min(seeds);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || has_failed(&failed) {
                        return;
                    }
                    let weathered =
                        std::panic::catch_unwind(AssertUnwindSafe(|| weather_one(seed, acts, one.is_some())));
                    if weathered.is_err() {
                        tell(&format!("storm: seed {seed} FAILED; again: make soak SEED={seed} ACTS={acts}"));
                        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    tell(&format!(
        "storm: {seeds} seeds of {acts} acts in {:.0} s, {:.1} seeds a minute",
        minutes * 60.0,
        seeds as f64 / minutes
    ));
    assert!(failed.is_empty(), "seeds that failed: {failed:?}; again: make soak SEED={} ACTS={acts}", failed[0]);
}

/// One seed, from an empty calendar to the last quiet.
fn weather_one(seed: u64, acts: usize, loud: bool) {
    let begun = Instant::now();
    let mut sky = Sky::new(seed, loud);
    for phase in 0..PHASES {
        sky.storm(acts / PHASES);
        sky.calm(&format!("phase {} of {PHASES}", phase + 1));
        sky.move_a_calendar();
        sky.calm(&format!("phase {} of {PHASES}, a calendar moved to another zone and nothing else", phase + 1));
    }
    let told = sky.end();
    tell(&format!("storm: seed {seed} held, {:.1} s; {told}", begun.elapsed().as_secs_f64()));
}

fn has_failed(failed: &Mutex<Vec<u64>>) -> bool {
    !failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Past the test harness, which keeps what a test prints to itself.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
