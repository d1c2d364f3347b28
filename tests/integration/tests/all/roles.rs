//! Whose calendar it is, where golden SQL cannot show it.

use calsync_integration::{World, sqlstate};

#[test]
fn calendars_of_a_dropped_role_are_left_to_superusers() {
    let mut world = World::new();
    world
        .sql
        .batch_execute(
            "CREATE ROLE tenant; GRANT calsync_operator TO tenant; SET ROLE tenant; \
             SELECT calsync_subscribe('room', 'none'); RESET ROLE; DROP ROLE tenant; \
             CREATE ROLE stranger; GRANT calsync_operator TO stranger;",
        )
        .expect("a tenant comes and goes");
    let visible = "SELECT count(*) FROM calsync.status WHERE calendar = 'room'";

    world.sql.batch_execute("SET ROLE stranger").expect("role");
    assert_eq!(world.count(visible), 0);
    let refused = world.sql.execute("SELECT calsync_pause('room')", &[]).expect_err("it does not exist for a stranger");
    assert_eq!(sqlstate(&refused), "SC001");

    world.sql.batch_execute("RESET ROLE").expect("role");
    assert_eq!(world.count(visible), 1);
    assert!(world.sql.query_one("SELECT calsync_unsubscribe('room')", &[]).expect("unsubscribed").get::<_, bool>(0));
}
