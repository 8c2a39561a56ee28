//! `WITH (retention = …)`: for how long a materialized view keeps its rows, and by which of its columns.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use crate::error::{PlanError, Result};
use crate::lower::window_close::time_of_rows;
use crate::plan::{PlanNode, PlanOp};
use crate::watermark::interval_us;

/// The option's name.
const OPTION: &str = "retention";
/// Rows are forgotten in so many steps per retention: one range delete each.
const STEPS: i64 = 16;

/// See the module text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRetention {
    /// A column with a watermark.
    pub column: usize,
    /// Rows are kept until the watermark is so far beyond them, and a sixteenth of it longer at most.
    pub keep_us: i64,
}

impl RowRetention {
    /// What the options of a view with this plan say.
    pub fn of(options: &BTreeMap<String, String>, root: &PlanNode) -> Result<Option<RowRetention>> {
        check_view_options(options)?;
        let Some(text) = options.get(OPTION) else {
            return Ok(None);
        };
        let keep_us = interval_us(text).filter(|us| *us > 0).ok_or_else(|| {
            PlanError::invalid_option(format!(
                "option \"{OPTION}\" takes an interval above 0 without months, such as '7 days', not '{text}'"
            ))
        })?;
        let column = time_column(root).ok_or_else(|| no_watermark(text))?;
        Ok(Some(RowRetention { column, keep_us }))
    }

    /// Rows of earlier times are forgotten once the watermark is here. It rises in steps.
    pub fn floor_us(&self, watermark_us: i64) -> i64 {
        let step = (self.keep_us / STEPS).max(1);
        let floor = watermark_us.saturating_sub(self.keep_us);
        floor.div_euclid(step).saturating_mul(step)
    }
}

/// Checks what stands behind `WITH` of a materialized view.
fn check_view_options(options: &BTreeMap<String, String>) -> Result<()> {
    match options.keys().find(|name| *name != OPTION) {
        None => Ok(()),
        Some(other) => Err(PlanError::invalid_option(format!(
            "unknown option \"{other}\" of a materialized view"
        ))),
    }
}

/// That of the window's close, or else the one by which it would be.
fn time_column(root: &PlanNode) -> Option<usize> {
    let column = match &root.op {
        PlanOp::WindowClose { column } => *column,
        _ => time_of_rows(root)?,
    };
    let data_type = root.schema.field(column).data_type();
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32).then_some(column)
}

fn no_watermark(text: &str) -> PlanError {
    PlanError::InvalidDefinition {
        message: format!(
            "option \"{OPTION}\" can not tell how old a row is: no watermark reaches the view's columns"
        ),
        hint: Some(format!(
            "Declare a WATERMARK where the rows come from and select the column that it reaches, or let rows leave by the \
             clock: WHERE ts > now() - INTERVAL '{text}'."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_rises_in_steps_and_keeps_at_least_what_was_asked_for() {
        let retention = RowRetention {
            column: 0,
            keep_us: 160,
        };
        for (watermark, floor) in [(0, -160), (9, -160), (10, -150), (169, 0), (-1, -170)] {
            assert_eq!(retention.floor_us(watermark), floor, "{watermark}");
        }
    }
}
