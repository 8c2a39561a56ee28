//! Properties of a plan's output, derived bottom-up: append-only, stream key, watermark columns, what grows.
//!
//! One function per kind of node. Nothing here looks at state or at how an operator works, only at what it promises.

mod monotone;

use datafusion::logical_expr::Expr;

use self::monotone::{is_bounded, is_window};
use crate::catalog::{ColumnDef, Format, Object, ObjectKind, WatermarkDef};
use crate::plan::{JoinInterval, JoinKind, Properties, SetOperation, TimeBound};

pub use self::monotone::{follows, is_instant};

/// What lowering knows of a node's output beyond [`Properties`].
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// Per column: whether it is (the start or end of) a window of time, so that its values are left behind.
    pub windowed: Vec<bool>,
    /// Names of the unbounded relations below.
    pub unbounded: Vec<String>,
}

/// Properties of the changes of a catalog object, of which columns `columns` are read.
pub fn of_scan(object: &Object, columns: &[usize]) -> (Properties, Lineage) {
    let place = |index: usize| columns.iter().position(|c| *c == index);
    let keyed = |key: &[usize]| key.iter().map(|k| place(*k)).collect::<Option<Vec<_>>>();
    let watermark = |declared: &[ColumnDef], watermark: &Option<WatermarkDef>| -> Vec<usize> {
        let column = watermark
            .as_ref()
            .and_then(|w| declared.iter().position(|c| c.name == w.column));
        column.and_then(place).into_iter().collect()
    };
    let mut lineage = Lineage {
        windowed: vec![false; columns.len()],
        unbounded: Vec::new(),
    };
    let properties = match &object.kind {
        ObjectKind::Source(source) => {
            lineage.unbounded.push(object.name.to_string());
            let physical: Vec<ColumnDef> = source.physical_columns().cloned().collect();
            Properties {
                append_only: source.format == Format::Plain,
                watermark_columns: watermark(&physical, &source.watermark),
                ..Properties::default()
            }
        }
        ObjectKind::Table(table) => Properties {
            append_only: table.append_only,
            stream_key: if table.primary_key.is_empty() {
                None
            } else {
                keyed(&table.primary_key)
            },
            watermark_columns: watermark(&table.columns, &table.watermark),
            ..Properties::default()
        },
        ObjectKind::MaterializedView(view) => Properties {
            append_only: view.append_only,
            stream_key: view.stream_key.as_deref().and_then(keyed),
            watermark_columns: view
                .watermark_columns
                .iter()
                .filter_map(|column| place(*column))
                .collect(),
            ..Properties::default()
        },
        ObjectKind::View(_) | ObjectKind::Index(_) => Properties::default(),
    };
    (properties, lineage)
}

/// So many constant rows.
pub fn of_values(rows: usize, columns: usize) -> (Properties, Lineage) {
    let properties = Properties {
        append_only: true,
        // nothing is needed to tell a single row from others
        stream_key: (rows <= 1).then(Vec::new),
        ..Properties::default()
    };
    (
        properties,
        Lineage {
            windowed: vec![false; columns],
            unbounded: Vec::new(),
        },
    )
}

/// A projection; `index` finds a column of the input.
pub fn of_project(
    exprs: &[Expr],
    input: &Properties,
    lineage: &Lineage,
    index: &dyn Fn(&Expr) -> Option<usize>,
) -> (Properties, Lineage) {
    let plain: Vec<Option<usize>> = exprs.iter().map(|expr| index(unaliased(expr))).collect();
    let stream_key = input.stream_key.as_ref().and_then(|key| {
        key.iter()
            .map(|k| plain.iter().position(|column| *column == Some(*k)))
            .collect::<Option<Vec<_>>>()
    });
    let watermark_columns = (0..exprs.len())
        .filter(|i| {
            is_bounded(&exprs[*i], &|e| {
                index(e).is_some_and(|c| input.watermark_columns.contains(&c))
            })
        })
        .collect();
    let windowed = exprs
        .iter()
        .map(|expr| {
            is_window(expr)
                || follows(expr, &|e| {
                    index(e).is_some_and(|c| lineage.windowed.get(c) == Some(&true))
                })
        })
        .collect();
    let properties = Properties {
        append_only: input.append_only,
        stream_key,
        watermark_columns,
        grows: Vec::new(),
    };
    (
        properties,
        Lineage {
            windowed,
            unbounded: lineage.unbounded.clone(),
        },
    )
}

