//! The streaming plan: a closed tree of nodes, one per incremental operator.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::{AggregateUDF, Expr};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::{PhysicalExpr, WindowExpr};

use crate::catalog::ObjectId;

pub use crate::hop::{HopWindows, PaneKey};

/// A scalar expression over a node's input columns.
#[derive(Debug, Clone)]
pub struct BoundExpr {
    /// For EXPLAIN and the fingerprint.
    pub logical: Expr,
    /// What runs. Integer arithmetic in it is checked.
    pub physical: Arc<dyn PhysicalExpr>,
    pub data_type: DataType,
    pub nullable: bool,
    /// Whether it can fail on some rows (division, casts, checked arithmetic).
    pub is_fallible: bool,
}

impl fmt::Display for BoundExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.logical)
    }
}

/// How an aggregate is kept up to date (engine.md §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateStrategy {
    /// Weights multiply in; retraction subtracts.
    Linear,
    /// Append-only input, bounded state that only grows towards its answer.
    Mergeable,
    /// The group's values are kept with their weights.
    Multiset,
}

/// One aggregate of an [`PlanOp::Aggregate`].
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// Lower-case name in DataFusion (`sum`, `count`, `approx_distinct`, ...).
    pub name: String,
    pub function: Arc<AggregateUDF>,
    pub args: Vec<BoundExpr>,
    pub distinct: bool,
    pub filter: Option<BoundExpr>,
    pub order_by: Vec<(BoundExpr, SortOptions)>,
    pub ignore_nulls: bool,
    pub strategy: AggregateStrategy,
    pub data_type: DataType,
    /// Text for EXPLAIN.
    pub display: String,
}

/// Which rows a [`PlanOp::Join`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    /// Left rows with a match.
    Semi,
    /// Left rows without a match.
    Anti,
    /// `left NOT IN (right)`, one key: as [`JoinKind::Anti`], but NULL on the right lets nothing pass, and NULL on
    /// the left passes only if the right side is empty.
    NotIn,
    /// Left rows with a column that says whether they have a match.
    Mark,
}

impl JoinKind {
    /// For EXPLAIN and the fingerprint.
    pub fn name(self) -> &'static str {
        match self {
            JoinKind::Inner => "inner",
            JoinKind::Left => "left",
            JoinKind::Right => "right",
            JoinKind::Full => "full",
            JoinKind::Semi => "semi",
            JoinKind::Anti => "anti",
            JoinKind::NotIn => "not in",
            JoinKind::Mark => "mark",
        }
    }

    /// Whether the output has the columns of both sides.
    pub fn is_pairing(self) -> bool {
        match self {
            JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full => true,
            JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn | JoinKind::Mark => false,
        }
    }
}

/// What a limit counts, and so how rows that are equal in the order share a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// Rows: `LIMIT`, `row_number()`.
    Rows,
    /// Rows, but all that equal the last one come along: `WITH TIES`, `rank()`.
    Ties,
    /// Distinct values of the order: `dense_rank()`.
    Values,
}

/// Which rows' results of a window function may change with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// A result depends on so many rows before and after its own, by place.
    Rows { before: u64, after: u64 },
    /// A result depends on the rows before its own, and on those that are equal in the order.
    Before,
    /// On the whole partition.
    Partition,
}

impl Reach {
    /// The reach of two functions together.
    pub fn and(self, other: Reach) -> Reach {
        match (self, other) {
            (
                Reach::Rows { before, after },
                Reach::Rows {
                    before: more_before,
                    after: more_after,
                },
            ) => Reach::Rows {
                before: before.max(more_before),
                after: after.max(more_after),
            },
            (Reach::Before, Reach::Before) => Reach::Before,
            (Reach::Before, Reach::Rows { after: 0, .. })
            | (Reach::Rows { after: 0, .. }, Reach::Before) => Reach::Before,
            _ => Reach::Partition,
        }
    }
}

/// How the current time is compared with a time of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NowComparison {
    /// `now() < time`
    Before,
    /// `now() <= time`
    Until,
    /// `now() > time`
    After,
    /// `now() >= time`
    From,
}

impl NowComparison {
    pub const ALL: [NowComparison; 4] = [
        NowComparison::Before,
        NowComparison::Until,
        NowComparison::After,
        NowComparison::From,
    ];

    /// The same with both sides exchanged.
    pub fn flipped(self) -> NowComparison {
        match self {
            NowComparison::Before => NowComparison::After,
            NowComparison::Until => NowComparison::From,
            NowComparison::After => NowComparison::Before,
            NowComparison::From => NowComparison::Until,
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            NowComparison::Before => "<",
            NowComparison::Until => "<=",
            NowComparison::After => ">",
            NowComparison::From => ">=",
        }
    }

