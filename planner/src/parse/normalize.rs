//! What sqlparser made of a query, brought to one form: window functions in FROM have positional arguments whatever
//! their spelling; what PostgreSQL allows in a query but Rivermark does not is refused.
//!
//! The one form is `TableFactor::Table { name, args: Some(..) }` with `name` one of `tumble`, `hop`, `cumulate`,
//! `session` in lower case and these arguments, all but the last kind unnamed:
//! relation (a name or `Expr::Subquery`), time column, intervals in PostgreSQL-spelling's order
//! (tumble: size; hop: slide, size; cumulate: step, size; session: gap), `[offset]`, `partition_by => key`*.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Query, Select, SetExpr, TableFactor, TableFunctionArgs, VisitMut, VisitorMut,
};

use super::rewrite::WINDOW_FUNCTIONS;
use crate::error::{PlanError, Result};
use crate::window::PARTITION_ARGUMENT;

/// Normalizes everything in `node`.
pub(super) fn normalize<T: VisitMut>(node: &mut T) -> Result<()> {
    match node.visit(&mut Normalizer) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Normalizes a query, or a change of rows that stands in a query's place.
pub(super) fn normalize_change(query: &mut Query) -> Result<()> {
    match query.body.as_mut() {
        SetExpr::Insert(change) | SetExpr::Update(change) | SetExpr::Delete(change) => {
            normalize(change)?;
            match &mut query.with {
                Some(with) => normalize(with),
                None => Ok(()),
            }
        }
        _ => normalize(query),
    }
}

struct Normalizer;

impl VisitorMut for Normalizer {
    type Break = Box<PlanError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        flow(check_query(query))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        if select.into.is_some() {
            return flow(Err(PlanError::unsupported(
                "SELECT INTO",
                "create the table first, then INSERT INTO ... SELECT ...",
            )));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        unwrap_table_function(factor);
        flow(normalize_window(factor))
    }
}

fn flow(result: Result<()>) -> ControlFlow<Box<PlanError>> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

fn check_query(query: &Query) -> Result<()> {
    if !query.locks.is_empty() {
        return Err(PlanError::unsupported(
            "SELECT ... FOR UPDATE or FOR SHARE",
            "there are no row locks; a conflicting transaction fails at COMMIT and can be run again",
        ));
    }
    if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
        return Err(PlanError::unsupported(
            "FOR XML, FOR JSON, SETTINGS and FORMAT in a query",
            "leave the clause out",
        ));
    }
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::SetOperation { left, right, .. } => {
                check_body(right)?;
                body = left;
            }
            other => return check_body(other),
        }
    }
}

fn check_body(body: &SetExpr) -> Result<()> {
    match body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(PlanError::unsupported(
                "INSERT, UPDATE, DELETE or MERGE inside WITH",
                "write two statements; a transaction makes them one step",
            ))
        }
        SetExpr::Table(_) => Err(PlanError::unsupported(
            "TABLE in this place",
            "write SELECT * FROM name",
        )),
        SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => Ok(()),
    }
}

/// `TABLE(f(...))` is `f(...)`.
fn unwrap_table_function(factor: &mut TableFactor) {
    let TableFactor::TableFunction {
        expr: Expr::Function(function),
        alias,
    } = factor
    else {
        return;
    };
    if function.over.is_some() || function.filter.is_some() || !function.within_group.is_empty() {
        return;
    }
    let FunctionArguments::List(list) = &mut function.args else {
        return;
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return;
    }
    *factor = TableFactor::Table {
        name: function.name.clone(),
        alias: alias.take(),
        args: Some(TableFunctionArgs {
            args: std::mem::take(&mut list.args),
            settings: None,
        }),
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
}

fn normalize_window(factor: &mut TableFactor) -> Result<()> {
    let TableFactor::Table {
        name,
        args: Some(arguments),
        ..
    } = factor
    else {
        return Ok(());
    };
    let Some((function, span)) = window_function(name) else {
        return Ok(());
    };
    *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_span(
        span, function,
    ))]);
    let args = std::mem::take(&mut arguments.args);
    arguments.args = positional(function, args)?;
    Ok(())
}

fn window_function(name: &ObjectName) -> Option<(&'static str, sqlparser::tokenizer::Span)> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
        return None;
    };
    let is_function = |f: &&&str| match ident.quote_style {
        None => ident.value.eq_ignore_ascii_case(f),
        Some(_) => ident.value == **f,
    };
    WINDOW_FUNCTIONS
        .iter()
        .find(is_function)
        .map(|f| (*f, ident.span))
}

/// The names that Flink gives the arguments, in our order.
fn argument_names(function: &str) -> &'static [&'static str] {
    match function {
        "hop" => &["data", "timecol", "slide", "size", "offset"],
        "cumulate" => &["data", "timecol", "step", "size", "offset"],
        "session" => &["data", "timecol", "gap"],
        "gap_fill" => &["data", "timecol", "width"],
        _ => &["data", "timecol", "size", "offset"],
    }
}

fn positional(function: &str, args: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
    let names = argument_names(function);
    let mut places: Vec<Option<FunctionArgExpr>> = Vec::new();
    let mut keys = Vec::new();
    for arg in args {
        match arg {
            FunctionArg::Unnamed(value) => places.push(Some(without_descriptor(value))),
            FunctionArg::Named {
                name,
                arg,
                operator,
            } if name.value.eq_ignore_ascii_case(PARTITION_ARGUMENT) => {
                keys.push(FunctionArg::Named {
                    name,
                    arg,
                    operator,
                });
            }
            FunctionArg::Named { name, arg, .. } => {
                let place = names
                    .iter()
                    .position(|n| name.value.eq_ignore_ascii_case(n))
                    .ok_or_else(|| PlanError::InvalidDefinition {
                        message: format!("{function} has no argument \"{}\"", name.value),
                        hint: Some(format!("its arguments are {}", names.join(", "))),
                    })?;
                if places.len() <= place {
                    places.resize(place + 1, None);
                }
                if places[place].replace(without_descriptor(arg)).is_some() {
                    let message = format!(
                        "{function} is given its argument \"{}\" twice",
                        names[place]
                    );
                    return Err(PlanError::invalid_definition(message));
                }
            }
            FunctionArg::ExprNamed { name, .. } => {
                return Err(PlanError::invalid_definition(format!(
                    "{function} has no argument \"{name}\""
                )));
            }
        }
    }
    let mut out = Vec::with_capacity(places.len() + keys.len());
    for (i, place) in places.into_iter().enumerate() {
        let missing = names.get(i).copied().unwrap_or("?");
        let value = place.ok_or_else(|| {
            PlanError::invalid_definition(format!(
                "{function} is not given its argument \"{missing}\""
            ))
        })?;
        out.push(FunctionArg::Unnamed(value));
    }
    out.extend(keys);
    Ok(out)
}

/// `DESCRIPTOR(ts)` is `ts`.
fn without_descriptor(arg: FunctionArgExpr) -> FunctionArgExpr {
    let FunctionArgExpr::Expr(Expr::Function(function)) = &arg else {
        return arg;
    };
    let FunctionArguments::List(list) = &function.args else {
        return arg;
    };
    match (
        function.name.to_string().eq_ignore_ascii_case("descriptor"),
        list.args.as_slice(),
    ) {
        (true, [FunctionArg::Unnamed(column)]) => column.clone(),
        _ => arg,
    }
}
