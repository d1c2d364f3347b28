//! An application that connects thousands of people, for each of whom the calendar is called `primary`.

use std::time::{Duration, Instant};

use calsync_integration::{Pushed, webhook};
use serde_json::json;

const PEOPLE: usize = 4000;

/// So many people's calendars, each with a credential of its own, synced and watched; `remote_id` names that of number n.
fn watched(remote_id: &str) -> Pushed {
    let mut pushed = Pushed::with("calsync.databases = 'none'");
    let address = pushed.receiver.address();
    let fill = format!(
        "INSERT INTO calsync.credential (name, provider, owner, generation) \
         SELECT 'c' || n, 'google', current_user, 1 FROM generate_series(1, {PEOPLE}) AS n; \
         INSERT INTO calsync.subscription (calendar, provider, remote_id, credential, owner, state, synced_at, \
             full_synced_at, next_sync_at, poll_interval, pushed) \
         SELECT 'p' || n, 'google', {remote_id}, 'c' || n, current_user, 'active', now(), now(), now() + interval '6h', \
             interval '1h', true FROM generate_series(1, {PEOPLE}) AS n; \
         INSERT INTO calsync.channel (channel_id, provider, owner, credential, remote_id, generation, state, address, \
             token_hash, resource_id, opened_at, confirmed_at, expires_at, due_at) \
         SELECT 'h' || n, 'google', current_user, 'c' || n, {remote_id}, 1, 'open', '{address}', sha256('secret'), 'r', \
             now(), now(), now() + interval '5 days', now() + interval '4 days' FROM generate_series(1, {PEOPLE}) AS n; \
         ANALYZE"
    );
    pushed.world.sql.batch_execute(&fill).expect("people");
    pushed
}

/// How long it takes to look at all channels, and to pass on the news of a hundred of them.
fn tended(pushed: &mut Pushed) -> Duration {
    for number in 1..=100 {
        let message = json!({
            "X-Goog-Channel-ID": format!("h{number}"), "X-Goog-Channel-Token": "secret", "X-Goog-Resource-ID": "r",
            "X-Goog-Resource-State": "exists", "X-Goog-Message-Number": "7",
        });
        assert_eq!(webhook(&mut pushed.world.sql, &message), 200);
    }
    pushed.world.google.set_unavailable(true);
    let begun = Instant::now();
    pushed.world.sql.batch_execute("CALL calsync_run(1)").expect("a run");
    begun.elapsed()
}

#[test]
fn that_all_calendars_are_called_primary_makes_nothing_slower() {
    let by_address = tended(&mut watched("'p' || n || '@x'"));

    let as_primary = tended(&mut watched("'primary'"));

    assert!(as_primary < 4 * by_address + Duration::from_millis(500), "{as_primary:?}, by address {by_address:?}");
}
