//! Functions: Rivermark's own scalar functions, and how each aggregate of DataFusion is kept up to date.

mod argument;
mod arrays;
mod average;
mod bytes;
mod cast_text;
mod checked_arithmetic;
mod datetime;
mod decimal;
mod format;
mod half_even;
mod json_access;
mod json_change;
mod json_form;
mod literal_arguments;
mod mark;
mod math;
mod named_cast;
mod nearest_float;
mod now_test;
mod or_empty;
mod ordered_set;
mod places;
mod positive_zero;
mod regex;
mod self_ordered;
mod sessions;
mod single;
mod sql_function;
mod steps;
mod strings;
mod text_form;
mod time_aggregates;
mod timezone;
mod value;
mod whole;
mod windows;

use std::sync::{Arc, OnceLock};

use datafusion::common::{Result as DfResult, internal_err};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use crate::plan::AggregateStrategy;
use crate::rewrite::first_rows::WithTies;

pub use average::rounded_mean;
pub use cast_text::{CastArray, Read, Written};
pub use checked_arithmetic::CheckedArithmetic;
pub use datetime::{has_fraction, span_us};
pub use half_even::RoundHalfEven;
pub use mark::Mark;
pub use named_cast::NamedCast;
pub use nearest_float::{NearestFloat, nearest_float, nearest_floats};
pub use now_test::NowTest;
pub use or_empty::OrEmpty;
pub use places::{rank, row_number, window_functions};
pub use positive_zero::PositiveZero;
pub use sessions::{is_one_session, session_bound, session_functions};
pub use single::Single;
pub use timezone::TimeZone;
pub(crate) use windows::floor_to;
pub use windows::{CumulateEnds, WindowStart, WindowStarts};

/// Functions that DataFusion lacks or has with other semantics. Those named `rm_*` are what sugar and operators are
/// rewritten to.
pub fn scalar_functions() -> &'static [Arc<ScalarUDF>] {
    static ALL: OnceLock<Vec<Arc<ScalarUDF>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = CheckedArithmetic::all();
        all.extend([
            Arc::new(ScalarUDF::from(Mark::new(Mark::AS_OF_NOW))),
            Arc::new(ScalarUDF::from(Mark::new(Mark::NEAREST))),
            Arc::new(ScalarUDF::from(WindowStart::default())),
            Arc::new(ScalarUDF::from(WindowStarts::default())),
            Arc::new(ScalarUDF::from(CumulateEnds::default())),
            Arc::new(ScalarUDF::from(TimeZone::default())),
            Arc::new(ScalarUDF::from(steps::Steps::default())),
            Arc::new(ScalarUDF::from(RoundHalfEven::default())),
            Arc::new(ScalarUDF::from(Single::default())),
            Arc::new(ScalarUDF::from(WithTies::default())),
            Arc::new(ScalarUDF::from(NamedCast::default())),
            Arc::new(ScalarUDF::from(OrEmpty::default())),
            Arc::new(ScalarUDF::from(PositiveZero::default())),
        ]);
        for family in [
            arrays::functions,
            bytes::functions,
            datetime::functions,
            format::functions,
            json_access::functions,
            json_change::functions,
            literal_arguments::functions,
            math::functions,
            ordered_set::functions,
            regex::functions,
            strings::functions,
            time_aggregates::functions,
            whole::functions,
        ] {
            all.extend(family());
        }
        all
    })
}

/// Aggregates that stand for DataFusion's of the same name.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let mut all = self_ordered::functions();
    all.push(average::average());
    all
}

/// The function of ours that has this name.
pub fn named(name: &str) -> DfResult<Arc<ScalarUDF>> {
    match scalar_functions().iter().find(|f| f.name() == name) {
        Some(function) => Ok(Arc::clone(function)),
        None => internal_err!("there is no function {name}"),
    }
}

/// What is known of an aggregate function, whatever its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maintenance {
    /// A sum of per-row contributions: weights multiply in.
    Linear,
    /// A bounded intermediate state that insertions only move towards the answer.
    Mergeable,
    /// Bounded only if the call says in which order rows come.
    MergeableIfOrdered,
    /// Needs all values of the group.
    Multiset,
}

