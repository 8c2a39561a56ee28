//! The parenthesised list in CREATE SOURCE and CREATE TABLE: columns with their constraints, table constraints,
//! and the watermark.

use sqlparser::tokenizer::Token;

use super::input::Input;
use super::watermark::watermark;
use crate::catalog::{ColumnDef, WatermarkDef};
use crate::error::{PlanError, Result, UndefinedKind};

/// What a column list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Source,
    Table,
}

#[derive(Default)]
pub(super) struct ColumnList {
    pub columns: Vec<ColumnDef>,
    /// Names, as declared; `None` without PRIMARY KEY.
    pub primary_key: Option<Vec<String>>,
    /// Columns of UNIQUE constraints.
    pub unique: Vec<Vec<String>>,
    pub checks: Vec<Check>,
    pub watermark: Option<WatermarkDef>,
}

/// A CHECK constraint.
pub(super) struct Check {
    pub name: Option<String>,
    pub expression: String,
}

/// `(item, ...)`.
pub(super) fn column_list(input: &mut Input, owner: Owner) -> Result<ColumnList> {
    let mut list = ColumnList::default();
    input.parenthesized_list(|input| list.item(input, owner))?;
    Ok(list)
}

/// One column with its constraints, to be added to a relation that exists.
pub(super) fn one_column(input: &mut Input, owner: Owner) -> Result<ColumnDef> {
    let mut list = ColumnList::default();
    list.column(input, owner)?;
    if list.primary_key.is_some() || !list.checks.is_empty() || !list.unique.is_empty() {
        return Err(PlanError::unsupported(
            "a new column with PRIMARY KEY, UNIQUE or CHECK",
            "create a table with the constraint and INSERT INTO it SELECT from this one",
        ));
    }
    list.columns
        .pop()
        .ok_or_else(|| PlanError::Internal("a column was parsed".to_string()))
}

impl ColumnList {
    fn item(&mut self, input: &mut Input, owner: Owner) -> Result<()> {
        if input.accept(&["WATERMARK", "FOR"]) {
            if self.watermark.is_some() {
                return Err(PlanError::invalid_definition(
                    "a relation has at most one watermark",
                ));
            }
            self.watermark = Some(watermark(input)?);
            return Ok(());
        }
        let constraint = if input.accept(&["CONSTRAINT"]) {
            Some(input.name("a constraint name")?)
        } else {
            None
        };
        if input.accept(&["PRIMARY", "KEY"]) {
            let columns = input.parenthesized_list(|i| i.name("a column name"))?;
            return self.set_primary_key(owner, columns);
        }
        if input.accept(&["CHECK"]) {
            return self.add_check(input, owner, constraint);
        }
        if owner == Owner::Table && input.accept(&["UNIQUE"]) {
            let columns = input.parenthesized_list(|i| i.name("a column name"))?;
            self.unique.push(columns);
            return Ok(());
        }
        if constraint.is_some() || input.is_at_one_of(&["UNIQUE", "FOREIGN", "LIKE"]) {
            return Err(refused_constraint(input));
        }
        self.column(input, owner)
    }

    fn column(&mut self, input: &mut Input, owner: Owner) -> Result<()> {
        let name = input.name("a column name")?;
        if self.columns.iter().any(|c| c.name == name) {
            return Err(duplicate_column(&name));
        }
        if matches!(input.token(0), Token::Comma | Token::RParen)
            || input.is_at_one_of(&["AS", "NOT", "PRIMARY"])
        {
            return Err(input.expected(&format!("a type for column \"{name}\"")));
        }
        let data_type = input.data_type()?;
        self.columns.push(ColumnDef {
            name,
            data_type,
            not_null: false,
            default: None,
            generated: None,
            include: None,
            comment: None,
        });
        let mut is_nullable = false;
        while !input.is_at_end() && !matches!(input.token(0), Token::Comma | Token::RParen) {
            let constraint = if input.accept(&["CONSTRAINT"]) {
                Some(input.name("a constraint name")?)
            } else {
                None
            };
            if input.accept(&["NULL"]) {
                is_nullable = true;
            } else {
                self.column_constraint(input, owner, constraint)?;
            }
        }
        let column = self.last();
        if is_nullable && column.not_null {
            let message = format!(
                "conflicting NULL and NOT NULL declarations for column \"{}\"",
                column.name
            );
            return Err(PlanError::invalid_definition(message));
        }
        if column.default.is_some() && column.generated.is_some() {
            let message = format!(
                "column \"{}\" has both a default and a generation expression",
                column.name
            );
            return Err(PlanError::invalid_definition(message));
        }
        Ok(())
    }

