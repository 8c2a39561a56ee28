//! Lowers EXCEPT and INTERSECT, with and without ALL.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::logical_expr::Extension;

use super::{Lowered, Lowering, node_of};
use crate::error::{PlanError, Result};
use crate::plan::PlanOp;
use crate::properties;
use crate::rewrite::as_of_join::AsOfJoinNode;
use crate::rewrite::nearest_join::NearestJoinNode;
use crate::rewrite::set_operation::SetOperationNode;

impl Lowering<'_> {
    /// A node of our own.
    pub(super) fn extension(&mut self, extension: &Extension) -> Result<Lowered> {
        let node = extension.node.as_any();
        if let Some(node) = node.downcast_ref::<AsOfJoinNode>() {
            return self.as_of_join(&node.join);
        }
        if let Some(node) = node.downcast_ref::<NearestJoinNode>() {
            return self.nearest_join(node);
        }
        match node.downcast_ref::<SetOperationNode>() {
            Some(node) => self.set_operation(node),
            None => Err(PlanError::Internal(format!(
                "no streaming operator for {}",
                extension.node.name()
            ))),
        }
    }

    fn set_operation(&mut self, node: &SetOperationNode) -> Result<Lowered> {
        let inputs = [self.lower(&node.left)?, self.lower(&node.right)?];
        // What one side never is the other may be.
        let left = node.left.schema().fields().iter();
        let fields: Vec<Field> = left
            .zip(node.right.schema().fields())
            .map(|(left, right)| {
                let is_nullable = left.is_nullable() || right.is_nullable();
                left.as_ref().clone().with_nullable(is_nullable)
            })
            .collect();
        let columns = fields.len();
        let schema = Arc::new(Schema::new(fields));
        if columns == 0 {
            return Err(PlanError::Unsupported {
                feature: "EXCEPT or INTERSECT of no columns in a materialized view".to_string(),
                hint: "select something".to_string(),
            });
        }
        let known = inputs.each_ref().map(|i| (&i.node.properties, &i.lineage));
        let (mut properties, lineage) =
            properties::of_set_operation(node.operation, &known, columns);
        if !lineage.unbounded.is_empty() && !lineage.windowed.contains(&true) {
            properties.grows = vec![format!(
                "EXCEPT and INTERSECT count every distinct row of source {}; select a window (TUMBLE, HOP) too to bound \
                 them",
                lineage.unbounded.join(", ")
            )];
        }
        let op = PlanOp::SetOperation {
            operation: node.operation,
        };
        let nodes = inputs.into_iter().map(|input| input.node).collect();
        Ok(Lowered {
            node: node_of(op, nodes, schema, properties),
            lineage,
        })
    }
}