    /// Whether it ceases to hold some time, instead of beginning to.
    pub fn ends(self) -> bool {
        matches!(self, NowComparison::Before | NowComparison::Until)
    }
}

/// `now() <comparison> time`.
#[derive(Debug, Clone)]
pub struct TimeBound {
    pub comparison: NowComparison,
    /// A timestamp in microseconds.
    pub time: BoundExpr,
}

/// What a session says of each of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionBound {
    Start,
    /// Exclusive: a gap after the last row.
    End,
}

impl SessionBound {
    /// Its value in a session with these times; `None`: out of range.
    pub fn of(self, first_us: i64, last_us: i64, gap_us: i64) -> Option<i64> {
        match self {
            SessionBound::Start => Some(first_us),
            SessionBound::End => last_us.checked_add(gap_us),
        }
    }

    /// The name of its column.
    pub fn column(self) -> &'static str {
        match self {
            SessionBound::Start => "window_start",
            SessionBound::End => "window_end",
        }
    }
}

/// `left = right`, which rows that match have in common.
#[derive(Debug, Clone)]
pub struct JoinKey {
    pub left: BoundExpr,
    pub right: BoundExpr,
    /// `IS NOT DISTINCT FROM`: NULL equals NULL.
    pub matches_null: bool,
}

/// The first key of a [`PlanOp::Join`], if it is a time that both sides have a watermark of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JoinWindow {
    /// The key's column of the left input.
    pub left: usize,
    /// That of the right one.
    pub right: usize,
    /// Set if the key is a bucket of what the residual says of two times.
    pub interval: Option<JoinInterval>,
}

/// Rows that match have times that lie so far apart: `least ≤ left − right ≤ most`. Both have a watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JoinInterval {
    /// The time's column of the left input.
    pub left: usize,
    /// That of the right one.
    pub right: usize,
    pub least_us: i64,
    pub most_us: i64,
}

/// The times of a [`PlanOp::Nearest`], and which of the right ones is near to one of the left: the latest that is at most it,
/// or the earliest that is at least it.
#[derive(Debug, Clone)]
pub struct NearestTimes {
    pub left: BoundExpr,
    pub right: BoundExpr,
    pub is_latest: bool,
    /// An equal time is not near.
    pub is_strict: bool,
}

/// An aggregate to run over the rows of a frame.
#[derive(Debug, Clone)]
pub struct FrameAggregate {
    pub function: Arc<AggregateFunctionExpr>,
    /// Rows for which it is not true do not count.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// One window function of a [`PlanOp::Over`].
#[derive(Debug, Clone)]
pub struct WindowCall {
    /// Runs over the rows of one partition, in order.
    pub function: Arc<dyn WindowExpr>,
    /// Set if frames are aggregated one by one, because what leaves a frame can not be subtracted exactly.
    pub anew: Option<FrameAggregate>,
    pub reach: Reach,
    pub data_type: DataType,
    /// Text for EXPLAIN.
    pub display: String,
}

/// How often a row that is l times on the left and r times on the right is in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum SetOperation {
    /// 1 if l > 0 and r = 0, else 0.
    Except,
    /// max(l - r, 0).
    ExceptAll,
    /// 1 if l > 0 and r > 0, else 0.
    Intersect,
    /// min(l, r).
    IntersectAll,
}

/// One of several ways to group by some of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupingSet {
    /// Per key, whether it is NULL in this set.
    pub left_out: Vec<bool>,
    /// Tells sets apart; what `grouping()` is computed of.
    pub id: i64,
}