    fn column_constraint(
        &mut self,
        input: &mut Input,
        owner: Owner,
        constraint: Option<String>,
    ) -> Result<()> {
        if input.accept(&["NOT", "NULL"]) {
            self.last().not_null = true;
        } else if input.accept(&["PRIMARY", "KEY"]) {
            let name = self.last().name.clone();
            self.set_primary_key(owner, vec![name])?;
        } else if input.accept(&["CHECK"]) {
            self.add_check(input, owner, constraint)?;
        } else if owner == Owner::Table && input.accept(&["UNIQUE"]) {
            let name = self.last().name.clone();
            self.unique.push(vec![name]);
        } else if input.is_at(&["DEFAULT"]) && owner == Owner::Source {
            return Err(PlanError::unsupported(
                "DEFAULT on a source's column",
                "a key that a message lacks is NULL; use coalesce(...) in the view that reads it",
            ));
        } else if input.accept(&["DEFAULT"]) {
            let text = input.expression()?.to_string();
            set_once(
                &mut self.last().default,
                text,
                "multiple default values for a column",
            )?;
        } else if input.accept(&["AS"]) || input.accept(&["GENERATED", "ALWAYS", "AS"]) {
            self.generated(input)?;
        } else if input.is_at(&["GENERATED", "BY", "DEFAULT"]) {
            return Err(refused_identity());
        } else if input.is_at_one_of(&["UNIQUE", "REFERENCES", "COLLATE"]) || constraint.is_some() {
            return Err(refused_constraint(input));
        } else {
            return Err(input.expected("a column constraint, \",\" or \")\""));
        }
        Ok(())
    }

    fn generated(&mut self, input: &mut Input) -> Result<()> {
        if input.is_at(&["IDENTITY"]) {
            return Err(refused_identity());
        }
        let text = input.expression()?.to_string();
        if input.is_at(&["VIRTUAL"]) {
            return Err(PlanError::unsupported(
                "a VIRTUAL generated column",
                "write STORED, or leave the word out",
            ));
        }
        input.accept(&["STORED"]);
        set_once(
            &mut self.last().generated,
            text,
            "multiple generation clauses for a column",
        )
    }

    fn add_check(&mut self, input: &mut Input, owner: Owner, name: Option<String>) -> Result<()> {
        if owner == Owner::Source {
            return Err(PlanError::unsupported(
                "CHECK on a source",
                "filter in the view that reads it",
            ));
        }
        input.expect_token(&Token::LParen)?;
        let expression = input.expression()?.to_string();
        input.expect_token(&Token::RParen)?;
        self.checks.push(Check { name, expression });
        Ok(())
    }

    fn set_primary_key(&mut self, owner: Owner, columns: Vec<String>) -> Result<()> {
        if owner == Owner::Source {
            return Err(PlanError::unsupported(
                "PRIMARY KEY on a source",
                "a source is append-only and not stored; use CREATE TABLE for rows that replace each other by key",
            ));
        }
        if let Some(twice) = columns
            .iter()
            .enumerate()
            .find_map(|(i, c)| columns[..i].contains(c).then_some(c))
        {
            let message = format!("column \"{twice}\" appears twice in primary key constraint");
            return Err(PlanError::Duplicate {
                kind: UndefinedKind::Column,
                message,
            });
        }
        if self.primary_key.replace(columns).is_some() {
            return Err(PlanError::invalid_definition(
                "multiple primary keys for a table are not allowed",
            ));
        }
        Ok(())
    }

    /// The column that is being parsed.
    fn last(&mut self) -> &mut ColumnDef {
        self.columns
            .last_mut()
            .expect("a column is pushed before its constraints are parsed")
    }
}

fn set_once(place: &mut Option<String>, text: String, message: &str) -> Result<()> {
    match place.replace(text) {
        None => Ok(()),
        Some(_) => Err(PlanError::invalid_definition(message)),
    }
}

pub(super) fn duplicate_column(name: &str) -> PlanError {
    PlanError::Duplicate {
        kind: UndefinedKind::Column,
        message: format!("column \"{name}\" specified more than once"),
    }
}

fn refused_identity() -> PlanError {
    PlanError::unsupported(
        "an identity column",
        "there are no sequences; let the client make keys",
    )
}

fn refused_constraint(input: &Input) -> PlanError {
    let refused = |feature: &str, hint: &str| PlanError::unsupported(feature, hint);
    if input.is_at(&["UNIQUE"]) {
        refused("UNIQUE", "declare the columns as PRIMARY KEY")
    } else if input.is_at(&["FOREIGN"]) || input.is_at(&["REFERENCES"]) {
        refused(
            "FOREIGN KEY",
            "leave the constraint out; joins do not need it",
        )
    } else if input.is_at(&["LIKE"]) {
        refused("CREATE TABLE ... (LIKE ...)", "write the columns out")
    } else if input.is_at(&["COLLATE"]) {
        refused(
            "COLLATE",
            "texts compare by their bytes, as in collation \"C\"",
        )
    } else {
        input.expected("PRIMARY KEY, CHECK or NOT NULL")
    }
}
