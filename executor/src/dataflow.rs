//! One view's operators, wired as its plan says.

use std::collections::BTreeMap;
use std::sync::Arc;

use rivermark_planner::TableId;
use rivermark_planner::catalog::ObjectId;
use rivermark_planner::plan::{PlanNode, PlanOp};
use rivermark_planner::prefix::Prefix;

use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{Emit, EpochContext, Operator};
use crate::operator_stats::{OperatorReport, OperatorStats};
use crate::operators::build_operator;
use crate::pieces;
use crate::shared_prefix::{EpochShares, PrefixId, SharedPrefixes};
use crate::spool::SpooledDelta;
use crate::state::{CacheHandle, Family, StateTable, Store, WriteSet};
use crate::watermark::{MarkRule, Watermarks};

/// What a view reads in an epoch, by scanned object. Columns are those of [`Dataflow::scan_columns`].
pub type ViewInputs = BTreeMap<ObjectId, ScanInput>;

/// What a view reads of one object in an epoch.
pub struct ScanInput {
    pub parts: Vec<InputPart>,
    /// Whether that is what every view gets that uses the same columns: all that the epoch changed.
    pub is_live: bool,
    /// What the rows still to come are not below.
    pub watermarks: Watermarks,
}

/// A part of what a view reads.
#[derive(Clone)]
pub enum InputPart {
    Delta(Delta),
    /// Columns of a change that is too large to be in memory; with `up_to` only rows with storage keys up to that one.
    Spooled {
        change: Arc<SpooledDelta>,
        columns: Vec<usize>,
        up_to: Option<Vec<u8>>,
    },
}

impl InputPart {
    /// Hands over the given ones of its columns.
    fn for_each(&self, columns: &[usize], take: &mut dyn FnMut(Delta) -> Result<()>) -> Result<()> {
        match self {
            InputPart::Delta(delta) if delta.is_empty() => Ok(()),
            InputPart::Delta(delta) => take(delta.with_batch(delta.batch().project(columns)?)),
            InputPart::Spooled {
                change,
                columns: available,
                up_to,
            } => {
                let columns: Vec<usize> = columns.iter().map(|c| available[*c]).collect();
                change.for_each(up_to.as_deref(), &mut |delta| {
                    take(delta.with_batch(delta.batch().project(&columns)?))
                })
            }
        }
    }
}

/// What the views of an epoch share.
pub struct Sharing<'a> {
    pub prefixes: &'a SharedPrefixes,
    pub shares: &'a mut EpochShares,
    /// How much may be kept of outputs.
    pub max_bytes: usize,
}

/// One run of a dataflow.
struct Run<'a, 'b> {
    inputs: &'a ViewInputs,
    is_first: bool,
    sharing: &'a mut Sharing<'b>,
}

/// A tree of running operators.
pub struct Dataflow {
    root: Node,
    /// Columns of each scanned object that any scan uses, ascending.
    scan_columns: BTreeMap<ObjectId, Vec<usize>>,
}

enum Node {
    Scan {
        object: ObjectId,
        columns: Vec<usize>,
        prefix: Option<Prefix>,
        stats: OperatorStats,
    },
    Operator {
        operator: Box<dyn Operator>,
        inputs: Vec<Node>,
        is_dirty: bool,
        /// Set if there is nothing but operators without state below, down to a scan.
        prefix: Option<NodePrefix>,
        stats: OperatorStats,
        rule: MarkRule,
        /// The bounds of the inputs that the operator was told last.
        told: Option<Vec<Watermarks>>,
    },
}