/// One node of a streaming plan. Its inputs are [`PlanNode::inputs`].
#[derive(Debug, Clone)]
pub enum PlanOp {
    /// Changes of a source (`columns` index its physical columns), table or materialized view (all its columns).
    Scan {
        object: ObjectId,
        name: String,
        columns: Vec<usize>,
    },
    /// Constant rows, inserted once when the view is created.
    Values {
        rows: RecordBatch,
    },
    Filter {
        predicate: BoundExpr,
    },
    Project {
        exprs: Vec<BoundExpr>,
    },
    /// The rows for which all bounds hold at the epoch's time.
    TemporalFilter {
        bounds: Vec<TimeBound>,
    },
    /// Replaces each list column in `columns` by its elements, in parallel, padding shorter lists with NULL
    /// (PostgreSQL's `unnest(a, b)`); all other columns repeat. A row whose lists are all empty or NULL gives no row.
    Unnest {
        columns: Vec<usize>,
    },
    UnionAll,
    /// Also DISTINCT (no calls). Output: group columns, then one column per call. Without `group_by` there is
    /// exactly one row from the creation on.
    Aggregate {
        group_by: Vec<BoundExpr>,
        calls: Vec<AggregateCall>,
        /// Values of the last group column, a grouping set's id. Their group, whose other columns are NULL, is there
        /// from the creation on.
        permanent: Vec<i64>,
        /// The group column whose watermark says which groups are over: their state is forgotten.
        window: Option<usize>,
    },
    /// An aggregate over HOP's windows that gives each group once, when the watermark of the rows' time has passed its
    /// window. The input has each row once. Output: as of [`PlanOp::Aggregate`].
    Panes {
        keys: Vec<PaneKey>,
        /// Only such whose states can be merged.
        calls: Vec<AggregateCall>,
        /// The input's column that says when a row is.
        time: usize,
        windows: HopWindows,
    },
    /// Each row once per set: its columns, `keys` or NULL, the set's id (a column of 64 bits).
    GroupingSets {
        keys: Vec<BoundExpr>,
        sets: Vec<GroupingSet>,
    },
    /// Two inputs with the same columns. NULLs equal one another.
    SetOperation {
        operation: SetOperation,
    },
    /// Each row with the results of window functions over its partition, in an order that ends with the whole row.
    Over {
        partition_by: Vec<BoundExpr>,
        order_by: Vec<(BoundExpr, SortOptions)>,
        /// Arguments that can fail; a row for which one does is left out.
        checked: Vec<BoundExpr>,
        calls: Vec<WindowCall>,
        /// The input's column that the first of `partition_by` is, if it has a watermark: what it has passed is forgotten.
        window: Option<usize>,
        /// The input's column that the order begins with, if what its watermark has passed is forgotten but for the last rows,
        /// which is all that later ones look at.
        due: Option<usize>,
    },
    /// Each row with bounds of its session: the rows of a partition that follow one another within less than the gap.
    /// Rows without a time are in none, and not in the output.
    Session {
        partition_by: Vec<BoundExpr>,
        /// A timestamp in microseconds.
        time: BoundExpr,
        gap_us: i64,
        bounds: Vec<SessionBound>,
        /// Each session is given once, when the watermark of the time has passed it.
        is_final: bool,
        /// What the watermark of the time has passed is forgotten.
        forgets: bool,
    },
    /// Of each group the rows behind the first `skip` and within the first `skip + fetch` of an order that ends with
    /// the whole row. `is_numbered`: a last column says the place that [`Counting`] gives the row, from 1 on.
    TopN {
        partition_by: Vec<BoundExpr>,
        order_by: Vec<(BoundExpr, SortOptions)>,
        skip: u64,
        fetch: Option<u64>,
        counting: Counting,
        is_numbered: bool,
        /// As of [`PlanOp::Over`].
        window: Option<usize>,
    },
    /// Holds each row back until the watermark of `column` has passed its value there, then gives it once.
    WindowClose {
        column: usize,
    },
    /// Two inputs, left and right. Output: the columns of both, or of the left one only, or these and the mark.
    Join {
        kind: JoinKind,
        /// Without keys every row is a candidate for every other.
        keys: Vec<JoinKey>,
        /// What a pair with equal keys must fulfil too; over the columns of both inputs.
        residual: Option<BoundExpr>,
        /// What is over of it is forgotten.
        window: Option<JoinWindow>,
        /// Rows of the left, which are append-only, are joined with the right as it is at the end of the epoch in which
        /// they come; what the right does later changes nothing.
        is_as_of_now: bool,
    },
    /// Each row of the left with the one row of the right that has equal keys and is nearest in time. Output: the columns of
    /// both.
    Nearest {
        /// A row of the left without one shows, too.
        keeps_unmatched: bool,
        /// None of which matches NULL; rows of the right for which one is NULL do not come.
        keys: Vec<JoinKey>,
        times: Box<NearestTimes>,
        /// What the nearest row must fulfil too, over the columns of both; if it does not, none does.
        tolerance: Option<BoundExpr>,
        /// The columns that are the times, if what both watermarks have passed is forgotten.
        forgets: Option<(usize, usize)>,
    },
}