/// Every aggregate function of DataFusion 55; a function that is missing here is refused in views.
const AGGREGATES: &[(&str, Maintenance)] = &[
    ("any_value", Maintenance::Multiset),
    ("approx_distinct", Maintenance::Mergeable),
    ("approx_median", Maintenance::Mergeable),
    ("approx_percentile_cont", Maintenance::Mergeable),
    ("approx_percentile_cont_with_weight", Maintenance::Mergeable),
    ("array_agg", Maintenance::Multiset),
    ("avg", Maintenance::Linear),
    ("bit_and", Maintenance::Mergeable),
    ("bit_or", Maintenance::Mergeable),
    ("bit_xor", Maintenance::Mergeable),
    ("bool_and", Maintenance::Mergeable),
    ("bool_or", Maintenance::Mergeable),
    ("corr", Maintenance::Linear),
    ("count", Maintenance::Linear),
    ("covar_pop", Maintenance::Linear),
    ("covar_samp", Maintenance::Linear),
    ("first_value", Maintenance::MergeableIfOrdered),
    ("last_value", Maintenance::MergeableIfOrdered),
    ("max", Maintenance::Mergeable),
    ("median", Maintenance::Multiset),
    ("min", Maintenance::Mergeable),
    ("nth_value", Maintenance::Multiset),
    ("percentile_cont", Maintenance::Multiset),
    ("regr_avgx", Maintenance::Linear),
    ("regr_avgy", Maintenance::Linear),
    ("regr_count", Maintenance::Linear),
    ("regr_intercept", Maintenance::Linear),
    ("regr_r2", Maintenance::Linear),
    ("regr_slope", Maintenance::Linear),
    ("regr_sxx", Maintenance::Linear),
    ("regr_sxy", Maintenance::Linear),
    ("regr_syy", Maintenance::Linear),
    ("stddev", Maintenance::Linear),
    ("stddev_pop", Maintenance::Linear),
    ("string_agg", Maintenance::Multiset),
    ("sum", Maintenance::Linear),
    ("var", Maintenance::Linear),
    ("var_pop", Maintenance::Linear),
];

/// How a call of `name` is kept up to date over an input; `None`: the function is not known.
pub fn strategy(
    name: &str,
    is_distinct: bool,
    is_ordered: bool,
    is_append_only: bool,
) -> Option<AggregateStrategy> {
    let index = AGGREGATES
        .binary_search_by_key(&name, |(name, _)| name)
        .ok()?;
    let maintenance = AGGREGATES[index].1;
    if is_distinct {
        return Some(AggregateStrategy::Multiset);
    }
    Some(match maintenance {
        Maintenance::Linear => AggregateStrategy::Linear,
        Maintenance::Mergeable if is_append_only => AggregateStrategy::Mergeable,
        Maintenance::MergeableIfOrdered if is_append_only && is_ordered => {
            AggregateStrategy::Mergeable
        }
        Maintenance::Mergeable | Maintenance::MergeableIfOrdered | Maintenance::Multiset => {
            AggregateStrategy::Multiset
        }
    })
}

#[cfg(test)]
mod tests {
    use datafusion::functions_aggregate::all_default_aggregate_functions;

    use super::*;

    /// `grouping` is computed of a grouping set's number, not aggregated.
    #[test]
    fn every_aggregate_has_a_strategy() {
        assert!(AGGREGATES.is_sorted_by_key(|(name, _)| name));
        for function in all_default_aggregate_functions() {
            let known = strategy(function.name(), false, false, true).is_some();
            assert_eq!(known, function.name() != "grouping", "{}", function.name());
        }
    }

    #[test]
    fn strategies() {
        use AggregateStrategy::{Linear, Mergeable, Multiset};
        for (name, distinct, ordered, append_only, expected) in [
            ("sum", false, false, false, Linear),
            ("sum", true, false, true, Multiset),
            ("max", false, false, true, Mergeable),
            ("max", false, false, false, Multiset),
            ("first_value", false, true, true, Mergeable),
            ("first_value", false, false, true, Multiset),
            ("array_agg", false, true, true, Multiset),
        ] {
            assert_eq!(
                strategy(name, distinct, ordered, append_only),
                Some(expected),
                "{name}"
            );
        }
    }
}
