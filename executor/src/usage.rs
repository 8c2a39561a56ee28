//! How much a relation takes on disk and in memtables.

use rivermark_planner::TableId;
use rivermark_planner::catalog::MaterializedViewDef;

use crate::state::{Family, Store};

/// Approximate bytes of a view's rows and operator state. Zero where the store can not tell at the moment.
pub fn state_bytes(store: &Store, def: &MaterializedViewDef) -> u64 {
    let rows = store.table_bytes(Family::Views, def.rows);
    let first = def.first_state_table.0;
    let state =
        (first..first + def.state_tables).map(|id| store.table_bytes(Family::State, TableId(id)));
    std::iter::once(rows)
        .chain(state)
        .map(Result::unwrap_or_default)
        .sum()
}