/// Rows while they are within bounds of the current time.
pub fn of_temporal_filter(
    bounds: &[TimeBound],
    input: &Properties,
    mut lineage: Lineage,
) -> (Properties, Lineage) {
    let leaves = bounds.iter().any(|bound| bound.comparison.ends());
    if leaves {
        // every row goes some time
        lineage.unbounded.clear();
    }
    let properties = Properties {
        append_only: input.append_only && !leaves,
        stream_key: input.stream_key.clone(),
        // a row may enter long after its time, and what leaves is old
        watermark_columns: Vec::new(),
        grows: Vec::new(),
    };
    (properties, lineage)
}

/// Unnesting repeats rows, so no key stays. A bound of lists is one of their elements.
pub fn of_unnest(input: &Properties) -> Properties {
    Properties {
        append_only: input.append_only,
        watermark_columns: input.watermark_columns.clone(),
        ..Properties::default()
    }
}

/// The union of all `inputs`, whose columns correspond.
pub fn of_union(inputs: &[(&Properties, &Lineage)], columns: usize) -> (Properties, Lineage) {
    let all = |test: &dyn Fn(&Properties, &Lineage) -> bool| inputs.iter().all(|(p, l)| test(p, l));
    let properties = Properties {
        append_only: all(&|p, _| p.append_only),
        watermark_columns: (0..columns)
            .filter(|c| all(&|p, _| p.watermark_columns.contains(c)))
            .collect(),
        ..Properties::default()
    };
    let mut unbounded: Vec<String> = inputs
        .iter()
        .flat_map(|(_, l)| l.unbounded.clone())
        .collect();
    unbounded.sort();
    unbounded.dedup();
    let windowed = (0..columns)
        .map(|c| all(&|_, l| l.windowed.get(c) == Some(&true)))
        .collect();
    (
        properties,
        Lineage {
            windowed,
            unbounded,
        },
    )
}

/// EXCEPT and INTERSECT of two inputs with `columns` columns.
pub fn of_set_operation(
    operation: SetOperation,
    inputs: &[(&Properties, &Lineage)],
    columns: usize,
) -> (Properties, Lineage) {
    let (mut properties, lineage) = of_union(inputs, columns);
    let is_set = match operation {
        SetOperation::Except | SetOperation::Intersect => true,
        SetOperation::ExceptAll | SetOperation::IntersectAll => false,
    };
    // what comes in on the right takes rows away, or adds some
    properties.append_only &= match operation {
        SetOperation::Except | SetOperation::ExceptAll => false,
        SetOperation::Intersect | SetOperation::IntersectAll => true,
    };
    properties.stream_key = is_set.then(|| (0..columns).collect());
    (properties, lineage)
}

/// Groups. `keys` are the group columns' properties as if projected, `calls` how many aggregates follow.
pub fn of_aggregate(
    keys: (Properties, Lineage),
    groups: usize,
    calls: usize,
) -> (Properties, Lineage) {
    let (keys, mut lineage) = keys;
    lineage.windowed.resize(groups + calls, false);
    let properties = Properties {
        // DISTINCT only ever adds rows when its input does
        append_only: keys.append_only && calls == 0 && groups > 0,
        stream_key: Some((0..groups).collect()),
        watermark_columns: keys.watermark_columns,
        grows: Vec::new(),
    };
    (properties, lineage)
}

