//! Window functions that count rows, with PostgreSQL's types: DataFusion's have no sign, so that `- rank() OVER (…)` would
//! not even bind.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_window::{ntile::ntile_udwf, rank as ranks, row_number::row_number_udwf};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{
    Expr, LimitEffect, PartitionEvaluator, Signature, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_plan::PhysicalExpr;

/// `row_number`, `rank`, `dense_rank` and `ntile`.
pub fn window_functions() -> &'static [Arc<WindowUDF>] {
    static FUNCTIONS: OnceLock<Vec<Arc<WindowUDF>>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let signed =
            |counted, data_type| Arc::new(WindowUDF::new_from_impl(Signed { counted, data_type }));
        vec![
            signed(row_number_udwf(), DataType::Int64),
            signed(ranks::rank_udwf(), DataType::Int64),
            signed(ranks::dense_rank_udwf(), DataType::Int64),
            signed(ntile_udwf(), DataType::Int32),
        ]
    })
}

/// A call of `row_number`, still without a window.
pub fn row_number() -> Expr {
    call("row_number")
}

/// A call of `rank`, still without a window.
pub fn rank() -> Expr {
    call("rank")
}

fn call(name: &str) -> Expr {
    let mut functions = window_functions().iter();
    let function = functions.find(|function| function.name() == name);
    function.expect("the list has it").call(Vec::new())
}

/// DataFusion's function with another type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Signed {
    counted: Arc<WindowUDF>,
    data_type: DataType,
}

impl WindowUDFImpl for Signed {
    fn name(&self) -> &str {
        self.counted.name()
    }

    fn signature(&self) -> &Signature {
        self.counted.signature()
    }

    fn partition_evaluator(
        &self,
        arguments: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(SignedEvaluator {
            counted: self.counted.partition_evaluator_factory(arguments)?,
            data_type: self.data_type.clone(),
        }))
    }

    fn field(&self, arguments: WindowUDFFieldArgs) -> Result<FieldRef> {
        let field = self.counted.field(arguments)?;
        let signed = field
            .as_ref()
            .clone()
            .with_data_type(self.data_type.clone());
        Ok(Arc::new(signed))
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.counted.sort_options()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.counted.coerce_types(types)
    }

    fn limit_effect(&self, arguments: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.counted.inner().limit_effect(arguments)
    }
}

#[derive(Debug)]
struct SignedEvaluator {
    counted: Box<dyn PartitionEvaluator>,
    data_type: DataType,
}

impl PartitionEvaluator for SignedEvaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.counted.memoize(state)
    }

    fn get_range(&self, row: usize, rows: usize) -> Result<Range<usize>> {
        self.counted.get_range(row, rows)
    }

    fn is_causal(&self) -> bool {
        self.counted.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let places = self.counted.evaluate_all(values, rows)?;
        Ok(cast(&places, &self.data_type)?)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        self.counted
            .evaluate(values, range)?
            .cast_to(&self.data_type)
    }

    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> Result<ArrayRef> {
        let places = self.counted.evaluate_all_with_rank(rows, ranks)?;
        Ok(cast(&places, &self.data_type)?)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.counted.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.counted.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.counted.include_rank()
    }
}
