//! The schema `rivermark`: the server's state as relations, readable like any other.

use std::sync::Arc;

use rivermark_executor::api::{DeadLetter, ViewState};
use rivermark_planner::Catalog;
use rivermark_planner::catalog::{Object, ObjectKind};

use crate::catalog::Namespace;
use crate::pg_error::PgError;
use crate::rows::ColumnType::{Bool, Bytea, Float8, Int4, Int8, Text, TextArray, Timestamptz};
use crate::rows::{Cell, Column, Rows};

const SOURCES: &[Column] = &[
    ("schema", Text),
    ("name", Text),
    ("partition", Int4),
    ("offset", Int8),
    ("end_offset", Int8),
    ("lag", Int8),
    ("watermark", Timestamptz),
    ("rows", Int8),
    ("bytes", Int8),
    ("late_rows", Int8),
    ("dead_letters", Int8),
    ("status", Text),
    ("last_error", Text),
];

const MATERIALIZED_VIEWS: &[Column] = &[
    ("schema", Text),
    ("name", Text),
    ("status", Text),
    ("progress", Float8),
    ("rows", Int8),
    ("state_bytes", Int8),
    ("epoch", Int8),
    ("freshness_ms", Int8),
    ("dead_letters", Int8),
    ("definition", Text),
    ("last_error", Text),
];

const OPERATORS: &[Column] = &[
    ("schema", Text),
    ("object", Text),
    ("operator", Int4),
    ("name", Text),
    ("rows_in", Int8),
    ("rows_out", Int8),
    ("rows_dropped", Int8),
    ("busy_ms", Float8),
    ("state_keys", Int8),
    ("state_bytes", Int8),
    ("cache_hit_ratio", Float8),
];

const DEAD_LETTERS: &[Column] = &[
    ("at", Timestamptz),
    ("object", Text),
    ("partition", Int4),
    ("offset", Int8),
    ("column", Text),
    ("key", Bytea),
    ("payload", Text),
    ("error", Text),
    ("count", Int8),
];

const LATE_ROWS: &[Column] = &[
    ("at", Timestamptz),
    ("source", Text),
    ("partition", Int4),
    ("offset", Int8),
    ("ts", Timestamptz),
    ("watermark", Timestamptz),
];

const EPOCHS: &[Column] = &[
    ("epoch", Int8),
    ("published_at", Timestamptz),
    ("rows_in", Int8),
    ("bytes_written", Int8),
    ("compute_us", Int8),
    ("commit_us", Int8),
    ("is_durable", Bool),
];

const SECRETS: &[Column] = &[("name", Text), ("used_by", TextArray)];

const SERVER: &[Column] = &[
    ("version", Text),
    ("started_at", Timestamptz),
    ("epoch", Int8),
    ("durable_epoch", Int8),
    ("memory_limit", Int8),
    ("resident_bytes", Int8),
    ("store_memory_bytes", Int8),
    ("memtable_bytes", Int8),
    ("disk_bytes", Int8),
    ("sessions", Int8),
    ("storage_error", Text),
];

const SETTINGS: &[Column] = &[("name", Text), ("setting", Text), ("description", Text)];

const SESSIONS: &[Column] = &[
    ("pid", Int4),
    ("user", Text),
    ("application_name", Text),
    ("client", Text),
    ("connected_at", Timestamptz),
    ("state", Text),
    ("statement_at", Timestamptz),
    ("statement", Text),
];

/// Every view with its columns.
pub const VIEWS: &[(&str, &[Column])] = &[
    ("dead_letters", DEAD_LETTERS),
    ("epochs", EPOCHS),
    ("late_rows", LATE_ROWS),
    ("materialized_views", MATERIALIZED_VIEWS),
    ("operators", OPERATORS),
    ("secrets", SECRETS),
    ("server", SERVER),
    ("sessions", SESSIONS),
    ("settings", SETTINGS),
    ("sources", SOURCES),
];

