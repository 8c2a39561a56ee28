//! SHOW and DESCRIBE.

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::statement::{Show, Statement};

/// What stands behind SHOW.
pub(super) fn show(input: &mut Input) -> Result<Statement> {
    if input.is_at_one_of(&["CREATE", "COLUMNS"]) {
        return of_relation(input);
    }
    let lists: [(&[&str], Show); 11] = [
        (&["TABLES"], Show::Tables),
        (&["SOURCES"], Show::Sources),
        (&["SINKS"], Show::Sinks),
        (&["VIEWS"], Show::Views),
        (&["MATERIALIZED", "VIEWS"], Show::MaterializedViews),
        (&["INDEXES"], Show::Indexes),
        (&["INDICES"], Show::Indexes),
        (&["SCHEMAS"], Show::Schemas),
        (&["DATABASES"], Show::Databases),
        (&["PROCESSLIST"], Show::ProcessList),
        (&["ALL"], Show::AllSettings),
    ];
    let list = lists.into_iter().find(|(words, _)| input.accept(words));
    if let Some((_, show)) = list {
        if input.is_at_one_of(&["FROM", "IN", "LIKE", "WHERE"]) {
            return Err(PlanError::unsupported(
                "a filter in SHOW",
                "select from information_schema or from the views of schema rivermark",
            ));
        }
        return Ok(Statement::Show(show));
    }
    let settings: [(&[&str], &str); 3] = [
        (
            &["TRANSACTION", "ISOLATION", "LEVEL"],
            "transaction_isolation",
        ),
        (&["TIME", "ZONE"], "timezone"),
        (&["SESSION", "AUTHORIZATION"], "session_authorization"),
    ];
    if let Some((_, setting)) = settings.into_iter().find(|(words, _)| input.accept(words)) {
        return Ok(Statement::Show(Show::Setting(setting.to_string())));
    }
    Ok(Statement::Show(Show::Setting(setting_name(input)?)))
}

/// SHOW CREATE and SHOW COLUMNS.
fn of_relation(input: &mut Input) -> Result<Statement> {
    if input.accept(&["COLUMNS"]) {
        if !input.accept(&["FROM"]) {
            input.expect(&["IN"])?;
        }
        let relation = input.object_name("a relation's name")?;
        return Ok(Statement::Show(Show::Columns { relation }));
    }
    input.expect(&["CREATE"])?;
    let kinds: [&[&str]; 6] = [
        &["MATERIALIZED", "VIEW"],
        &["SOURCE"],
        &["TABLE"],
        &["VIEW"],
        &["SINK"],
        &["INDEX"],
    ];
    for words in kinds {
        if input.accept(words) {
            break;
        }
    }
    Ok(Statement::Show(Show::Create {
        name: input.object_name("a relation's name")?,
    }))
}

/// A setting's name in lower case; names of extensions' settings have a period.
pub(super) fn setting_name(input: &mut Input) -> Result<String> {
    let mut name = input.word("a setting's name")?.to_lowercase();
    while input.accept_token(&sqlparser::tokenizer::Token::Period) {
        name.push('.');
        name.push_str(&input.word("a setting's name")?.to_lowercase());
    }
    Ok(name)
}

/// What stands behind DESCRIBE or DESC.
pub(super) fn describe(input: &mut Input) -> Result<Statement> {
    Ok(Statement::Describe {
        name: input.object_name("a relation's name")?,
    })
}
