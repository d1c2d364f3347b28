//! `events.list` and `events.instances`.
//!
//! <https://developers.google.com/workspace/calendar/api/v3/reference/events/list>,
//! <https://developers.google.com/workspace/calendar/api/guides/sync>

use std::sync::Arc;

use serde_json::{Value, json};

use crate::calendar::{Calendar, Resource, text};
use crate::clock::{Version, instant};
use crate::edits;
use crate::error::ApiError;
use crate::expand;
use crate::http::Request;
use crate::query::{Order, Query, check_updated_min};
use crate::quirks::Quirks;
use crate::resources;
use crate::state::State;
use crate::times::Time;
use crate::tokens::{PageToken, Snapshot, SyncToken, hash};
use crate::view::View;

/// A resource on its way into a list, with what it is sorted by.
struct Row {
    changed: Version,
    resource: Resource,
    previous: Option<Resource>,
}

pub fn events(state: &mut State, id: &str, request: &Request) -> Result<Value, ApiError> {
    let calendar = state.calendar(id)?;
    let query = Query::parse(request, calendar.zone)?;
    query.check_sync_restrictions()?;
    check_updated_min(&query, state.clock.now())?;
    let quirks = state.quirks_of(&calendar.id).clone();
    let key = hash(&format!("{} {}", calendar.id, query.identity(request)));
    if let Some(token) = &query.page_token {
        return continue_pages(state, id, token, &query, key, &quirks);
    }
    let since = match &query.sync_token {
        Some(token) => Some(check_sync_token(calendar, token, &query, &quirks)?),
        None => None,
    };
    let mut rows = match since {
        Some(since) => delta(calendar, &query, since),
        None => full(calendar, &query),
    };
    sort(&mut rows, &query, calendar);
    let view = View::new(calendar, &query, &quirks);
    let items = render(&rows, &view, &quirks);
    let token = SyncToken { version: calendar.version, calendar: hash(&calendar.id), params: query.params_hash() };
    // "orderBy=startTime" yields no sync token.
    let sync_token = (query.order != Some(Order::StartTime)).then(|| token.encode());
    let snapshot = Snapshot { calendar: calendar.id.clone(), query: key, items: Arc::new(items), sync_token };
    let first_is_empty = quirks.empty_first_pages > 0;
    if first_is_empty {
        state.quirks_mut(id).empty_first_pages -= 1;
    }
    cut_page(state, id, snapshot, None, &query, first_is_empty)
}

pub fn instances(state: &mut State, id: &str, master: &str, request: &Request) -> Result<Value, ApiError> {
    let calendar = state.calendar(id)?;
    let query = Query::parse(request, calendar.zone)?;
    let quirks = state.quirks_of(&calendar.id).clone();
    let key = hash(&format!("{} {master} {}", calendar.id, query.identity(request)));
    if let Some(token) = &query.page_token {
        return continue_pages(state, id, token, &query, key, &quirks);
    }
    let stored = calendar.events.get(master).filter(|s| !s.hidden).ok_or_else(ApiError::not_found)?;
    let mut rows: Vec<Row> = Vec::new();
    if !stored.is_cancelled() {
        rows.extend(instance_rows(calendar, &stored.resource, stored.changed, &query));
    }
    for exception in calendar.exceptions_of(master) {
        let Some(stored) = calendar.events.get(&exception) else { continue };
        if !stored.hidden && (query.show_deleted == Some(true) || !stored.is_cancelled()) {
            rows.push(Row { changed: stored.changed, resource: stored.resource.clone(), previous: None });
        }
    }
    rows.retain(|row| query.in_window(&row.resource, calendar.zone));
    if let Some(original) = &query.original_start {
        rows.retain(|row| query.starts_originally(&row.resource, original, calendar.zone));
    }
    rows.sort_by_key(|row| start_of(&row.resource, calendar));
    let view = View::new(calendar, &query, &quirks);
    let items = rows.iter().map(|row| view.show(&row.resource)).collect();
    let snapshot = Snapshot { calendar: calendar.id.clone(), query: key, items: Arc::new(items), sync_token: None };
    cut_page(state, id, snapshot, None, &query, false)
}