/// A prefix that other views may have, too.
struct NodePrefix {
    prefix: Prefix,
    /// The id of its first operator.
    first_operator: u32,
    id: Option<PrefixId>,
    /// The prefix that the next operator makes of it, if it does.
    above: Option<PrefixId>,
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
        Ok(Dataflow { root, scan_columns })
    }

    pub fn scan_columns(&self) -> &BTreeMap<ObjectId, Vec<usize>> {
        &self.scan_columns
    }

    /// Pushes an epoch's input through all operators. `is_first`: the epoch that creates the view. The output, piece
    /// by piece, goes to `take`; it is not consolidated. Returns the bounds of what comes in later epochs.
    pub fn run(
        &mut self,
        inputs: &ViewInputs,
        is_first: bool,
        sharing: &mut Sharing<'_>,
        context: &mut EpochContext,
        take: &mut dyn FnMut(Delta) -> Result<()>,
    ) -> Result<Watermarks> {
        let mut run = Run {
            inputs,
            is_first,
            sharing,
        };
        self.root
            .run(&mut run, context, &mut |delta, _| take(delta))?;
        Ok(self.root.watermarks(inputs))
    }

    /// From now on the dataflow, which is that of `view`, takes part in what views share.
    pub fn share(&mut self, view: ObjectId, prefixes: &mut SharedPrefixes) {
        self.root.share(view, None, prefixes);
    }

    /// The operators as EXPLAIN numbers them, from 1 on.
    pub fn report(&mut self) -> Vec<OperatorReport> {
        let mut reports = Vec::new();
        self.root.report(&mut reports);
        reports
    }

    /// The earliest time at which an operator has something to do without any input.
    pub fn due_us(&mut self) -> Result<Option<i64>> {
        let (mut earliest, mut result) = (None, Ok(()));
        self.root.each(&mut |operator| match operator.due_us() {
            Ok(due) => earliest = earliest.into_iter().chain(due).min(),
            Err(error) => result = Err(error),
        });
        result.map(|()| earliest)
    }

    /// The epoch goes on with other views: makes room for them, if they need it.
    pub fn set_aside(&mut self) -> Result<()> {
        let mut result = Ok(());
        self.root.visit(&mut |operator| {
            for table in operator.state_tables() {
                if result.is_ok() {
                    result = table.set_aside();
                }
            }
        });
        Ok(result?)
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) {
        self.root.visit(&mut |operator| operator.drain_into(writes));
    }

    pub fn committed(&mut self) {
        self.root.visit(&mut |operator| operator.committed());
        self.root.clear_marks();
    }

    pub fn discard(&mut self) {
        self.root.each(&mut |operator| operator.discard());
        // Of a discarded epoch the bounds are told again.
        self.root.forget_told();
        self.root.clear_marks();
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
            rule: MarkRule::of(plan),
            told: None,
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

impl Node {
    /// Runs the subtree; what an operator gives goes on to the next one at once.
    fn run(
        &mut self,
        run: &mut Run<'_, '_>,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        match self {
            Node::Scan {
                object,
                columns,
                stats,
                ..
            } => {
                let input = run.inputs.get(object);
                for part in input.iter().flat_map(|input| &input.parts) {
                    part.for_each(columns, &mut |delta| {
                        stats.rows_in += delta.num_rows() as u64;
                        stats.rows_out += delta.num_rows() as u64;
                        pieces::split(delta).try_for_each(|piece| emit(piece, context))
                    })?;
                }
                Ok(())
            }
            Node::Operator { prefix, .. } => match prefix.as_ref().and_then(|p| p.shared(run)) {
                Some(shared) => self.run_shared(shared, run, context, emit),
                None => self.run_alone(run, context, emit),
            },
        }
    }

    /// Takes the output of a prefix that another view has computed in this epoch, or computes it for all of them.
    /// `first_operator`: of the prefix.
    fn run_shared(
        &mut self,
        (id, first_operator): (PrefixId, u32),
        run: &mut Run<'_, '_>,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        match run.sharing.shares.get(id) {
            Some(Some(shared)) => {
                self.add_counts(&mut shared.counts().iter());
                return shared.replay(first_operator, context, emit);
            }
            Some(None) => return self.run_alone(run, context, emit),
            None => {}
        }
        let mut recording = run.sharing.shares.recording(run.sharing.max_bytes);
        let known_failures = context.failures.len();
        let counted = self.counts();
        self.run_alone(run, context, &mut |delta, context| {
            recording.add(delta, context, emit)
        })?;
        let recorded = recording.finish();
        let deltas = recorded.as_ref().map(|r| r.deltas().to_vec());
        let counts = self.counts().into_iter().zip(&counted);
        let counts = counts.map(|(now, before)| now.rows_since(before)).collect();
        // Of what was too large the failures of later operators are among them, but then they are not kept.
        let failures = &context.failures[known_failures..];
        run.sharing
            .shares
            .keep(id, recorded, failures, first_operator, counts);
        for delta in deltas.into_iter().flatten() {
            emit(delta, context)?;
        }
        Ok(())
    }

    fn run_alone(
        &mut self,
        run: &mut Run<'_, '_>,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let Node::Operator {
            operator,
            inputs,
            is_dirty,
            stats,
            rule,
            told,
            ..
        } = self
        else {
            return self.run(run, context, emit);
        };
        let mut has_input = run.is_first;
        if run.is_first {
            *is_dirty = true;
            for delta in operator.initialize(context)? {
                stats.rows_out += delta.num_rows() as u64;
                emit(delta, context)?;
            }
        }
        for (port, input) in inputs.iter_mut().enumerate() {
            input.run(run, context, &mut |delta, context| {
                if delta.is_empty() {
                    return Ok(());
                }
                has_input = true;
                *is_dirty = true;
                stats.rows_in += delta.num_rows() as u64;
                for delta in stats.timed(|| operator.push(port, delta, context))? {
                    stats.rows_out += delta.num_rows() as u64;
                    emit(delta, context)?;
                }
                // An operator is right for any split of its input, so for one into several ends, too.
                if operator.held_bytes() > context.held_limit {
                    finish(operator.as_mut(), stats, context, emit)?;
                }
                Ok(())
            })?;
        }
        let is_due = operator.due_us()?.is_some_and(|due| due <= context.now_us);
        if has_input || is_due {
            *is_dirty = true;
            finish(operator.as_mut(), stats, context, emit)?;
        }
        stats.dropped += operator.take_dropped();
        let below: Vec<_> = inputs.iter().map(|i| i.watermarks(run.inputs)).collect();
        if below.iter().all(Watermarks::is_empty) || told.as_ref() == Some(&below) {
            return Ok(());
        }
        *is_dirty = true;
        let output = rule.apply(&below);
        let mut rows_out = 0;
        operator.advance(&below, &output, context, &mut |delta, context| {
            rows_out += delta.num_rows() as u64;
            emit(delta, context)
        })?;
        stats.rows_out += rows_out;
        *told = Some(below);
        Ok(())
    }

    /// The bounds of the subtree's output. They follow from those of what it scans, whoever computed the rows.
    fn watermarks(&self, run: &ViewInputs) -> Watermarks {
        match self {
            Node::Scan {
                object, columns, ..
            } => {
                let input = run.get(object);
                input.map_or_else(Watermarks::default, |i| i.watermarks.project(columns))
            }
            Node::Operator { inputs, rule, .. } => {
                let below: Vec<_> = inputs.iter().map(|i| i.watermarks(run)).collect();
                rule.apply(&below)
            }
        }
    }

    /// What the operators of a prefix have counted, from the top down.
    fn counts(&self) -> Vec<OperatorStats> {
        match self {
            Node::Scan { stats, .. } => vec![*stats],
            Node::Operator { stats, inputs, .. } => {
                let below = inputs.iter().flat_map(Node::counts);
                std::iter::once(*stats).chain(below).collect()
            }
        }
    }

    fn add_counts(&mut self, counts: &mut dyn Iterator<Item = &OperatorStats>) {
        let (stats, inputs): (_, &mut [Node]) = match self {
            Node::Scan { stats, .. } => (stats, &mut []),
            Node::Operator { stats, inputs, .. } => (stats, inputs),
        };
        if let Some(more) = counts.next() {
            stats.add(more);
        }
        inputs.iter_mut().for_each(|input| input.add_counts(counts));
    }

    /// The subtree's operators as EXPLAIN numbers them: each before its inputs.
    fn report(&mut self, reports: &mut Vec<OperatorReport>) {
        match self {
            Node::Scan { stats, .. } => reports.push(OperatorReport::new("Scan", *stats, [])),
            Node::Operator {
                operator,
                inputs,
                stats,
                ..
            } => {
                let report = OperatorReport::new(operator.name(), *stats, operator.state_tables());
                reports.push(report);
                inputs.iter_mut().for_each(|input| input.report(reports));
            }
        }
    }

    /// Registers the subtree's prefixes. `above`: that of the operator which reads it.
    fn share(&mut self, view: ObjectId, above: Option<PrefixId>, prefixes: &mut SharedPrefixes) {
        let (inputs, prefix) = match self {
            Node::Operator { inputs, prefix, .. } => (inputs, prefix),
            // For EXPLAIN.
            Node::Scan { prefix, .. } => {
                if let Some(own) = prefix {
                    prefixes.add(view, own);
                }
                return;
            }
        };
        let own = prefix.as_mut().map(|own| {
            let id = prefixes.add(view, &own.prefix);
            own.id = Some(id);
            own.above = above;
            id
        });
        for input in inputs {
            input.share(view, own, prefixes);
        }
    }

    /// Visits the operators that ran since the last commit.
    fn visit(&mut self, action: &mut dyn FnMut(&mut dyn Operator)) {
        if let Node::Operator {
            operator,
            inputs,
            is_dirty,
            ..
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

    fn forget_told(&mut self) {
        if let Node::Operator { inputs, told, .. } = self {
            *told = None;
            inputs.iter_mut().for_each(Node::forget_told);
        }
    }

    /// Visits all operators.
    fn each(&mut self, action: &mut dyn FnMut(&mut dyn Operator)) {
        if let Node::Operator {
            operator, inputs, ..
        } = self
        {
            for input in inputs {
                input.each(action);
            }
            action(operator.as_mut());
        }
    }
}

impl NodePrefix {
    /// The prefix's id and first operator, if this run may take part.
    fn shared(&self, run: &Run<'_, '_>) -> Option<(PrefixId, u32)> {
        let id = self.id?;
        let is_live = run.inputs.get(&self.prefix.object())?.is_live;
        let is_shared = is_live && !run.is_first && run.sharing.prefixes.is_shared(id, self.above);
        is_shared.then_some((id, self.first_operator))
    }
}

/// Lets an operator work on what it holds.
fn finish(
    operator: &mut dyn Operator,
    stats: &mut OperatorStats,
    context: &mut EpochContext,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let (mut later, mut rows_out) = (OperatorStats::default(), 0);
    let mut emit = |delta: Delta, context: &mut EpochContext| {
        rows_out += delta.num_rows() as u64;
        later.timed(|| emit(delta, context))
    };
    stats.timed(|| operator.finish_into(context, &mut emit))?;
    stats.rows_out += rows_out;
    stats.busy = stats.busy.saturating_sub(later.busy);
    Ok(())
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