/// The rows of the view of that name; `None` if there is no such view.
pub fn rows(name: &str, names: &Namespace) -> Result<Option<Rows>, PgError> {
    Ok(Some(match name {
        "sources" => sources(names),
        "materialized_views" => materialized_views(names),
        "operators" => operators(names),
        "dead_letters" => dead_letters(names)?,
        "late_rows" => late_rows(names)?,
        "epochs" => epochs(names),
        "secrets" => secrets(names),
        "server" => server(names)?,
        "settings" => settings(names),
        "sessions" => sessions(names),
        _ => return Ok(None),
    }))
}

fn sources(names: &Namespace) -> Rows {
    let mut rows = Rows::new(SOURCES);
    let engine = &names.server.engine;
    for source in engine.sources().into_iter().chain(engine.timed_tables()) {
        let lag = match (source.end_offset, source.offset) {
            (Some(end), Some(offset)) if end >= 0 => Some((end - offset).max(0)),
            _ => None,
        };
        rows.push(vec![
            source.name.schema.into(),
            source.name.name.into(),
            source.partition.into(),
            source.offset.into(),
            source.end_offset.filter(|end| *end >= 0).into(),
            lag.into(),
            source.watermark_us.into(),
            source.rows.into(),
            source.bytes.into(),
            source.late_rows.into(),
            source.dead_letters.into(),
            source.status.into(),
            source.last_error.into(),
        ]);
    }
    rows
}

fn materialized_views(names: &Namespace) -> Rows {
    let mut rows = Rows::new(MATERIALIZED_VIEWS);
    for view in names.server.engine.materialized_views() {
        let definition = names
            .snapshot
            .catalog
            .get(view.view)
            .and_then(|o| match &o.kind {
                ObjectKind::MaterializedView(view) => Some(view.query.clone()),
                ObjectKind::Source(_)
                | ObjectKind::Table(_)
                | ObjectKind::View(_)
                | ObjectKind::Index(_) => None,
            });
        let error = match &view.state {
            ViewState::Failed(error) => Some(error.clone()),
            ViewState::Backfilling
            | ViewState::Running
            | ViewState::Paused
            | ViewState::NeedsRebuild => None,
        };
        rows.push(vec![
            view.name.schema.into(),
            view.name.name.into(),
            match view.rebuild_progress {
                Some(_) => "REBUILDING".into(),
                None => view.state.as_str().into(),
            },
            Cell::Float(view.rebuild_progress.unwrap_or(view.progress)),
            view.rows.into(),
            view.state_bytes.into(),
            view.epoch.into(),
            view.freshness_ms.into(),
            view.dead_letters.into(),
            definition.into(),
            error.into(),
        ]);
    }
    rows
}

fn operators(names: &Namespace) -> Rows {
    let mut rows = Rows::new(OPERATORS);
    for operator in names.server.engine.operators() {
        let Some(view) = names.snapshot.catalog.get(operator.view) else {
            continue;
        };
        rows.push(vec![
            view.name.schema.as_str().into(),
            view.name.name.as_str().into(),
            (operator.operator as i32).into(),
            operator.name.into(),
            operator.rows_in.into(),
            operator.rows_out.into(),
            operator.rows_dropped.into(),
            Cell::Float(operator.busy.as_secs_f64() * 1000.0),
            operator.state_keys.map_or(Cell::Null, Cell::from),
            operator.state_bytes.into(),
            operator.cache_hit_ratio.map_or(Cell::Null, Cell::Float),
        ]);
    }
    rows
}

/// The payload as text; bytes that are no UTF-8 are shown as `\x..`.
fn shown_payload(payload: &[u8]) -> String {
    let mut text = String::with_capacity(payload.len());
    for chunk in payload.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    // a text value can not hold it
    text.replace('\0', "\\x00")
}

fn object_name(catalog: &Catalog, letter: &DeadLetter) -> String {
    catalog
        .get(letter.object)
        .map_or_else(|| format!("({})", letter.object), |o| o.name.to_string())
}

