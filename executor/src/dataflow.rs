//! One view's operators, wired as its plan says.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use rivermark_planner::TableId;
use rivermark_planner::catalog::ObjectId;
use rivermark_planner::plan::{PlanNode, PlanOp};

use crate::consolidate::consolidate;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{Emit, EpochContext, Operator};
use crate::operators::build_operator;
use crate::pieces;
use crate::state::{CacheHandle, Family, StateTable, Store, WriteSet};

/// What a view reads in an epoch, by scanned object. Columns are those of [`Dataflow::scan_columns`].
pub type ViewInputs = BTreeMap<ObjectId, Vec<Delta>>;

/// A tree of running operators.
pub struct Dataflow {
    root: Node,
    schema: SchemaRef,
    /// Columns of each scanned object that any scan uses, ascending.
    scan_columns: BTreeMap<ObjectId, Vec<usize>>,
}

enum Node {
    Scan {
        object: ObjectId,
        columns: Vec<usize>,
    },
    Operator {
        operator: Box<dyn Operator>,
        inputs: Vec<Node>,
        is_dirty: bool,
    },
}

impl Dataflow {
    /// Builds the operators of a plan over state tables `first_table ..`, in depth-first order, inputs first.
    pub fn build(
        plan: &PlanNode,
        first_table: TableId,
        store: &Store,
        cache: &CacheHandle,
    ) -> Result<Self> {
        let mut scan_columns = BTreeMap::new();
        collect_columns(plan, &mut scan_columns);
        let mut builder = Builder {
            scan_columns: &scan_columns,
            next_table: first_table,
            next_operator: 0,
            store,
            cache,
        };
        let root = builder.build(plan)?;
        Ok(Dataflow {
            root,
            schema: plan.schema.clone(),
            scan_columns,
        })
    }

    pub fn scan_columns(&self) -> &BTreeMap<ObjectId, Vec<usize>> {
        &self.scan_columns
    }

    /// Pushes an epoch's input through all operators. `is_first`: the epoch that creates the view. The output is
    /// consolidated.
    pub fn run(
        &mut self,
        inputs: &ViewInputs,
        is_first: bool,
        context: &mut EpochContext,
    ) -> Result<Delta> {
        let mut deltas = Vec::new();
        self.root.run(inputs, is_first, context, &mut |delta, _| {
            if !delta.is_empty() {
                deltas.push(delta);
            }
            Ok(())
        })?;
        if deltas.is_empty() {
            return Ok(Delta::empty(self.schema.clone()));
        }
        let whole = Delta::concat(self.schema.clone(), &deltas)?;
        // Without weights nothing can cancel.
        if whole.weights().is_none() {
            Ok(whole)
        } else {
            consolidate(whole)
        }
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) {
        self.root.visit(&mut |operator| operator.drain_into(writes));
    }

    pub fn committed(&mut self) {
        self.root.visit(&mut |operator| operator.committed());
        self.root.clear_marks();
    }

    pub fn discard(&mut self) {
        self.root.visit_all(&mut |operator| operator.discard());
    }
}

/// Gives out ids while operators are built, in depth-first order, inputs first: the same after every restart.
struct Builder<'a> {
    scan_columns: &'a BTreeMap<ObjectId, Vec<usize>>,
    next_table: TableId,
    next_operator: u32,
    store: &'a Store,
    cache: &'a CacheHandle,
}

impl Builder<'_> {
    fn build(&mut self, plan: &PlanNode) -> Result<Node> {
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
            });
        }
        let inputs = plan
            .inputs
            .iter()
            .map(|input| self.build(input))
            .collect::<Result<Vec<_>>>()?;
        let tables = (0..plan.op.state_tables())
            .map(|_| self.next_state_table())
            .collect();
        let operator = build_operator(self.next_operator, plan, tables)?;
        self.next_operator += 1;
        Ok(Node::Operator {
            operator,
            inputs,
            is_dirty: false,
        })
    }

    fn next_state_table(&mut self) -> StateTable {
        let id = self.next_table;
        self.next_table.0 += 1;
        StateTable::new(id, Family::State, self.store.clone(), self.cache.clone())
    }
}

impl Node {
    /// Runs the subtree; what an operator gives goes on to the next one at once.
    fn run(
        &mut self,
        view_inputs: &ViewInputs,
        is_first: bool,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        match self {
            Node::Scan { object, columns } => {
                let deltas = view_inputs.get(object).into_iter().flatten();
                for delta in deltas.filter(|d| !d.is_empty()) {
                    let delta = delta.with_batch(delta.batch().project(columns)?);
                    for piece in pieces::split(delta) {
                        emit(piece, context)?;
                    }
                }
                Ok(())
            }
            Node::Operator {
                operator,
                inputs,
                is_dirty,
            } => {
                let mut has_input = is_first;
                if is_first {
                    *is_dirty = true;
                    for delta in operator.initialize(context)? {
                        emit(delta, context)?;
                    }
                }
                for (port, input) in inputs.iter_mut().enumerate() {
                    input.run(view_inputs, is_first, context, &mut |delta, context| {
                        if delta.is_empty() {
                            return Ok(());
                        }
                        has_input = true;
                        *is_dirty = true;
                        for delta in operator.push(port, delta, context)? {
                            emit(delta, context)?;
                        }
                        Ok(())
                    })?;
                }
                if has_input {
                    operator.finish_into(context, emit)?;
                }
                Ok(())
            }
        }
    }

    /// Visits the operators that ran since the last commit.
    fn visit(&mut self, action: &mut dyn FnMut(&mut dyn Operator)) {
        if let Node::Operator {
            operator,
            inputs,
            is_dirty,
        } = self
        {
            for input in inputs {
                input.visit(action);
            }
            if *is_dirty {
                action(operator.as_mut());
            }
        }
    }

    fn clear_marks(&mut self) {
        if let Node::Operator {
            inputs, is_dirty, ..
        } = self
        {
            *is_dirty = false;
            inputs.iter_mut().for_each(Node::clear_marks);
        }
    }

    fn visit_all(&mut self, action: &mut dyn FnMut(&mut dyn Operator)) {
        if let Node::Operator {
            operator,
            inputs,
            is_dirty,
        } = self
        {
            for input in inputs {
                input.visit_all(action);
            }
            action(operator.as_mut());
            *is_dirty = false;
        }
    }
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