fn check_sync_token(calendar: &Calendar, text: &str, query: &Query, quirks: &Quirks) -> Result<Version, ApiError> {
    let token = SyncToken::decode(text).ok_or_else(ApiError::invalid_sync_token)?;
    let is_ours = token.calendar == hash(&calendar.id) && token.version <= calendar.version;
    if !is_ours {
        return quirks.tolerate_foreign_tokens.then_some(token.version).ok_or_else(ApiError::invalid_sync_token);
    }
    if token.version <= calendar.expired_through {
        return Err(ApiError::full_sync_required());
    }
    if token.params != query.params_hash() && !quirks.tolerate_changed_parameters {
        return Err(ApiError::invalid(
            "Query parameters differ from those of the request that yielded the sync token.",
        ));
    }
    Ok(token.version)
}

/// All that changed after `since`, at any date, tombstones included.
fn delta(calendar: &Calendar, query: &Query, since: Version) -> Vec<Row> {
    let mut rows = Vec::new();
    for stored in calendar.events.values().filter(|s| s.changed > since && !s.hidden) {
        if !query.wants_type(&stored.resource) && !stored.is_cancelled() {
            continue;
        }
        if query.single_events && stored.is_master() {
            // A touched series brings its instances, a deleted one their tombstones.
            let mut instances = instance_rows(calendar, &stored.resource, stored.changed, query);
            rows.append(&mut instances);
            continue;
        }
        let previous = stored.previous.clone();
        rows.push(Row { changed: stored.changed, resource: stored.resource.clone(), previous });
    }
    rows
}

fn full(calendar: &Calendar, query: &Query) -> Vec<Row> {
    let mut rows = Vec::new();
    let show_deleted = query.show_deleted == Some(true);
    for stored in calendar.events.values().filter(|s| !s.hidden) {
        // "Cancelled instances of recurring events (but not the underlying recurring event) will still be included
        // if showDeleted and singleEvents are both False"; updatedMin brings tombstones in any case.
        let kept_tombstone = stored.is_exception() && !query.single_events;
        if stored.is_cancelled() && !show_deleted && !kept_tombstone && query.updated_min.is_none() {
            continue;
        }
        if !query.matches(&stored.resource) || query.updated_min.is_some_and(|min| instant(stored.changed) < min) {
            continue;
        }
        if query.single_events && stored.is_master() {
            if !stored.is_cancelled() || show_deleted {
                let instances = instance_rows(calendar, &stored.resource, stored.changed, query);
                rows.extend(instances.into_iter().filter(|r| query.in_window(&r.resource, calendar.zone)));
            }
            continue;
        }
        let inside = match stored.is_master() {
            true => series_in_window(calendar, &stored.resource, query),
            false => query.in_window(&stored.resource, calendar.zone),
        };
        if inside {
            let previous = stored.previous.clone();
            rows.push(Row { changed: stored.changed, resource: stored.resource.clone(), previous });
        }
    }
    rows
}

fn instance_rows(calendar: &Calendar, master: &Resource, changed: Version, query: &Query) -> Vec<Row> {
    let before = if query.sync_token.is_some() { None } else { query.time_max };
    let times = expand::plain_times(calendar, master, before);
    let rows = times.into_iter().map(|(time, length)| {
        let resource = resources::instance(master, &time, length, calendar.zone);
        Row { changed, resource, previous: None }
    });
    rows.collect()
}

/// A master is listed where any of its occurrences lies in the window; its exceptions speak for themselves.
fn series_in_window(calendar: &Calendar, master: &Resource, query: &Query) -> bool {
    if query.time_min.is_none() && query.time_max.is_none() {
        return true;
    }
    let Ok(series) = expand::Series::read(master, calendar.zone) else { return true };
    let cap = if query.time_max.is_some() { usize::MAX } else { expand::ENDLESS };
    series.starts(query.time_max, cap).into_iter().any(|(start, length)| {
        let end = start.plus(length.unwrap_or(series.length)).instant(calendar.zone);
        query.time_min.is_none_or(|min| end > min)
            && query.time_max.is_none_or(|max| start.instant(calendar.zone) < max)
    })
}

