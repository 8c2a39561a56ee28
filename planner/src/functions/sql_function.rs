//! Functions by their PostgreSQL signatures: a name, overloads, and a body per overload that computes one row.
//!
//! An overload is chosen as PostgreSQL chooses it: the one whose arguments need the fewest conversions; a text may be
//! anything, since untyped literals are texts. A strict overload is NULL where an argument is.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::argument::{Column, Kind};
use super::value::{Value, to_array};
use crate::types::SqlType;

/// One row's arguments, each of the kind that the overload asks for.
pub struct Row<'a> {
    columns: &'a [Column],
    row: usize,
}

impl<'a> Row<'a> {
    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_null(&self, index: usize) -> bool {
        self.columns
            .get(index)
            .is_none_or(|column| column.is_null(self.row))
    }

    pub fn text(&self, index: usize) -> &'a str {
        self.columns[index].text(self.row)
    }

    pub fn bytes(&self, index: usize) -> &'a [u8] {
        self.columns[index].bytes(self.row)
    }

    pub fn bool(&self, index: usize) -> bool {
        self.columns[index].bool(self.row)
    }

    /// An integer, days since 1970, or microseconds.
    pub fn int(&self, index: usize) -> i64 {
        self.columns[index].int(self.row)
    }

    pub fn float(&self, index: usize) -> f64 {
        self.columns[index].float(self.row)
    }

    /// The unscaled value of a numeric, and its scale.
    pub fn decimal(&self, index: usize) -> (i128, i8) {
        self.columns[index].decimal(self.row)
    }

    pub fn interval(&self, index: usize) -> arrow::datatypes::IntervalMonthDayNano {
        self.columns[index].interval(self.row)
    }

    /// The elements of an array.
    pub fn array(&self, index: usize) -> ArrayRef {
        self.columns[index].array(self.row)
    }

    /// The elements of an array of texts.
    pub fn texts(&self, index: usize) -> Vec<Option<String>> {
        self.columns[index].texts(self.row)
    }
}

/// Computes one row.
pub type Body = fn(&Row) -> Result<Value>;

/// What an overload returns.
#[derive(Debug, Clone)]
pub enum Gives {
    Type(SqlType),
    /// The type of an argument.
    Like(usize),
}

impl From<SqlType> for Gives {
    fn from(sql_type: SqlType) -> Gives {
        Gives::Type(sql_type)
    }
}

/// Computes all rows at once where it can: `None` leaves them to the [`Body`]. The result is of the overload's type.
pub type Whole = fn(&[ColumnarValue]) -> Result<Option<ArrayRef>>;

struct Overload {
    takes: Vec<Kind>,
    /// How many more of the last kind may follow.
    is_variadic: bool,
    gives: Gives,
    is_strict: bool,
    body: Body,
    whole: Option<Whole>,
}

/// A function under construction and in plans.
pub struct SqlFunction {
    name: &'static str,
    overloads: Vec<Overload>,
    signature: Signature,
}

/// Starts the definition of a function.
pub fn function(name: &'static str) -> SqlFunction {
    SqlFunction {
        name,
        overloads: Vec::new(),
        signature: Signature::user_defined(Volatility::Immutable),
    }
}

impl SqlFunction {
    fn overload(
        mut self,
        takes: &[Kind],
        is_variadic: bool,
        is_strict: bool,
        gives: Gives,
        body: Body,
    ) -> Self {
        self.overloads.push(Overload {
            takes: takes.to_vec(),
            is_variadic,
            gives,
            is_strict,
            body,
            whole: None,
        });
        self
    }

    /// An overload that is NULL if an argument is.
    pub fn strict(self, takes: &[Kind], gives: impl Into<Gives>, body: Body) -> Self {
        self.overload(takes, false, true, gives.into(), body)
    }

    /// An overload that sees NULLs.
    pub fn lenient(self, takes: &[Kind], gives: impl Into<Gives>, body: Body) -> Self {
        self.overload(takes, false, false, gives.into(), body)
    }

    /// A strict overload whose last kind may occur any number of times.
    pub fn strict_variadic(self, takes: &[Kind], gives: impl Into<Gives>, body: Body) -> Self {
        self.overload(takes, true, true, gives.into(), body)
    }