/// A join's input, as [`of_join`] sees it.
pub struct JoinSide<'a> {
    pub properties: &'a Properties,
    pub lineage: &'a Lineage,
    /// How many columns it has.
    pub width: usize,
    /// The columns that are compared, where they are plain columns; parallel to the other side's.
    pub keys: Vec<Option<usize>>,
    /// Whether a column of the stream key is never NULL.
    pub has_certain_key: bool,
}

impl JoinSide<'_> {
    /// Whether at most one row has given values in the compared columns.
    fn is_unique_by_key(&self) -> bool {
        let key = self.properties.stream_key.as_ref();
        key.is_some_and(|key| key.iter().all(|c| self.keys.contains(&Some(*c))))
    }

    /// A sentence if what the join keeps of this side has no bound.
    fn grows(&self) -> Option<String> {
        if self.lineage.unbounded.is_empty() || self.properties.stream_key.as_deref() == Some(&[]) {
            return None;
        }
        let is_windowed = |key: &usize| self.lineage.windowed.get(*key) == Some(&true);
        let of = self.lineage.unbounded.join(", ");
        Some(match self.keys.iter().flatten().any(is_windowed) {
            true => format!(
                "the join keeps every window of source {of}, since not both sides have a watermark that says when one is \
                 over; declare WATERMARK FOR their times to bound it"
            ),
            false => format!(
                "the join keeps all that it has read of source {of} and never drops it; join on a window of time (TUMBLE, \
                 HOP) too, or on an interval (a.ts BETWEEN b.ts AND b.ts + INTERVAL '1 minute') of times with a WATERMARK \
                 on both sides, to bound it"
            ),
        })
    }

    fn shifted(&self, columns: &[usize], by: usize) -> Vec<usize> {
        columns.iter().map(|column| column + by).collect()
    }
}

/// A join. `is_forgetting`: state that both watermarks have passed is forgotten; `interval`: the times of which the
/// join's condition says how far they lie apart.
pub fn of_join(
    kind: JoinKind,
    left: &JoinSide<'_>,
    right: &JoinSide<'_>,
    is_forgetting: bool,
    interval: Option<JoinInterval>,
) -> (Properties, Lineage) {
    let is_append_only = left.properties.append_only && right.properties.append_only;
    let compared =
        |columns: &[usize], other: &[usize], keys: &JoinSide<'_>, others: &JoinSide<'_>| {
            let pairs: Vec<_> = keys.keys.iter().zip(&others.keys).collect();
            let is_bounded = |column: &usize| {
                pairs.iter().any(|(own, its)| {
                    **own == Some(*column) && its.is_some_and(|its| other.contains(&its))
                })
            };
            columns
                .iter()
                .copied()
                .filter(is_bounded)
                .collect::<Vec<_>>()
        };
    let with_time = |mut columns: Vec<usize>, time: Option<usize>| {
        columns.extend(time.filter(|time| !columns.contains(time)));
        columns
    };
    let (left_marks, right_marks) = (
        &left.properties.watermark_columns,
        &right.properties.watermark_columns,
    );
    let mut watermark_columns = match kind {
        // A NULL on the right takes all rows away.
        JoinKind::NotIn => Vec::new(),
        JoinKind::Inner
        | JoinKind::Left
        | JoinKind::Right
        | JoinKind::Full
        | JoinKind::Semi
        | JoinKind::Anti
        | JoinKind::Mark => with_time(
            compared(left_marks, right_marks, left, right),
            interval.map(|interval| interval.left),
        ),
    };
    let mut lineage = left.lineage.clone();
    let stream_key = if kind.is_pairing() {
        let of_right = with_time(
            compared(right_marks, left_marks, right, left),
            interval.map(|interval| interval.right),
        );
        watermark_columns.extend(right.shifted(&of_right, left.width));
        lineage.windowed.extend(&right.lineage.windowed);
        pair_key(kind, left, right)
    } else {
        lineage
            .windowed
            .resize(left.width + usize::from(kind == JoinKind::Mark), false);
        left.properties.stream_key.clone()
    };
    lineage
        .unbounded
        .extend(right.lineage.unbounded.iter().cloned());
    lineage.unbounded.sort();
    lineage.unbounded.dedup();
    let grows = [left, right].into_iter().filter(|_| !is_forgetting);
    let grows = grows.filter_map(JoinSide::grows);
    let properties = Properties {
        append_only: is_append_only && matches!(kind, JoinKind::Inner | JoinKind::Semi),
        stream_key,
        watermark_columns,
        grows: grows.collect(),
    };
    (properties, lineage)
}

