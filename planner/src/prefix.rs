//! What plans of several views may have in common: a scan and the operators without state right above it. Of equal
//! prefixes the work of an epoch is done once, whichever views they belong to.

use std::sync::Arc;

use arrow::datatypes::Fields;
use datafusion::physical_plan::PhysicalExpr;

use crate::catalog::ObjectId;
use crate::plan::{GroupingSet, PlanNode, PlanOp};

/// A chain of stateless operators over a scan. Equal ones give the same rows for the same input, and the same
/// failures: what runs is compared, not its text, and names count as far as they show in a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix {
    object: ObjectId,
    /// Columns that the whole view uses of the object: a message of which one of them can not be converted is missing.
    used: Vec<usize>,
    /// The scan, then the operators from the bottom up.
    steps: Vec<(Step, Fields)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Scan(Vec<usize>),
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>),
    Unnest(Vec<usize>),
    GroupingSets(Vec<Arc<dyn PhysicalExpr>>, Vec<GroupingSet>),
}

impl Prefix {
    /// The subtree of `node`, if it is such a chain. `used` says which columns the whole view uses of an object.
    pub fn of(node: &PlanNode, used: &dyn Fn(ObjectId) -> Vec<usize>) -> Option<Prefix> {
        let step = match &node.op {
            PlanOp::Scan { columns, .. } => Step::Scan(columns.clone()),
            PlanOp::Filter { predicate } => Step::Filter(predicate.physical.clone()),
            PlanOp::Project { exprs } => {
                Step::Project(exprs.iter().map(|expr| expr.physical.clone()).collect())
            }
            PlanOp::Unnest { columns } => Step::Unnest(columns.clone()),
            PlanOp::GroupingSets { keys, sets } => {
                let keys = keys.iter().map(|key| key.physical.clone()).collect();
                Step::GroupingSets(keys, sets.clone())
            }
            PlanOp::Values { .. }
            | PlanOp::UnionAll
            | PlanOp::TemporalFilter { .. }
            | PlanOp::Aggregate { .. }
            | PlanOp::Panes { .. }
            | PlanOp::SetOperation { .. }
            | PlanOp::Over { .. }
            | PlanOp::Session { .. }
            | PlanOp::TopN { .. }
            | PlanOp::WindowClose { .. }
            | PlanOp::Nearest { .. }
            | PlanOp::Join { .. } => return None,
        };
        let mut prefix = match (&node.op, node.inputs.as_slice()) {
            (PlanOp::Scan { object, .. }, _) => Prefix {
                object: *object,
                used: used(*object),
                steps: Vec::new(),
            },
            (_, [input]) => Prefix::of(input, used)?,
            _ => return None,
        };
        prefix.steps.push((step, node.schema.fields().clone()));
        Some(prefix)
    }

    /// What is scanned at the bottom.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// How many operators there are above the scan.
    pub fn operators(&self) -> usize {
        self.steps.len() - 1
    }
}

/// The columns that a plan uses of `object`, ascending.
pub fn used_columns(plan: &PlanNode, object: ObjectId) -> Vec<usize> {
    let mut found = Vec::new();
    collect(plan, object, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(node: &PlanNode, wanted: ObjectId, found: &mut Vec<usize>) {
    if let PlanOp::Scan {
        object, columns, ..
    } = &node.op
        && *object == wanted
    {
        found.extend(columns);
    }
    for input in &node.inputs {
        collect(input, wanted, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    /// The prefixes of a view's plan, the longest first, of its first scan.
    fn prefixes(sql: &str) -> Vec<Prefix> {
        fn find(node: &PlanNode, root: &PlanNode, found: &mut Vec<Prefix>) {
            found.extend(Prefix::of(node, &|object| used_columns(root, object)));
            if let Some(input) = node.inputs.first() {
                find(input, root, found);
            }
        }
        let root = plan(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .plan
            .root;
        let mut found = Vec::new();
        find(&root, &root, &mut found);
        found
    }

    /// How many operators two views have in common above their scan; `None`: not even that.
    fn common(one: &str, other: &str) -> Option<usize> {
        let others = prefixes(other);
        let shared = prefixes(one)
            .into_iter()
            .find(|prefix| others.contains(prefix));
        shared.map(|prefix| prefix.operators())
    }

    #[test]
    fn equal_work_is_recognised() {
        let minute = "TUMBLE(log, at, INTERVAL '1 minute')";
        let hop = "HOP(log, at, INTERVAL '1 minute', INTERVAL '5 minutes')";
        for (one, other, expected) in [
            (
                format!("SELECT window_start, avg(x) AS y FROM {minute} WHERE k <> 'x' GROUP BY 1"),
                format!("SELECT window_start, max(x) AS z FROM {minute} WHERE k <> 'x' GROUP BY 1"),
                Some(3),
            ),
            // another condition, another window, other columns
            (
                format!("SELECT window_start, avg(x) AS y FROM {minute} WHERE k <> 'x' GROUP BY 1"),
                format!("SELECT window_start, avg(x) AS y FROM {minute} WHERE k <> 'y' GROUP BY 1"),
                Some(0),
            ),
            (
                format!("SELECT window_start, count(*) AS n FROM {minute} GROUP BY 1"),
                format!("SELECT window_start, count(*) AS n FROM {hop} GROUP BY 1"),
                Some(0),
            ),
            (
                format!("SELECT window_start, avg(x) AS y FROM {minute} GROUP BY 1"),
                format!("SELECT window_start, count(*) AS n FROM {minute} GROUP BY 1"),
                None,
            ),
            // the same condition, then something else
            (
                "SELECT a + 1 AS c FROM t WHERE a > 3".to_string(),
                "SELECT a + 2 AS c FROM t WHERE a > 3".to_string(),
                Some(1),
            ),
            // of the same table, but another column beside a join
            (
                "SELECT t.id FROM t JOIN log ON t.name = log.k WHERE t.a > 3".to_string(),
                "SELECT t.id FROM t JOIN log ON t.name = log.k WHERE t.a > 3 AND log.v > 2"
                    .to_string(),
                Some(2),
            ),
        ] {
            assert_eq!(common(&one, &other), expected, "{one}\n{other}");
            assert_eq!(common(&other, &one), expected, "{one}\n{other}");
        }
    }

    #[test]
    fn state_ends_a_prefix() {
        for sql in [
            "SELECT a, count(*) AS n FROM t GROUP BY a",
            "SELECT id FROM t ORDER BY a LIMIT 1",
            "SELECT t.id FROM t JOIN log ON t.name = log.k",
            "SELECT a FROM t UNION ALL SELECT b FROM t",
        ] {
            let above = prefixes(sql);
            assert!(above.iter().all(|prefix| prefix.operators() <= 1), "{sql}");
        }
    }
}
