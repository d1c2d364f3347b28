//! Busy time as the stories tell it: in days from today.

use chrono::NaiveDate;
use postgres::Client;

/// Busy time of a calendar from yesterday for sixty days, one interval a line, in UTC and days from `today`:
/// `+3 08:00 to 09:00`.
pub fn busy_days(sql: &mut Client, today: NaiveDate, calendar: &str) -> Result<Vec<String>, postgres::Error> {
    let rows = sql.query(
        "SELECT to_char(lower(busy)::date - $2::date, 'FMSG9990') || to_char(lower(busy), ' HH24:MI to ') || \
             CASE WHEN lower(busy)::date = upper(busy)::date THEN '' \
                  ELSE to_char(upper(busy)::date - $2::date, 'FMSG9990') || ' ' END || to_char(upper(busy), 'HH24:MI') \
         FROM calsync_busy(tstzrange($2::date - 1, $2::date + 60), ARRAY[$1])",
        &[&calendar, &today],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