/// A join with the right side as it is when a row of the left comes, which nothing changes later.
pub fn of_as_of_join(
    kind: JoinKind,
    left: &JoinSide<'_>,
    right: &JoinSide<'_>,
) -> (Properties, Lineage) {
    let (_, lineage) = of_join(kind, left, right, false, None);
    let properties = Properties {
        append_only: left.properties.append_only,
        // A row of the right can meet several of the left one after the other, also if each has a key of its own.
        stream_key: pair_key(JoinKind::Left, left, right),
        watermark_columns: left.properties.watermark_columns.clone(),
        // Of the left nothing is kept.
        grows: right.grows().into_iter().collect(),
    };
    (properties, lineage)
}

/// A join with the one row of the right that is nearest in time. `forgets`: the times on both sides, if watermarks of them say
/// what is over.
pub fn of_nearest(
    kind: JoinKind,
    left: &JoinSide<'_>,
    right: &JoinSide<'_>,
    forgets: Option<(usize, usize)>,
) -> (Properties, Lineage) {
    let (mut properties, lineage) = of_join(kind, left, right, forgets.is_some(), None);
    let marks = &mut properties.watermark_columns;
    marks.extend(
        forgets
            .map(|(time, _)| time)
            .filter(|time| !marks.contains(time)),
    );
    let of = |sources: &[String]| sources.join(", ");
    let grows = match forgets {
        None if lineage.unbounded.is_empty() => None,
        None => Some(format!(
            "ASOF JOIN keeps all that it has read of source {} and never drops it; declare WATERMARK FOR the times of both \
             sides, and take the earlier row (<=), to bound it",
            of(&lineage.unbounded)
        )),
        Some(_) if right.lineage.unbounded.is_empty() || right.keys.is_empty() => None,
        Some(_) => Some(format!(
            "ASOF JOIN keeps the latest row of every key of source {}, and each new key adds to them",
            of(&right.lineage.unbounded)
        )),
    };
    let properties = Properties {
        append_only: false,
        stream_key: left.properties.stream_key.clone(),
        grows: grows.into_iter().collect(),
        ..properties
    };
    (properties, lineage)
}

/// What identifies a pair of rows.
fn pair_key(kind: JoinKind, left: &JoinSide<'_>, right: &JoinSide<'_>) -> Option<Vec<usize>> {
    let of_left = left.properties.stream_key.clone();
    let of_right = right.properties.stream_key.as_ref();
    let of_right = of_right.map(|key| right.shifted(key, left.width));
    let is_left_enough =
        matches!(kind, JoinKind::Inner | JoinKind::Left) && right.is_unique_by_key();
    let is_right_enough =
        matches!(kind, JoinKind::Inner | JoinKind::Right) && left.is_unique_by_key();
    // A row of the left without a match and one of the right look alike in these columns if all of them are NULL.
    if kind == JoinKind::Full && !left.has_certain_key && !right.has_certain_key {
        return None;
    }
    match (of_left, of_right) {
        (Some(left), _) if is_left_enough => Some(left),
        (_, Some(right)) if is_right_enough => Some(right),
        (Some(left), Some(right)) => Some([left, right].concat()),
        _ => None,
    }
}