fn start_of(resource: &Resource, calendar: &Calendar) -> Option<chrono::DateTime<chrono::Utc>> {
    let start = resource.get("start").or_else(|| resource.get("originalStartTime"))?;
    Some(Time::parse(start, calendar.zone, "start").ok()?.instant(calendar.zone))
}

fn sort(rows: &mut [Row], query: &Query, calendar: &Calendar) {
    match query.order {
        Some(Order::StartTime) => rows.sort_by_cached_key(|row| start_of(&row.resource, calendar)),
        // By last change, which also is our "unspecified, stable order"; a master comes before its exceptions,
        // since its id is their ids' beginning.
        Some(Order::Updated) | None => {
            rows.sort_by(|a, b| (a.changed, text(&a.resource, "id")).cmp(&(b.changed, text(&b.resource, "id"))));
        }
    }
}

fn render(rows: &[Row], view: &View, quirks: &Quirks) -> Vec<Value> {
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        if quirks.duplicates {
            items.push(view.show(row.previous.as_ref().unwrap_or(&row.resource)));
        }
        items.push(view.show(&row.resource));
    }
    if quirks.reversed {
        items.reverse();
    }
    items
}

fn continue_pages(
    state: &mut State,
    id: &str,
    token: &str,
    query: &Query,
    key: u64,
    quirks: &Quirks,
) -> Result<Value, ApiError> {
    let invalid = || ApiError::invalid_value("pageToken");
    let token = PageToken::decode(token).ok_or_else(invalid)?;
    let snapshot = state.snapshots.get(token.snapshot).ok_or_else(invalid)?.clone();
    let same_query = snapshot.query == key || quirks.tolerate_changed_parameters;
    if snapshot.calendar != state.calendar(id)?.id || !same_query || token.offset > snapshot.items.len() {
        return Err(invalid());
    }
    cut_page(state, id, snapshot, Some(token), query, false)
}

fn cut_page(
    state: &mut State,
    id: &str,
    snapshot: Snapshot,
    at: Option<PageToken>,
    query: &Query,
    first_is_empty: bool,
) -> Result<Value, ApiError> {
    let quirks = state.quirks_of(id).clone();
    let mut answer = state.calendar(id)?.events_head();
    let (offset, page) = at.map_or((0, 1), |token| (token.offset, token.page));
    let empty = first_is_empty || quirks.empty_every.is_some_and(|n| n > 1 && page % n == 0);
    let size = query.max_results.min(quirks.page_size_cap.unwrap_or(usize::MAX)).max(1);
    let end = if empty { offset } else { (offset + size).min(snapshot.items.len()) };
    answer.insert("items".into(), json!(snapshot.items[offset..end]));
    if empty || end < snapshot.items.len() {
        let kept = match at {
            Some(token) => token.snapshot,
            None => state.snapshots.keep(snapshot),
        };
        let next = PageToken { snapshot: kept, offset: end, page: page + 1 };
        answer.insert("nextPageToken".into(), json!(next.encode()));
        return Ok(Value::Object(answer));
    }
    if let Some(token) = at {
        state.snapshots.finish(token.snapshot);
    }
    match snapshot.sync_token {
        Some(_) if quirks.omit_sync_tokens > 0 => state.quirks_mut(id).omit_sync_tokens -= 1,
        Some(token) => drop(answer.insert("nextSyncToken".into(), json!(token))),
        None => {}
    }
    Ok(Value::Object(answer))
}

/// `events.get`: "the get method always returns" cancelled events too.
pub fn get(state: &mut State, id: &str, event: &str, request: &Request) -> Result<Value, ApiError> {
    let calendar = state.calendar(id)?;
    let query = Query::parse(request, calendar.zone)?;
    let resource = edits::look_up(calendar, event).ok_or_else(ApiError::not_found)?;
    Ok(View::complete(calendar, &query).show(&resource))
}
