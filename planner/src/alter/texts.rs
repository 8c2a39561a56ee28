//! Stored texts after something they name has changed: the queries of views, generated columns and checks.
//!
//! Bound SQL names a relation once, in FROM, with its schema; everything else refers to the alias that stands there.
//! So a relation's new name is a matter of that one place. Changed columns are hidden behind a subquery that offers
//! exactly the old ones: `FROM public.t AS t` becomes `FROM (SELECT b AS a, c FROM public.t) AS t`.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName as AstName, Query, SetExpr, TableFactor,
    VisitMut, VisitorMut,
};
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::catalog::QualifiedName;
use crate::dialect::RivermarkDialect;
use crate::error::Result;
use crate::names::{fold, ident};
use crate::parse::parse_expression;
use crate::parse_query::parse_query;
use crate::relations::qualified_sql;
use crate::rewrite::proctime::{is_as_of_now, mark};
use crate::window::WindowKind;

/// What the readers of a relation have to be told.
pub(super) enum Reader<'a> {
    Renamed {
        from: &'a QualifiedName,
        to: &'a QualifiedName,
    },
    /// The relation's columns now, each with the name that the readers know it by.
    Columns {
        of: &'a QualifiedName,
        columns: &'a [(String, String)],
    },
}

impl Reader<'_> {
    /// The query, meaning what it meant before the change.
    pub fn rewrite(&self, query: &str) -> Result<String> {
        let mut query = parse_query(query)?;
        let mut visitor = Factors {
            reader: self,
            failure: None,
        };
        let _ = query.visit(&mut visitor);
        match visitor.failure {
            Some(error) => Err(error),
            None => Ok(query.to_string()),
        }
    }

    fn relation(&self) -> &QualifiedName {
        match self {
            Reader::Renamed { from, .. } => from,
            Reader::Columns { of, .. } => of,
        }
    }

    fn is_meant(&self, parts: &[&Ident]) -> bool {
        let relation = self.relation();
        matches!(parts, [schema, name] if fold(schema) == relation.schema && fold(name) == relation.name)
    }

    /// The relation with its columns as the readers know them.
    fn old_columns(columns: &[(String, String)], of: &QualifiedName) -> Result<Query> {
        let items: Vec<String> = columns
            .iter()
            .map(|(now, known)| match now == known {
                true => ident(now).to_string(),
                false => format!("{} AS {}", ident(now), ident(known)),
            })
            .collect();
        parse_query(&format!(
            "SELECT {} FROM {}",
            items.join(", "),
            qualified_sql(of)
        ))
    }

    fn change_factor(&self, factor: &mut TableFactor) -> Result<()> {
        let is_as_of_now = is_as_of_now(factor);
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let parts: Vec<&Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
                if !self.is_meant(&parts) {
                    return Ok(());
                }
                match self {
                    Reader::Renamed { to, .. } => {
                        *name = AstName::from(vec![ident(&to.schema), ident(&to.name)]);
                    }
                    Reader::Columns { of, columns } => {
                        let mut subquery = Self::old_columns(columns, of)?;
                        if is_as_of_now {
                            mark(&mut subquery);
                        }
                        *factor = TableFactor::Derived {
                            lateral: false,
                            subquery: Box::new(subquery),
                            alias: alias.clone(),
                            sample: None,
                        };
                    }
                }
                Ok(())
            }
            TableFactor::Table {
                name,
                args: Some(args),
                ..
            } => match args.args.first_mut() {
                Some(first) => self.change_window(name, first),
                None => Ok(()),
            },
            TableFactor::Function { name, args, .. } => match args.first_mut() {
                Some(first) => self.change_window(name, first),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// `TUMBLE(public.t, ...)` and its like name the relation in their first argument.
    fn change_window(&self, function: &AstName, argument: &mut FunctionArg) -> Result<()> {
        let name = function.0.last().and_then(|p| p.as_ident()).map(fold);
        let is_window = name.is_some_and(|n| matches!(WindowKind::of(&n), Ok(Some(_))));
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
            return Ok(());
        };
        let Expr::CompoundIdentifier(parts) = &*expr else {
            return Ok(());
        };
        if !is_window || !self.is_meant(&parts.iter().collect::<Vec<_>>()) {
            return Ok(());
        }
        *expr = match self {
            Reader::Renamed { to, .. } => {
                Expr::CompoundIdentifier(vec![ident(&to.schema), ident(&to.name)])
            }
            Reader::Columns { of, columns } => {
                Expr::Subquery(Box::new(Self::old_columns(columns, of)?))
            }
        };
        Ok(())
    }
}

/// Visits every FROM item. Replaced ones are not looked into again: that happens after their contents were visited.
struct Factors<'a> {
    reader: &'a Reader<'a>,
    failure: Option<crate::error::PlanError>,
}

impl VisitorMut for Factors<'_> {
    type Break = ();

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match self.reader.change_factor(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// `TABLE t` as a query; bound SQL has none, since binding expands it.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        debug_assert!(!matches!(query.body.as_ref(), SetExpr::Table(_)));
        ControlFlow::Continue(())
    }
}

/// Whether a query could come to mean something else if a relation that it reads got a column called `name`.
pub(super) fn mentions(query: &str, name: &str) -> bool {
    let dialect = RivermarkDialect::default();
    let Ok(tokens) = Tokenizer::new(&dialect, query).tokenize() else {
        return true;
    };
    tokens.iter().any(|token| match token {
        Token::Word(word) => {
            let is_name = match word.quote_style {
                Some(_) => word.value == name,
                None => crate::identifier::fold(&word.value) == name,
            };
            // NATURAL joins match whatever columns there are.
            is_name || (word.quote_style.is_none() && word.value.eq_ignore_ascii_case("natural"))
        }
        _ => false,
    })
}

/// An expression over the columns of `relation`, one of which is called `to` now.
pub(super) fn rename_in_expression(
    text: &str,
    from: &str,
    to: &str,
    relation: &str,
) -> Result<String> {
    let mut expr = parse_expression(text)?;
    let _: ControlFlow<()> = sqlparser::ast::visit_expressions_mut(&mut expr, |part| {
        match part {
            Expr::Identifier(name) if fold(name) == from => *name = ident(to),
            Expr::CompoundIdentifier(parts) => {
                let is_qualified = parts.len() > 1 && fold(&parts[0]) == relation;
                if let Some(name) = parts.get_mut(usize::from(is_qualified))
                    && fold(name) == from
                {
                    *name = ident(to);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    Ok(expr.to_string())
}
