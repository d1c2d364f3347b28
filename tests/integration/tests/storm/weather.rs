//! What goes wrong, drawn from the seed: at the provider, on the way, in the server.

use std::thread::JoinHandle;
use std::time::Duration;

use calsync_integration::{Connector, Dice};
use fake_google::{Action, Fault, Quirks};

use crate::sky::{DATABASE, Sky};

/// Each error of the provider's that an events list may answer with.
const ERRORS: [(u16, &str); 24] = [
    (400, "invalid"),
    (400, "syncTokenWithRequestRestrictions"),
    (400, "syncTokenWithNonDefaultOrdering"),
    (400, "timeRangeEmpty"),
    (401, "authError"),
    (403, "rateLimitExceeded"),
    (403, "userRateLimitExceeded"),
    (403, "quotaExceeded"),
    (403, "dailyLimitExceeded"),
    (403, "forbidden"),
    (403, "insufficientPermissions"),
    (403, "accessNotConfigured"),
    (403, "forbiddenForNonOrganizer"),
    (404, "notFound"),
    (409, "duplicate"),
    (409, "conflict"),
    (410, "fullSyncRequired"),
    (410, "updatedMinTooLongAgo"),
    (410, "deleted"),
    (412, "conditionNotMet"),
    (429, "rateLimitExceeded"),
    (500, "backendError"),
    (502, "badGateway"),
    (503, "backendError"),
];

