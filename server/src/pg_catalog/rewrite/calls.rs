//! Calls of the catalog's functions in words that every query may use, and relations that are written as functions.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SetExpr, TableFactor,
    Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::{call, folded, last_part, number, output_name};

/// Functions in FROM that are relations here.
const RELATIONS: [&str; 3] = [
    "pg_get_keywords",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
];

/// Functions in FROM that never give a row here, with their columns.
const WITHOUT_ROWS: &[(&str, &[&str])] = &[
    (
        "pg_available_extensions",
        &["name text", "default_version text", "comment text"],
    ),
    ("pg_get_publication_tables", &["relid int"]),
    ("pg_partition_ancestors", &["relid int"]),
    (
        "pg_partition_tree",
        &[
            "relid int",
            "parentrelid int",
            "isleaf boolean",
            "level int",
        ],
    ),
];

/// Vectors of the catalog whose first element has number 0.
const VECTORS: [&str; 5] = [
    "indclass",
    "indcollation",
    "indkey",
    "indoption",
    "proargtypes",
];
/// What stands for a function in FROM that gives the rows of a relation, or none.
pub(super) fn relation_of_function(factor: &TableFactor) -> Option<TableFactor> {
    let TableFactor::Table {
        name,
        alias,
        args: Some(_),
        with_ordinality,
        ..
    } = factor
    else {
        return None;
    };
    let function = last_part(name);
    let text = if RELATIONS.contains(&function.as_str()) {
        let alias = match alias {
            Some(alias) => alias.to_string(),
            None => function.clone(),
        };
        format!("pg_catalog.{function} AS {alias}")
    } else {
        let (_, columns) = WITHOUT_ROWS.iter().find(|(name, _)| *name == function)?;
        let mut columns: Vec<String> = columns
            .iter()
            .filter_map(|column| column.split_once(' '))
            .map(|(column, data_type)| format!("CAST(NULL AS {data_type}) AS {column}"))
            .collect();
        if *with_ordinality {
            columns.push("CAST(NULL AS bigint) AS ordinality".to_string());
        }
        let alias = match alias {
            Some(alias) => alias.to_string(),
            None => function.clone(),
        };
        format!("(SELECT {} WHERE false) AS {alias}", columns.join(", "))
    };
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(&text)
        .ok()?;
    parser.parse_table_factor().ok()
}

/// Subqueries in forms that cannot be planned, over what does not exist here: triggers, and types based on others.
pub(super) fn of_nothing(query: &Query) -> Option<Expr> {
    let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
    let is_of_domains = ctes
        .into_iter()
        .any(|cte| folded(&cte.alias.name) == "typebases");
    let data_type = match query.body.as_ref() {
        _ if is_of_domains => "int",
        SetExpr::Select(select) => {
            let reads_triggers = select.from.iter().any(|table| {
                matches!(&table.relation, TableFactor::Table { name, .. } if last_part(name) == "pg_trigger")
            });
            reads_triggers.then_some("text")?
        }
        _ => return None,
    };
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(&format!("CAST(NULL AS {data_type})"))
        .ok()?;
    parser.parse_expr().ok()
}

/// Calls that go by another name or form here.
pub(super) fn plain_call(function: &Function) -> Option<Expr> {
    let arguments = match &function.args {
        FunctionArguments::List(list) => &list.args,
        FunctionArguments::None | FunctionArguments::Subquery(_) => return None,
    };
    let argument = |i: usize| match arguments.get(i) {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) => Some(expr.clone()),
        _ => None,
    };
    match last_part(&function.name).as_str() {
        "coalesce" if is_empty_array(&argument(1)?) && arguments.len() == 2 => {
            Some(call("rm_or_empty", vec![argument(0)?]))
        }
        // none of its relations is a partition
        "pg_partition_ancestors" => {
            let mut parser = Parser::new(&PostgreSqlDialect {})
                .try_with_sql("CAST(NULL AS int[])")
                .ok()?;
            Some(call("unnest", vec![parser.parse_expr().ok()?]))
        }
        "array_agg" if is_oid(&argument(0)?) => {
            Some(call("rm_oids", vec![Expr::Function(function.clone())]))
        }
        "_pg_expandarray" => {
            let elements = call("rm_expandarray", vec![argument(0)?]);
            Some(call("unnest", vec![elements]))
        }
        "generate_subscripts" => {
            let array = argument(0)?;
            let name = output_name(&array).unwrap_or_default();
            let first = usize::from(!VECTORS.contains(&name.as_str()));
            let subscripts = call("rm_subscripts", vec![array, number(first)]);
            Some(call("unnest", vec![subscripts]))
        }
        _ => None,
    }
}

/// A column that holds oids, by its name: arrays of them are such, not of numbers.
fn is_oid(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => output_name(expr).unwrap_or_default(),
        _ => return false,
    };
    name == "oid" || name == "atttypid"
}

/// `'{}'`
fn is_empty_array(expr: &Expr) -> bool {
    let Expr::Value(value) = expr else {
        return false;
    };
    matches!(&value.value, Value::SingleQuotedString(text) if text == "{}")
}
