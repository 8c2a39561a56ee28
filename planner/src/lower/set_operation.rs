//! Lowers EXCEPT and INTERSECT, with and without ALL.

use datafusion::logical_expr::Extension;

use super::{Lowered, Lowering, node_of};
use crate::error::{PlanError, Result};
use crate::plan::PlanOp;
use crate::properties;
use crate::rewrite::set_operation::SetOperationNode;

impl Lowering<'_> {
    /// A node of our own.
    pub(super) fn extension(&mut self, extension: &Extension) -> Result<Lowered> {
        match extension.node.as_any().downcast_ref::<SetOperationNode>() {
            Some(node) => self.set_operation(node),
            None => Err(PlanError::Internal(format!(
                "no streaming operator for {}",
                extension.node.name()
            ))),
        }
    }

    fn set_operation(&mut self, node: &SetOperationNode) -> Result<Lowered> {
        let inputs = [self.lower(&node.left)?, self.lower(&node.right)?];
        let schema = super::schema_of(&node.left);
        let columns = schema.fields().len();
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