/// The first rows of each group. `partition_by` are the columns to group by, as far as they are plain ones.
pub fn of_top_n(
    input: &Properties,
    lineage: &Lineage,
    partition_by: &[Option<usize>],
    limit: TopNLimit,
) -> (Properties, Lineage) {
    let columns = lineage.windowed.len();
    let partition: Option<Vec<usize>> = partition_by.iter().copied().collect();
    let stream_key = match partition {
        Some(key) if limit.keeps_one_row => Some(key),
        Some(mut key) if limit.is_numbered && limit.is_unique => {
            key.push(columns);
            Some(key)
        }
        _ => input.stream_key.clone(),
    };
    let properties = Properties {
        append_only: false,
        stream_key,
        watermark_columns: input
            .watermark_columns
            .iter()
            .copied()
            .filter(|c| partition_by.contains(&Some(*c)))
            .collect(),
        grows: Vec::new(),
    };
    let mut lineage = lineage.clone();
    if limit.is_numbered {
        lineage.windowed.push(false);
    }
    if limit.is_bounded && partition_by.is_empty() {
        // what is shown does not grow, however much comes in
        lineage.unbounded.clear();
    }
    (properties, lineage)
}

/// `calls` window functions over partitions. `partition_by` are the columns, as far as they are plain ones; `final_by`: a
/// column below whose bound no row changes any more.
pub fn of_over(
    input: &Properties,
    lineage: &Lineage,
    partition_by: &[Option<usize>],
    final_by: Option<usize>,
    calls: usize,
) -> (Properties, Lineage) {
    let properties = Properties {
        append_only: false,
        stream_key: input.stream_key.clone(),
        watermark_columns: input
            .watermark_columns
            .iter()
            .copied()
            .filter(|c| partition_by.contains(&Some(*c)) || final_by == Some(*c))
            .collect(),
        grows: Vec::new(),
    };
    let mut lineage = lineage.clone();
    lineage
        .windowed
        .resize(lineage.windowed.len() + calls, false);
    (properties, lineage)
}

/// What matters of sessions for [`of_session`].
#[derive(Debug, Clone, Copy)]
pub struct SessionProperties {
    /// So many columns follow.
    pub bounds: usize,
    /// Which of them is the end, if the rows' time has a watermark.
    pub end: Option<usize>,
    /// Each session is given once, when it is over.
    pub is_final: bool,
    /// What is over is forgotten.
    pub forgets: bool,
}

/// Rows with bounds of their sessions.
pub fn of_session(
    input: &Properties,
    lineage: &Lineage,
    known: SessionProperties,
) -> (Properties, Lineage) {
    let mut lineage = lineage.clone();
    let width = lineage.windowed.len();
    lineage.windowed.resize(width + known.bounds, true);
    let mut properties = Properties {
        append_only: known.is_final,
        stream_key: input.stream_key.clone(),
        // A session may have begun long ago.
        watermark_columns: known.end.map(|end| width + end).into_iter().collect(),
        grows: Vec::new(),
    };
    if !lineage.unbounded.is_empty() && !known.forgets {
        properties.grows.push(format!(
            "SESSION keeps every row of source {}; to bound it declare a WATERMARK for its time and select window_end, or \
             bound the rows by time (WHERE ts > now() - INTERVAL '1 day') in a subquery",
            lineage.unbounded.join(", ")
        ));
        // What bounds the rows bounds all that is made of their sessions: it is said once.
        lineage.unbounded.clear();
    }
    (properties, lineage)
}

/// What matters of a limit for [`of_top_n`].
#[derive(Debug, Clone, Copy)]
pub struct TopNLimit {
    /// There is at most one row per group.
    pub keeps_one_row: bool,
    /// There are at most so many rows per group, but for ties.
    pub is_bounded: bool,
    /// A column with the row's place follows.
    pub is_numbered: bool,
    /// No two rows of a group have the same place.
    pub is_unique: bool,
}

/// `expr` without the names around it.
pub fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