/// A 200 that is no list of events, or worse.
const BODIES: [&str; 6] =
    ["<html>Sign in to the hotel's network</html>", "", "null", "{}", r#"{"items": {}}"#, r#"{"items": [{"id": "#];

pub struct Weather {
    dice: Dice,
    foreground: Vec<JoinHandle<()>>,
    paused: Vec<String>,
    /// Acts until the provider listens again.
    outage: usize,
    crashes: usize,
    terminations: usize,
}

impl Weather {
    pub fn new(dice: Dice) -> Self {
        Weather { dice, foreground: Vec::new(), paused: Vec::new(), outage: 0, crashes: 0, terminations: 0 }
    }

    /// Perhaps something goes wrong now.
    pub fn blow(&mut self, sky: &mut Sky) {
        if self.outage > 0 {
            self.outage -= 1;
            if self.outage == 0 {
                sky.google.set_unavailable(false);
                sky.google.start_again().expect("the provider listens again");
            }
        }
        match self.dice.roll(100) {
            0..22 => self.fault(sky),
            22..30 => self.quirk(sky),
            30..35 => self.token(sky),
            35..37 => self.provider_goes(sky),
            37..45 => self.foreground(sky),
            45..51 => self.owner(sky),
            51..56 => self.lease(sky),
            56..58 => self.terminate(sky),
            58 => self.crash(sky),
            59 => self.configuration(sky),
            _ => {}
        }
    }

    fn fault(&mut self, sky: &mut Sky) {
        let (what, fault) = match self.dice.roll(12) {
            0..5 => {
                let (status, reason) = self.dice.one_of(&ERRORS);
                let mut fault = Fault::error(status, reason);
                if let Action::Error { message, .. } = &mut fault.action
                    && (status, reason) == (400, "invalid")
                {
                    *message = Some("Invalid sync token value.".to_owned());
                }
                let asks_to_wait = self.dice.once_in(3) && matches!(status, 403 | 429 | 503);
                ("an error", if asks_to_wait { fault.retry_after("3600") } else { fault })
            }
            5 => ("a cut connection", Fault::new(Action::CutBefore)),
            6 => ("a cut answer", Fault::new(Action::CutAfter { bytes: self.dice.roll(3000) })),
            7 => ("a truncated body", Fault::new(Action::Truncate { bytes: self.dice.roll(3000) })),
            8 => ("a body that is no list", self.body()),
            9 => ("silence", Fault::new(Action::Hang { bytes: self.dice.one_of(&[0, 0, 500]) })),
            10 => ("an answer in drips", Fault::new(Action::Drip { bytes: 4000, pause_ms: 20 })),
            _ => ("latency", Fault::latency(Duration::from_millis(20 + self.dice.roll(300) as u64)).times(4)),
        };
        let fault = if self.dice.once_in(3) { fault.times(1 + self.dice.roll(3) as u32) } else { fault };
        let fault = fault.skip(self.dice.one_of(&[0, 0, 0, 1, 2]));
        let remote = self.any_of(sky).remote;
        let fault = if self.dice.once_in(3) { fault } else { fault.on_calendar(&remote) };
        sky.note(format!("-- {:?}", fault.action));
        sky.google.add_fault(fault);
        sky.blew(what);
    }

    fn body(&mut self) -> Fault {
        Fault::new(Action::Body {
            status: 200,
            content_type: "application/json".to_owned(),
            body: self.dice.one_of(&BODIES).to_owned(),
            headers: Vec::new(),
        })
    }

    /// Lawful oddities, until others come. Not duplicates in a list that runs backwards: a deletion says not when it was
    /// made, so that nobody could tell it from what it deleted.
    fn quirk(&mut self, sky: &mut Sky) {
        let duplicates = self.dice.once_in(2);
        let quirks = Quirks {
            page_size_cap: self.dice.one_of(&[None, Some(1), Some(2), Some(3), Some(7)]),
            empty_first_pages: self.dice.one_of(&[0, 0, 1, 3]),
            empty_every: self.dice.one_of(&[None, None, Some(2), Some(3)]),
            omit_sync_tokens: self.dice.one_of(&[0, 0, 0, 1, 2]),
            duplicates,
            reversed: !duplicates && self.dice.once_in(2),
            organizer_tombstones: self.dice.once_in(2),
            sparse_tombstones: self.dice.once_in(2),
            ..Quirks::default()
        };
        let remote = self.any_of(sky).remote;
        let only = self.dice.once_in(2).then_some(remote);
        sky.google.set_quirks(only.as_deref(), quirks).expect("lawful quirks");
        sky.blew("odd lists");
    }

    fn token(&mut self, sky: &mut Sky) {
        match self.dice.roll(5) {
            0 => {
                let _ = sky.google.expire_sync_tokens(None);
                sky.blew("all tokens expired");
            }
            1 => {
                let remote = self.any_of(sky).remote;
                let _ = sky.google.expire_sync_tokens(Some(&remote));
                sky.blew("tokens expired");
            }
            2 => {
                sky.google.forget_pages();
                sky.blew("page tokens forgotten");
            }
            3 => {
                let calendar = self.any_of(sky).calendar;
                sky.try_sql(&format!(
                    "UPDATE calsync.subscription SET sync_token = 'nonsense', lease = lease + 1, leased_until = NULL \
                     WHERE calendar = '{calendar}' AND sync_token IS NOT NULL AND state <> 'paused'"
                ));
                sky.blew("a token spoilt");
            }
            _ => {
                let calendar = self.any_of(sky).calendar;
                sky.try_sql(&format!("SELECT calsync_resync('{calendar}')"));
                sky.blew("resync");
            }
        }
    }

    fn provider_goes(&mut self, sky: &mut Sky) {
        self.outage = 1 + self.dice.roll(6);
        if self.dice.once_in(2) {
            sky.google.stop();
            sky.google.forget_pages();
            sky.blew("provider restarted");
        } else {
            sky.google.set_unavailable(true);
            sky.blew("provider unavailable");
        }
    }

    /// Sessions that do the worker's work beside it; some are cancelled in the middle.
    fn foreground(&mut self, sky: &mut Sky) {
        self.foreground.retain(|session| !session.is_finished());
        if self.foreground.len() > 3 {
            return;
        }
        let patience = self.dice.once_in(3).then(|| Duration::from_millis(self.dice.roll(150) as u64));
        let connector = sky.cluster.connector();
        self.foreground.push(std::thread::spawn(move || run_in_the_foreground(&connector, patience)));
        sky.blew(if patience.is_some() { "foreground run cancelled" } else { "foreground run" });
    }

    fn owner(&mut self, sky: &mut Sky) {
        if !self.paused.is_empty() && self.dice.once_in(2) {
            let calendar = self.paused.swap_remove(0);
            sky.try_sql(&format!("SELECT calsync_resume('{calendar}')"));
            sky.blew("resume");
            return;
        }
        let calendar = self.any_of(sky).calendar;
        sky.try_sql(&format!("SELECT calsync_pause('{calendar}')"));
        self.paused.push(calendar);
        sky.blew("pause");
    }

    /// As if a round had taken longer than its lease: another takes the calendar while it is under way.
    fn lease(&mut self, sky: &mut Sky) {
        sky.google.add_fault(Fault::latency(Duration::from_millis(150)).times(2));
        sky.try_sql("SELECT calsync_sync()");
        std::thread::sleep(Duration::from_millis(self.dice.roll(60) as u64));
        sky.try_sql(
            "UPDATE calsync.subscription SET leased_until = clock_timestamp(), next_sync_at = clock_timestamp() \
             WHERE leased_until IS NOT NULL",
        );
        self.foreground(sky);
        sky.blew("leases ran out");
    }

    /// Not often: each time the launcher waits twice as long before it starts another.
    fn terminate(&mut self, sky: &mut Sky) {
        self.terminations += 1;
        if self.terminations > 2 {
            return;
        }
        let kind = self.dice.one_of(&["worker", "worker", "launcher"]);
        sky.try_sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_calsync {kind}'"
        ));
        sky.blew("worker or launcher terminated");
    }

    /// With -9. The worker's death takes every backend along; the postmaster's, the server.
    fn crash(&mut self, sky: &mut Sky) {
        self.crashes += 1;
        if self.crashes > 6 {
            return;
        }
        if self.dice.once_in(2) {
            sky.cluster.kill();
            sky.cluster.start_again();
            sky.blew("postmaster killed");
            return;
        }
        let worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_calsync worker'";
        let worker = sky.sql().query_opt(worker, &[]).ok().flatten().map(|row| row.get::<_, i32>(0));
        if let Some(worker) = worker {
            // SAFETY: a signal to a process of our own cluster.
            unsafe { libc::kill(worker, libc::SIGKILL) };
            sky.blew("worker killed");
        }
    }

    /// Windows grow, polls quicken.
    fn configuration(&mut self, sky: &mut Sky) {
        let horizon = sky.user.horizon() + 10 + self.dice.roll(40) as i64;
        let poll = self.dice.one_of(&[1, 2, 300]);
        sky.cluster.configure(&format!("calsync.horizon = '{horizon}d'\ncalsync.poll_interval = {poll}"));
        sky.try_sql("SELECT pg_reload_conf()");
        sky.blew("settings changed");
    }

    /// All that was set up is taken down; what is under way ends by itself.
    pub fn settle(&mut self, sky: &mut Sky) {
        self.outage = 0;
        sky.google.set_unavailable(false);
        sky.google.start_again().expect("the provider listens again");
        sky.google.clear_faults();
        // Which oddities stay in the quiet is chance: full syncs and deltas must come through them as well. But a last page
        // that never has a token would go on for ever.
        let remotes: Vec<String> = sky.kept.iter().map(|kept| kept.remote.clone()).collect();
        for remote in remotes.iter().map(|remote| Some(remote.as_str())).chain([None]) {
            let quirks = sky.google.quirks(remote).expect("a calendar's quirks");
            sky.google.set_quirks(remote, Quirks { omit_sync_tokens: 0, ..quirks }).expect("lawful quirks");
        }
        // All, since a call of ours may have gone down with the server.
        self.paused.clear();
        sky.insist("SELECT calsync_resume(calendar) FROM calsync.status");
        for session in self.foreground.drain(..) {
            session.join().expect("a foreground run does not panic");
        }
    }

    fn any_of(&mut self, sky: &Sky) -> crate::sky::Kept {
        sky.kept[self.dice.roll(sky.kept.len())].clone()
    }
}

/// Its errors are the server going down, or our own cancelling.
fn run_in_the_foreground(connector: &Connector, patience: Option<Duration>) {
    let Ok(mut sql) = connector.connect(DATABASE) else { return };
    if let Some(patience) = patience {
        let _ = sql.batch_execute(&format!("SET statement_timeout = {}", patience.as_millis().max(1)));
    }
    let _ = sql.batch_execute("CALL calsync_run()");
}
