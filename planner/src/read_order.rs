//! In which order a new view reads what it scans: rows that are joined with what a relation is when they come must not come
//! before all of that relation has been read.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::ObjectId;
use crate::plan::{PlanNode, PlanOp};

/// Per object, those of which all that there is must be read first.
pub type ReadOrder = BTreeMap<ObjectId, BTreeSet<ObjectId>>;

/// The order for a plan.
pub fn read_order(root: &PlanNode) -> ReadOrder {
    let mut order = ReadOrder::new();
    collect(root, &mut order);
    order
}

/// Whether an object would have to be read before itself.
pub fn is_circular(order: &ReadOrder) -> bool {
    let reaches_itself = |start: &ObjectId| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<ObjectId> = order[start].iter().copied().collect();
        while let Some(object) = open.pop() {
            if object == *start {
                return true;
            }
            if seen.insert(object) {
                open.extend(order.get(&object).into_iter().flatten());
            }
        }
        false
    };
    order.keys().any(reaches_itself)
}

fn collect(node: &PlanNode, order: &mut ReadOrder) {
    for input in &node.inputs {
        collect(input, order);
    }
    if let (
        PlanOp::Join {
            is_as_of_now: true, ..
        },
        [left, right],
    ) = (&node.op, node.inputs.as_slice())
    {
        let mut coming = BTreeSet::new();
        coming_objects(left, &mut coming);
        for object in coming {
            order
                .entry(object)
                .or_default()
                .extend(right.scanned_objects());
        }
    }
}

/// The objects below whose rows come to a join: not those that others below are joined with as they are.
fn coming_objects(node: &PlanNode, found: &mut BTreeSet<ObjectId>) {
    if let PlanOp::Scan { object, .. } = &node.op {
        found.insert(*object);
    }
    let inputs = match &node.op {
        PlanOp::Join {
            is_as_of_now: true, ..
        } => &node.inputs[..1],
        _ => &node.inputs[..],
    };
    inputs.iter().for_each(|input| coming_objects(input, found));
}
