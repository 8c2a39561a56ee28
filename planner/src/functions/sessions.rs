//! SESSION's window functions: when the session of a row begins and ends. Batch queries run them as they are; in a view an
//! operator of their own does (`lower/session.rs`).
//!
//! They need the rows of a partition in the order of their times, of which none is NULL. A row is of the session of the
//! row before it if less than the gap lies between them; a session ends, exclusively, a gap after its last row.

use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl,
};

use crate::plan::SessionBound;

/// `rm_session_start(ts, gap)` or `rm_session_end(ts, gap)`; the gap is in microseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionFunction {
    bound: SessionBound,
    signature: Signature,
}

/// Both functions.
pub fn session_functions() -> &'static [Arc<WindowUDF>] {
    static ALL: OnceLock<Vec<Arc<WindowUDF>>> = OnceLock::new();
    ALL.get_or_init(|| {
        [SessionBound::Start, SessionBound::End]
            .map(|bound| {
                Arc::new(WindowUDF::from(SessionFunction {
                    bound,
                    signature: Signature::user_defined(Volatility::Immutable),
                }))
            })
            .to_vec()
    })
}

/// What the function of this name gives, if it is one of them.
pub fn session_bound(name: &str) -> Option<SessionBound> {
    [SessionBound::Start, SessionBound::End]
        .into_iter()
        .find(|bound| name_of(*bound) == name)
}

fn name_of(bound: SessionBound) -> &'static str {
    match bound {
        SessionBound::Start => "rm_session_start",
        SessionBound::End => "rm_session_end",
    }
}

impl WindowUDFImpl for SessionFunction {
    fn name(&self) -> &str {
        name_of(self.bound)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [DataType::Timestamp(_, zone), _] => {
                let zone = zone.as_ref().map(|_| "UTC".into());
                Ok(vec![
                    DataType::Timestamp(TimeUnit::Microsecond, zone),
                    DataType::Int64,
                ])
            }
            _ => plan_err!(
                "SESSION needs a column of type timestamp or timestamp with time zone; cast a date with ::timestamp"
            ),
        }
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        let zone = match arguments.input_fields().first().map(|f| f.data_type()) {
            Some(DataType::Timestamp(_, Some(_))) => Some("UTC".into()),
            _ => None,
        };
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, zone);
        Ok(Field::new(arguments.name(), data_type, true).into())
    }

    fn partition_evaluator(
        &self,
        _arguments: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Sessions { bound: self.bound }))
    }
}

#[derive(Debug)]
struct Sessions {
    bound: SessionBound,
}

impl PartitionEvaluator for Sessions {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        let [times, gaps] = values else {
            return internal_err!("a session function takes a time and a gap");
        };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let gap = match num_rows {
            0 => 0,
            _ => gaps.as_primitive::<Int64Type>().value(0),
        };
        let mut bounds: Vec<Option<i64>> = Vec::with_capacity(num_rows);
        let mut first = 0;
        while first < num_rows {
            let mut last = first;
            while last + 1 < num_rows
                && is_one_session(times.value(last), times.value(last + 1), gap)
            {
                last += 1;
            }
            let bound = self.bound.of(times.value(first), times.value(last), gap);
            bounds.resize(last + 1, bound);
            first = last + 1;
        }
        let bounds = TimestampMicrosecondArray::from(bounds);
        Ok(Arc::new(bounds.with_timezone_opt(times.timezone())))
    }
}

/// Whether two neighbours in time are of one session.
pub fn is_one_session(earlier: i64, later: i64, gap: i64) -> bool {
    i128::from(later) - i128::from(earlier) < i128::from(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_a_gap_after_their_last_row() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, 3, 3, 7, 12, 16]));
        let gaps: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![5; 6]));
        for (bound, expected) in [
            (SessionBound::Start, [1, 1, 1, 1, 12, 12]),
            (SessionBound::End, [12, 12, 12, 12, 21, 21]),
        ] {
            let mut sessions = Sessions { bound };
            let found = sessions
                .evaluate_all(&[Arc::clone(&times), Arc::clone(&gaps)], 6)
                .unwrap();
            let found = found.as_primitive::<TimestampMicrosecondType>();
            assert_eq!(found.values().to_vec(), expected, "{bound:?}");
        }
    }
}
