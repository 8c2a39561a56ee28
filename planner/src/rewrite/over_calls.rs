//! Calls of window functions as DataFusion takes them.
//!
//! - `OVER (w ROWS …)` and `WINDOW v AS (w ORDER BY …)` take over what the window `w` says, which DataFusion ignores.
//! - `lag(x, n, d)` with a default that is computed is `CASE WHEN lag(1, n) … IS NULL THEN d ELSE lag(x, n) … END`.

use std::ops::ControlFlow;

use sqlparser::ast::{
    CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
    NamedWindowDefinition, NamedWindowExpr, Select, Value, WindowSpec, WindowType,
    visit_expressions_mut,
};

use crate::names::fold;

/// Writes out the windows that are named within other ones.
pub(super) fn write_out_windows(select: &mut Select) {
    if select.named_window.is_empty() {
        return;
    }
    let mut known: Vec<(String, WindowSpec)> = Vec::new();
    for NamedWindowDefinition(name, window) in &mut select.named_window {
        let spec = match window {
            NamedWindowExpr::NamedWindow(other) => find(&known, other).cloned(),
            NamedWindowExpr::WindowSpec(spec) => written_out(spec, &known),
        };
        if let Some(spec) = spec {
            known.push((fold(name), spec.clone()));
            *window = NamedWindowExpr::WindowSpec(spec);
        }
    }
    let _: ControlFlow<()> = visit_expressions_mut(&mut select.projection, |expr| {
        if let Expr::Function(Function {
            over: Some(over), ..
        }) = expr
            && let WindowType::WindowSpec(spec) = over
            && let Some(name) = spec.window_name.clone()
        {
            *over = match written_out(spec, &known) {
                Some(spec) => WindowType::WindowSpec(spec),
                // says that there is no such window
                None => WindowType::NamedWindow(name),
            };
        }
        ControlFlow::Continue(())
    });
}

fn find<'a>(known: &'a [(String, WindowSpec)], name: &Ident) -> Option<&'a WindowSpec> {
    let name = fold(name);
    known
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, spec)| spec)
}

/// `spec` with what the window says that it names.
fn written_out(spec: &WindowSpec, known: &[(String, WindowSpec)]) -> Option<WindowSpec> {
    let Some(name) = &spec.window_name else {
        return Some(spec.clone());
    };
    let base = find(known, name)?;
    let order_by = match base.order_by.is_empty() {
        true => spec.order_by.clone(),
        false => base.order_by.clone(),
    };
    Some(WindowSpec {
        window_name: None,
        partition_by: base.partition_by.clone(),
        order_by,
        window_frame: spec.window_frame.clone(),
    })
}

/// `lag` and `lead` with a default that is no literal.
pub(super) fn computed_default(function: &Function) -> Option<Expr> {
    let name = function.name.0.last()?.as_ident().map(fold)?;
    if !matches!(name.as_str(), "lag" | "lead") || function.over.is_none() {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let [
        value,
        by,
        FunctionArg::Unnamed(FunctionArgExpr::Expr(default)),
    ] = list.args.as_slice()
    else {
        return None;
    };
    if is_literal(default) {
        return None;
    }
    let call = |value: FunctionArg| {
        let mut function = function.clone();
        if let FunctionArguments::List(list) = &mut function.args {
            list.args = vec![value, by.clone()];
        }
        Box::new(Expr::Function(function))
    };
    let one = Expr::Value(Value::Number("1".to_string(), false).into());
    let is_missing = Expr::IsNull(call(FunctionArg::Unnamed(FunctionArgExpr::Expr(one))));
    Some(Expr::Case {
        case_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        end_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen {
            condition: is_missing,
            result: default.clone(),
        }],
        else_result: Some(call(value.clone())),
    })
}

fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::UnaryOp { expr, .. } | Expr::Nested(expr) | Expr::Cast { expr, .. } => {
            is_literal(expr)
        }
        _ => false,
    }
}
