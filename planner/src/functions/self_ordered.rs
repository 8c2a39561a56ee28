//! Aggregates that put their values in order themselves. DataFusion's want their input sorted, which it can be in one way
//! only: two calls of `string_agg` with an `ORDER BY` of their own each were refused, and
//! `array_agg(DISTINCT x ORDER BY x)` beside `array_agg(x ORDER BY x DESC)` came backwards.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

/// `string_agg` and `array_agg`.
pub fn functions() -> Vec<Arc<AggregateUDF>> {
    [string_agg_udaf(), array_agg_udaf()]
        .map(|collected| Arc::new(AggregateUDF::from(SelfOrdered { collected })))
        .to_vec()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SelfOrdered {
    /// DataFusion's function, whose state sorts what is not in order.
    collected: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for SelfOrdered {
    fn name(&self) -> &str {
        self.collected.name()
    }

    fn aliases(&self) -> &[String] {
        self.collected.aliases()
    }

    fn signature(&self) -> &Signature {
        self.collected.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.collected.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.collected.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.collected.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.collected.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.collected.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Beneficial
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _is_ordered: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.collected.supports_null_handling_clause()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }
}
