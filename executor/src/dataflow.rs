//! One view's operators, wired as its plan says.

mod builder;

use std::collections::BTreeMap;
use std::sync::Arc;

use rivermark_planner::TableId;
use rivermark_planner::catalog::ObjectId;
use rivermark_planner::plan::PlanNode;
use rivermark_planner::prefix::Prefix;
use rivermark_planner::read_order::{ReadOrder, read_order};

use self::builder::Builder;
use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{Emit, EpochContext, Operator};
use crate::operator_stats::{OperatorReport, OperatorStats};
use crate::pieces;
use crate::shared_prefix::{EpochShares, PrefixId, SharedPrefixes};
use crate::spool::SpooledDelta;
use crate::state::{CacheHandle, Store, WriteSet};
use crate::watermark::{NodeMarks, Watermarks};

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
    read_order: ReadOrder,
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
        marks: Box<NodeMarks>,
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
        let scan_columns = builder::scan_columns(plan);
        let root = Builder::new(&scan_columns, first_table, store, cache).build(plan)?;
        Ok(Dataflow {
            root,
            scan_columns,
            read_order: read_order(plan),
        })
    }

    /// Which objects a new view must have read before it begins with `object`.
    pub fn read_before(&self, object: ObjectId) -> impl Iterator<Item = &ObjectId> {
        self.read_order.get(&object).into_iter().flatten()
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
        let watermarks = self.root.take_watermarks(inputs);
        let mut run = Run {
            inputs,
            is_first,
            sharing,
        };
        self.root
            .run(&mut run, context, &mut |delta, _| take(delta))?;
        Ok(watermarks)
    }

    /// The bounds of the output by those of the inputs, without any rows: what they were before a restart.
    pub fn restore_watermarks(&mut self, inputs: &ViewInputs) -> Watermarks {
        self.root.take_watermarks(inputs)
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
            marks,
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
        // What is due comes before what the inputs take back of it: the next operator may be finished in between.
        if operator.due_us()?.is_some_and(|due| due <= context.now_us) {
            *is_dirty = true;
            finish(operator.as_mut(), stats, context, emit)?;
        }
        let count = inputs.len();
        let is_reversed = operator.takes_last_input_first();
        for turn in 0..count {
            let port = if is_reversed { count - 1 - turn } else { turn };
            inputs[port].run(run, context, &mut |delta, context| {
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
        if let Some((below, output)) = marks.untold() {
            *is_dirty = true;
            timed_output(stats, context, emit, |context, emit| {
                operator.advance(below, output, context, emit)
            })?;
            marks.set_told();
        }
        Ok(())
    }

    /// Takes the bounds of what the subtree scans; those of its output, whoever computes the rows.
    fn take_watermarks(&mut self, scanned: &ViewInputs) -> Watermarks {
        match self {
            Node::Scan {
                object, columns, ..
            } => {
                let input = scanned.get(object);
                input.map_or_else(Watermarks::default, |i| i.watermarks.project(columns))
            }
            Node::Operator { inputs, marks, .. } => {
                let below = inputs.iter_mut().map(|i| i.take_watermarks(scanned));
                marks.update(below.collect())
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
        if let Node::Operator { inputs, marks, .. } = self {
            marks.forget_told();
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
    timed_output(stats, context, emit, |context, emit| {
        operator.finish_into(context, emit)
    })
}

/// Counts what `work` puts out, and its time without what later operators do meanwhile with its output.
fn timed_output(
    stats: &mut OperatorStats,
    context: &mut EpochContext,
    emit: &mut Emit<'_>,
    work: impl FnOnce(&mut EpochContext, &mut Emit<'_>) -> Result<()>,
) -> Result<()> {
    let (mut later, mut rows_out) = (OperatorStats::default(), 0);
    let mut emit = |delta: Delta, context: &mut EpochContext| {
        rows_out += delta.num_rows() as u64;
        later.timed(|| emit(delta, context))
    };
    stats.timed(|| work(context, &mut emit))?;
    stats.rows_out += rows_out;
    stats.busy = stats.busy.saturating_sub(later.busy);
    Ok(())
}