fn dead_letters(names: &Namespace) -> Result<Rows, PgError> {
    let mut rows = Rows::new(DEAD_LETTERS);
    for letter in names.snapshot.dead_letters()? {
        rows.push(vec![
            letter.at_us.into(),
            object_name(&names.snapshot.catalog, &letter).into(),
            letter.partition.into(),
            letter.offset.into(),
            letter.column.into(),
            letter.key.map_or(Cell::Null, Cell::Bytes),
            shown_payload(&letter.payload).into(),
            letter.error.into(),
            letter.count.into(),
        ]);
    }
    Ok(rows)
}

fn late_rows(names: &Namespace) -> Result<Rows, PgError> {
    let mut rows = Rows::new(LATE_ROWS);
    for late in names.snapshot.late_rows()? {
        let Some(source) = names.snapshot.catalog.get(late.object) else {
            continue;
        };
        rows.push(vec![
            late.at_us.into(),
            source.name.to_string().into(),
            late.partition.into(),
            late.offset.into(),
            late.time_us.into(),
            late.watermark_us.into(),
        ]);
    }
    Ok(rows)
}

fn epochs(names: &Namespace) -> Rows {
    let mut rows = Rows::new(EPOCHS);
    for epoch in names.server.engine.epochs() {
        rows.push(vec![
            epoch.epoch.into(),
            epoch.published_at_us.into(),
            epoch.rows_in.into(),
            epoch.bytes_written.into(),
            epoch.compute_us.into(),
            epoch.commit_us.into(),
            epoch.is_durable.into(),
        ]);
    }
    rows
}

/// What secrets are called; never what they are.
fn secrets(names: &Namespace) -> Rows {
    let mut rows = Rows::new(SECRETS);
    let catalog = &names.snapshot.catalog;
    for secret in catalog.security.secret_names() {
        let uses = |object: &&Arc<Object>| match &object.kind {
            ObjectKind::Source(def) => def.secrets.values().any(|used| used == secret),
            ObjectKind::Table(_)
            | ObjectKind::View(_)
            | ObjectKind::MaterializedView(_)
            | ObjectKind::Index(_) => false,
        };
        let users = catalog.objects().filter(uses);
        let users = users.map(|object| object.name.to_string());
        rows.push(vec![secret.into(), Cell::Texts(users.collect())]);
    }
    rows
}

/// One row about the process.
fn server(names: &Namespace) -> Result<Rows, PgError> {
    let server = &names.server;
    let usage = server.engine.store_usage()?;
    let mut rows = Rows::new(SERVER);
    rows.push(vec![
        env!("CARGO_PKG_VERSION").into(),
        server.started_at_us.into(),
        names.snapshot.epoch.into(),
        server.engine.durable_epoch().into(),
        (server.memory_limit as u64).into(),
        resident_bytes().into(),
        (usage.memory_bytes as u64).into(),
        (usage.memtable_bytes as u64).into(),
        usage.disk_bytes.into(),
        (server.sessions.rows().len() as u64).into(),
        server.engine.storage_error().into(),
    ]);
    Ok(rows)
}

/// Bytes of memory that the process occupies, where the system says so.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

fn settings(names: &Namespace) -> Rows {
    let mut rows = Rows::new(SETTINGS);
    for (name, value, description) in names.session.settings.lock().all() {
        rows.push(vec![name.into(), value.into(), description.into()]);
    }
    rows
}

fn sessions(names: &Namespace) -> Rows {
    let mut rows = Rows::new(SESSIONS);
    for session in names.sessions() {
        rows.push(vec![
            session.pid.into(),
            session.user.into(),
            session.application_name.into(),
            session.peer.map(|p| p.to_string()).into(),
            session.connected_at_us.into(),
            session.state.into(),
            session.statement_at_us.into(),
            session.statement.into(),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_payload_can_be_shown() {
        assert_eq!(shown_payload(b"{\"a\": \xff\0}"), "{\"a\": \\xff\\x00}");
        assert_eq!(shown_payload("grün".as_bytes()), "grün");
    }
}
