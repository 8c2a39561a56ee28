//! The commonest query of all, one row by its key, without a query engine: `SELECT … FROM t WHERE key = $1` reads the
//! row from state and is done, on the connection's own thread.
//!
//! A plan qualifies if it takes columns of one stored relation whose every key column, and nothing else, is compared for
//! equality with a parameter or a constant. Cost: one read of the state store.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use rivermark_planner::catalog::ObjectId;

use crate::catalog::Namespace;
use crate::pg_error::PgError;
use crate::planning::renamed;

/// A query for the row of a key.
pub struct PointLookup {
    relation: ObjectId,
    /// What each column of the key is compared with, in the order in which rows are stored.
    key: Vec<KeyValue>,
    /// The result's columns among those of the relation.
    columns: Vec<usize>,
    schema: SchemaRef,
}

struct KeyValue {
    data_type: DataType,
    value: Compared,
}

enum Compared {
    Constant(ScalarValue),
    /// Its place among the parameters.
    Parameter(usize),
}

impl PointLookup {
    /// The look-up that the optimised `plan` is; `None` if it is more than one. `names` are the names of its columns.
    pub fn of(
        plan: &LogicalPlan,
        relation: ObjectId,
        names: &Namespace,
        columns: &[String],
    ) -> Option<PointLookup> {
        let (result, filter) = filtered(plan)?;
        let LogicalPlan::TableScan(scan) = filter.input.as_ref() else {
            return None;
        };
        let key = names.snapshot.key_of(relation)?;
        let stored = scan.source.schema();
        let conjuncts = split_conjunction(&filter.predicate);
        if scan.fetch.is_some() || key.is_empty() || conjuncts.len() != key.len() {
            return None;
        }
        let value = |column: &usize| {
            let name = stored.field(*column).name();
            let data_type = stored.field(*column).data_type();
            let compared = conjuncts.iter().find_map(|c| compared_with(c, name));
            Some(KeyValue {
                data_type: data_type.clone(),
                value: compared.filter(|value| is_plain(value, data_type))?,
            })
        };
        let key = key.iter().map(value).collect::<Option<Vec<_>>>()?;
        let places = result.into_iter().map(|place| {
            let field = scan.projected_schema.field(place);
            stored.index_of(field.name()).ok()
        });
        let nullable = plan.schema().as_arrow().fields().iter().map(|field| {
            let field = field.as_ref().clone().with_nullable(true);
            Arc::new(field)
        });
        Some(PointLookup {
            relation,
            key,
            columns: places.collect::<Option<Vec<_>>>()?,
            schema: renamed(
                &Arc::new(Schema::new(nullable.collect::<Vec<_>>())),
                columns,
            ),
        })
    }

    /// The row, if there is one; `None` if the values are not of the key's types, which the query engine knows how to compare.
    pub fn run(
        &self,
        names: &Namespace,
        values: &[ScalarValue],
    ) -> Result<Option<SendableRecordBatchStream>, PgError> {
        let mut key = Vec::with_capacity(self.key.len());
        for part in &self.key {
            let value = match &part.value {
                Compared::Constant(value) => value,
                Compared::Parameter(place) => match values.get(*place) {
                    Some(value) if value.data_type() == part.data_type => value,
                    _ => return Ok(None),
                },
            };
            key.push(value.to_array()?);
        }
        // nothing equals NULL
        let row = match key.iter().any(|value| value.is_null(0)) {
            true => None,
            false => self.read(names, &key)?,
        };
        let batches = futures::stream::iter(row.map(Ok));
        let stream = RecordBatchStreamAdapter::new(self.schema.clone(), batches);
        Ok(Some(Box::pin(stream)))
    }

    fn read(&self, names: &Namespace, key: &[ArrayRef]) -> Result<Option<RecordBatch>, PgError> {
        let found = names.stored_rows(self.relation)?.find_by_key(key)?;
        if found.num_rows() == 0 {
            return Ok(None);
        }
        let columns = self.columns.iter().map(|&c| found.column(c).clone());
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect())?;
        Ok(Some(batch))
    }
}

/// The one filter of a plan that otherwise only chooses and names columns, and which of the filter's columns these are.
fn filtered(plan: &LogicalPlan) -> Option<(Vec<usize>, &Filter)> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => filtered(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (below, filter) = filtered(&projection.input)?;
            let schema = projection.input.schema();
            let place = |expr| Some(below[schema.maybe_index_of_column(column(expr)?)?]);
            let places = projection.expr.iter().map(place);
            Some((places.collect::<Option<Vec<_>>>()?, filter))
        }
        LogicalPlan::Filter(filter) => {
            let columns = (0..plan.schema().fields().len()).collect();
            Some((columns, filter))
        }
        _ => None,
    }
}

/// The column that an expression is, maybe under another name.
fn column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column(&alias.expr),
        _ => None,
    }
}

/// What the condition says that the column called `name` equals.
fn compared_with(condition: &Expr, name: &str) -> Option<Compared> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return None;
    };
    let is_it = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == name);
    let value = match (is_it(left), is_it(right)) {
        (true, false) => right.as_ref(),
        (false, true) => left.as_ref(),
        _ => return None,
    };
    match value {
        Expr::Literal(value, _) => Some(Compared::Constant(value.clone())),
        Expr::Placeholder(placeholder) => {
            let number: usize = placeholder.id.strip_prefix('$')?.parse().ok()?;
            Some(Compared::Parameter(number.checked_sub(1)?))
        }
        _ => None,
    }
}

/// Whether values of the type are equal if their keys are the same bytes, and only then.
fn is_plain(value: &Compared, data_type: &DataType) -> bool {
    let is_plain = data_type.is_integer()
        || data_type.is_temporal()
        || matches!(data_type, DataType::Utf8 | DataType::Boolean);
    let fits = match value {
        Compared::Constant(value) => value.data_type() == *data_type,
        Compared::Parameter(_) => true,
    };
    is_plain && fits
}