    /// An overload that sees NULLs, and whose last kind may occur any number of times.
    pub fn variadic(self, takes: &[Kind], gives: impl Into<Gives>, body: Body) -> Self {
        self.overload(takes, true, false, gives.into(), body)
    }

    /// The last overload can do many rows at once.
    pub fn at_once(mut self, whole: Whole) -> Self {
        if let Some(overload) = self.overloads.last_mut() {
            overload.whole = Some(whole);
        }
        self
    }

    /// Finishes the definition.
    pub fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(self))
    }

    /// The overload for arguments of these types.
    fn choose(&self, fields: &[FieldRef]) -> Result<&Overload> {
        let best = self
            .overloads
            .iter()
            .filter_map(|overload| Some((overload.cost(fields)?, overload)))
            .min_by_key(|(cost, _)| *cost);
        match best {
            Some((_, overload)) => Ok(overload),
            None => {
                let types: Vec<String> = fields
                    .iter()
                    .map(|field| match field.data_type() {
                        DataType::Null => "unknown".to_string(),
                        _ => SqlType::of_field(field).base_name(),
                    })
                    .collect();
                Err(plan_datafusion_err!(
                    "function {}({}) does not exist",
                    self.name,
                    types.join(", ")
                ))
            }
        }
    }
}

impl Overload {
    fn kind(&self, index: usize) -> Kind {
        let last = self.takes.len().saturating_sub(1);
        self.takes[index.min(last)]
    }

    /// How far the arguments are from this overload; `None`: it does not take them.
    fn cost(&self, fields: &[FieldRef]) -> Option<u32> {
        let fits = if self.is_variadic {
            fields.len() + 1 >= self.takes.len()
        } else {
            fields.len() == self.takes.len()
        };
        if !fits {
            return None;
        }
        fields
            .iter()
            .enumerate()
            .map(|(i, field)| self.kind(i).cost(field))
            .sum()
    }
}

impl std::fmt::Debug for SqlFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqlFunction({})", self.name)
    }
}

impl PartialEq for SqlFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for SqlFunction {}

impl Hash for SqlFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for SqlFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let fields: Vec<FieldRef> = arguments.iter().map(unnamed).collect();
        let overload = self.choose(&fields)?;
        Ok(arguments
            .iter()
            .enumerate()
            .map(|(i, data_type)| overload.kind(i).coerced(data_type))
            .collect())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let fields: Vec<FieldRef> = arguments.iter().map(unnamed).collect();
        Ok(self.return_field(&fields)?.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.return_field(args.arg_fields)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let overload = self.choose(&args.arg_fields)?;
        let is_scalar = args
            .args
            .iter()
            .all(|a| matches!(a, ColumnarValue::Scalar(_)));
        if let Some(whole) = overload.whole.filter(|_| !is_scalar)
            && let Some(result) = whole(&args.args)?
        {
            return Ok(ColumnarValue::Array(result));
        }
        let rows = if is_scalar { 1 } else { args.number_rows };
        let columns = args
            .args
            .iter()
            .zip(&args.arg_fields)
            .enumerate()
            .map(|(i, (argument, field))| Column::new(argument, field, overload.kind(i)))
            .collect::<Result<Vec<_>>>()?;
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows {
            let row = Row {
                columns: &columns,
                row,
            };
            let is_null = overload.is_strict && (0..columns.len()).any(|i| row.is_null(i));
            values.push(if is_null {
                Value::Null
            } else {
                (overload.body)(&row)?
            });
        }
        let result = to_array(args.return_field.data_type(), values)?;
        if is_scalar {
            let scalar = ScalarValue::try_from_array(&result, 0)?;
            return Ok(ColumnarValue::Scalar(scalar));
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl SqlFunction {
    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        let overload = self.choose(fields)?;
        let nullable = true;
        Ok(Arc::new(match &overload.gives {
            Gives::Type(sql_type) => sql_type.field(self.name, nullable),
            Gives::Like(index) => {
                let coerced = overload.kind(*index).coerced(fields[*index].data_type());
                let field = fields[*index].as_ref().clone();
                field
                    .with_data_type(coerced)
                    .with_name(self.name)
                    .with_nullable(nullable)
            }
        }))
    }
}

fn unnamed(data_type: &DataType) -> FieldRef {
    Arc::new(arrow::datatypes::Field::new("", data_type.clone(), true))
}
