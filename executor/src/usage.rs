//! How much a relation takes on disk and in memtables.

use rivermark_planner::TableId;
use rivermark_planner::catalog::{MaterializedViewDef, ObjectId};

use crate::api::OperatorStatus;
use crate::operator_stats::OperatorReport;
use crate::state::{Family, Store};

/// Approximate bytes of a view's rows and operator state. Zero where the store can not tell at the moment.
pub fn state_bytes(store: &Store, def: &MaterializedViewDef) -> u64 {
    let rows = store.table_bytes(Family::Views, def.rows);
    let first = def.first_state_table.0;
    // An operator's tables are in one of the families, and take nothing in the other.
    let state = (first..first + def.state_tables).flat_map(|id| {
        let families = [Family::State, Family::Windowed];
        families.map(|family| store.table_bytes(family, TableId(id)))
    });
    std::iter::once(rows)
        .chain(state)
        .map(Result::unwrap_or_default)
        .sum()
}

/// The rows of `rivermark.operators` for the operators of a view.
pub fn operator_rows(
    store: &Store,
    view: ObjectId,
    reports: Vec<OperatorReport>,
) -> impl Iterator<Item = OperatorStatus> {
    (0..).zip(reports).map(move |(operator, report)| {
        let tables = report.tables.iter();
        let bytes = tables.map(|(family, id)| store.table_bytes(*family, *id).unwrap_or_default());
        let lookups = report.cache_hits + report.cache_misses;
        OperatorStatus {
            view,
            operator,
            name: report.name,
            rows_in: report.stats.rows_in,
            rows_out: report.stats.rows_out,
            rows_dropped: report.stats.dropped,
            busy: report.stats.busy,
            has_state: !report.tables.is_empty(),
            state_keys: report.keys,
            state_bytes: bytes.sum(),
            cache_hit_ratio: (lookups > 0).then(|| report.cache_hits as f64 / lookups as f64),
        }
    })
}