impl PlanOp {
    /// The operator's name, as EXPLAIN and `rivermark.operators` print it.
    pub fn name(&self) -> &'static str {
        match self {
            PlanOp::Scan { .. } => "Scan",
            PlanOp::Values { .. } => "Values",
            PlanOp::Filter { .. } => "Filter",
            PlanOp::Project { .. } => "Project",
            PlanOp::TemporalFilter { .. } => "TemporalFilter",
            PlanOp::Unnest { .. } => "Unnest",
            PlanOp::UnionAll => "UnionAll",
            PlanOp::Aggregate { .. } => "Aggregate",
            PlanOp::Panes { .. } => "Panes",
            PlanOp::Join { .. } => "Join",
            PlanOp::Nearest { .. } => "Nearest",
            PlanOp::GroupingSets { .. } => "GroupingSets",
            PlanOp::SetOperation { .. } => "SetOperation",
            PlanOp::Over { .. } => "Over",
            PlanOp::TopN { .. } => "TopN",
            PlanOp::WindowClose { .. } => "WindowClose",
            PlanOp::Session { .. } => "Session",
        }
    }

    /// How many state tables the operator owns. Ids are given out in depth-first order, inputs before their parent.
    pub fn state_tables(&self) -> u32 {
        match self {
            PlanOp::Scan { .. }
            | PlanOp::Values { .. }
            | PlanOp::Filter { .. }
            | PlanOp::Project { .. }
            | PlanOp::Unnest { .. }
            | PlanOp::GroupingSets { .. }
            | PlanOp::UnionAll => 0,
            // (time, row) -> weight
            PlanOp::TemporalFilter { .. } => 1,
            // (partition, order, row) -> weight; and up to where windows are forgotten, or what is due and up to where it is
            PlanOp::Over { window, due, .. } => {
                1 + u32::from(window.is_some()) + 2 * u32::from(due.is_some())
            }
            // (partition, time, row) -> weight; if they are forgotten also which are open, when they are due, and up to where they
            // were given
            PlanOp::Session { forgets, .. } => 1 + 3 * u32::from(*forgets),
            // row -> how often left and right
            PlanOp::SetOperation { .. } => 1,
            // group -> states, and (group, call, order key, value) -> weight; and up to where windows are forgotten
            PlanOp::Aggregate { window, .. } => 2 + u32::from(window.is_some()),
            // (pane, group) -> states, and up to where windows are closed
            PlanOp::Panes { .. } => 2,
            // rows of the left, rows of the right, and per key how many of each; and up to where windows are forgotten
            PlanOp::Join { window, .. } => 3 + u32::from(window.is_some()),
            // (key, time, row) -> weight of the left and of the right; and what is due to be forgotten by time, and up to where it is
            PlanOp::Nearest { forgets, .. } => 2 + 2 * u32::from(forgets.is_some()),
            // (group, order, row) -> weight, and group -> where its cuts lie; and up to where windows are forgotten
            PlanOp::TopN { window, .. } => 2 + u32::from(window.is_some()),
            // (time, row) -> weight, and up to where windows are closed
            PlanOp::WindowClose { .. } => 2,
        }
    }

    /// Whether the keys of its state begin with a time and are forgotten in its order.
    pub fn is_windowed(&self) -> bool {
        match self {
            PlanOp::WindowClose { .. } | PlanOp::Panes { .. } => true,
            PlanOp::Aggregate { window, .. }
            | PlanOp::Over { window, .. }
            | PlanOp::TopN { window, .. } => window.is_some(),
            PlanOp::Join { window, .. } => window.is_some(),
            PlanOp::Scan { .. }
            | PlanOp::Values { .. }
            | PlanOp::Filter { .. }
            | PlanOp::TemporalFilter { .. }
            | PlanOp::Session { .. }
            | PlanOp::Project { .. }
            | PlanOp::Unnest { .. }
            | PlanOp::GroupingSets { .. }
            | PlanOp::UnionAll
            | PlanOp::Nearest { .. }
            | PlanOp::SetOperation { .. } => false,
        }
    }
}

/// What is known of a node's output, derived bottom-up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// No negative weight can appear.
    pub append_only: bool,
    /// Columns that identify an output row.
    pub stream_key: Option<Vec<usize>>,
    /// Columns with a known, advancing lower bound.
    pub watermark_columns: Vec<usize>,
    /// Sentences for a NOTICE: which state can grow for ever, and how to bound it.
    pub grows: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct PlanNode {
    pub op: PlanOp,
    pub inputs: Vec<PlanNode>,
    pub schema: SchemaRef,
    pub properties: Properties,
}

impl PlanNode {
    /// State tables of the whole subtree.
    pub fn state_tables(&self) -> u32 {
        self.op.state_tables() + self.inputs.iter().map(PlanNode::state_tables).sum::<u32>()
    }

    /// Objects that the subtree scans, without duplicates.
    pub fn scanned_objects(&self) -> Vec<ObjectId> {
        let mut found = Vec::new();
        self.collect_scans(&mut found);
        found.sort();
        found.dedup();
        found
    }

    fn collect_scans(&self, found: &mut Vec<ObjectId>) {
        if let PlanOp::Scan { object, .. } = &self.op {
            found.push(*object);
        }
        for input in &self.inputs {
            input.collect_scans(found);
        }
    }
}

/// A materialized view's plan.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    pub root: PlanNode,
    /// For the user, e.g. that ORDER BY was dropped or that state can grow for ever.
    pub notices: Vec<String>,
    /// Hash of the state layout (operators, keys, types, strategies), stable between builds.
    pub fingerprint: u64,
}
