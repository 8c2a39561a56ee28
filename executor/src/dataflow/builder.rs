//! Makes running operators of a plan.

use std::collections::BTreeMap;

use rivermark_planner::catalog::ObjectId;
use rivermark_planner::plan::{PlanNode, PlanOp};
use rivermark_planner::prefix::Prefix;

use super::{Node, NodePrefix};
use crate::error::{ExecutorError, Result};
use crate::operator_stats::OperatorStats;
use crate::operators::build_operator;
use crate::state::{CacheHandle, Family, StateTable, Store, TableId};
use crate::watermark::NodeMarks;

/// Gives out ids while operators are built, in depth-first order, inputs first: the same after every restart.
pub(super) struct Builder<'a> {
    scan_columns: &'a BTreeMap<ObjectId, Vec<usize>>,
    next_table: TableId,
    next_operator: u32,
    store: &'a Store,
    cache: &'a CacheHandle,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        scan_columns: &'a BTreeMap<ObjectId, Vec<usize>>,
        first_table: TableId,
        store: &'a Store,
        cache: &'a CacheHandle,
    ) -> Self {
        Builder {
            scan_columns,
            next_table: first_table,
            next_operator: 0,
            store,
            cache,
        }
    }

    pub(super) fn build(&mut self, plan: &PlanNode) -> Result<Node> {
        if let PlanOp::Scan {
            object, columns, ..
        } = &plan.op
        {
            let available = &self.scan_columns[object];
            let columns = columns
                .iter()
                .map(|c| {
                    available
                        .binary_search(c)
                        .map_err(|_| ExecutorError::Internal(format!("scan column {c}")))
                })
                .collect::<Result<Vec<usize>>>()?;
            return Ok(Node::Scan {
                object: *object,
                columns,
                prefix: self.prefix_of(plan),
                stats: OperatorStats::default(),
            });
        }
        let inputs = plan
            .inputs
            .iter()
            .map(|input| self.build(input))
            .collect::<Result<Vec<_>>>()?;
        let tables = (0..plan.op.state_tables())
            .map(|_| self.next_state_table(plan.op.is_windowed()))
            .collect();
        let operator = build_operator(self.next_operator, plan, tables)?;
        self.next_operator += 1;
        let prefix = self.prefix_of(plan).map(|prefix| NodePrefix {
            first_operator: self.next_operator - prefix.operators() as u32,
            prefix,
            id: None,
            above: None,
        });
        Ok(Node::Operator {
            operator,
            inputs,
            is_dirty: false,
            prefix,
            stats: OperatorStats::default(),
            marks: Box::new(NodeMarks::of(plan)),
        })
    }

    fn prefix_of(&self, plan: &PlanNode) -> Option<Prefix> {
        Prefix::of(plan, &|object| self.scan_columns[&object].clone())
    }

    fn next_state_table(&mut self, is_windowed: bool) -> StateTable {
        let id = self.next_table;
        self.next_table.0 += 1;
        let family = match is_windowed {
            true => Family::Windowed,
            false => Family::State,
        };
        StateTable::new(id, family, self.store.clone(), self.cache.clone())
    }
}

/// Columns of each scanned object that any scan uses, ascending.
pub(super) fn scan_columns(plan: &PlanNode) -> BTreeMap<ObjectId, Vec<usize>> {
    let mut found = BTreeMap::new();
    collect_columns(plan, &mut found);
    found
}

fn collect_columns(node: &PlanNode, found: &mut BTreeMap<ObjectId, Vec<usize>>) {
    if let PlanOp::Scan {
        object, columns, ..
    } = &node.op
    {
        let all = found.entry(*object).or_default();
        all.extend(columns);
        all.sort_unstable();
        all.dedup();
    }
    for input in &node.inputs {
        collect_columns(input, found);
    }
}
