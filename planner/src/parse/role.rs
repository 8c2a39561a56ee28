//! Roles and privileges: CREATE, ALTER and DROP ROLE, GRANT, REVOKE, ALTER DEFAULT PRIVILEGES, REASSIGN and
//! DROP OWNED.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::security::{Grantee, Privilege};
use crate::statement::{GrantOn, GrantStatement, RoleOptions, Statement};

/// Options of roles that are true of every role here.
const ACCEPTED: [&str; 7] = [
    "INHERIT",
    "NOINHERIT",
    "NOCREATEDB",
    "NOCREATEROLE",
    "NOREPLICATION",
    "NOBYPASSRLS",
    "ENCRYPTED",
];

/// A role's name, or a word that means one.
pub(super) fn role(input: &mut Input) -> Result<String> {
    let words = ["CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"];
    match words.iter().find(|word| input.accept(&[word])) {
        Some(word) => Ok(word.to_lowercase()),
        None => input.name("a role's name"),
    }
}

/// What stands behind CREATE ROLE, USER or GROUP; a user can log in.
pub(super) fn create_role(input: &mut Input, is_user: bool) -> Result<Statement> {
    let name = input.name("a role's name")?;
    let mut options = options(input)?;
    if is_user && options.can_login.is_none() {
        options.can_login = Some(true);
    }
    Ok(Statement::CreateRole { name, options })
}

/// What stands behind ALTER ROLE or USER.
pub(super) fn alter_role(input: &mut Input) -> Result<Statement> {
    let name = role(input)?;
    if input.is_at_one_of(&["RENAME", "SET", "RESET", "IN"]) {
        return Err(PlanError::unsupported(
            "ALTER ROLE with RENAME, SET or RESET",
            "create another role; settings are given when connecting, or with SET",
        ));
    }
    let options = options(input)?;
    Ok(Statement::AlterRole { name, options })
}

/// What stands behind DROP ROLE or USER.
pub(super) fn drop_role(input: &mut Input) -> Result<Statement> {
    let if_exists = input.if_exists();
    let names = input.list(|i| i.name("a role's name"))?;
    Ok(Statement::DropRole { names, if_exists })
}

fn options(input: &mut Input) -> Result<RoleOptions> {
    let mut options = RoleOptions::default();
    input.accept(&["WITH"]);
    while !input.is_at_end() {
        if ACCEPTED.iter().any(|word| input.accept(&[word])) {
            continue;
        }
        if input.accept(&["SUPERUSER"]) {
            options.is_superuser = Some(true);
        } else if input.accept(&["NOSUPERUSER"]) {
            options.is_superuser = Some(false);
        } else if input.accept(&["LOGIN"]) {
            options.can_login = Some(true);
        } else if input.accept(&["NOLOGIN"]) {
            options.can_login = Some(false);
        } else if input.accept(&["PASSWORD"]) {
            options.password = Some(match input.accept(&["NULL"]) {
                true => None,
                false => Some(input.string("a password in quotes")?),
            });
        } else if input.accept(&["CONNECTION", "LIMIT"]) {
            options.connection_limit = Some(connection_limit(input)?);
        } else if input.is_at_one_of(&["CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS"]) {
            return Err(PlanError::unsupported(
                "a role that may do some of what superusers may",
                "leave it out, or make the role a SUPERUSER",
            ));
        } else if input.is_at_one_of(&["IN", "ROLE", "ADMIN", "USER", "GROUP", "SYSID"]) {
            return Err(memberships());
        } else if input.accept(&["VALID", "UNTIL"]) {
            options.valid_until = Some(input.string("a time in quotes")?);
        } else {
            return Err(input.expected("an option of a role such as LOGIN or PASSWORD"));
        }
    }
    Ok(options)
}

fn memberships() -> PlanError {
    PlanError::unsupported(
        "membership in another role",
        "grant the privileges to each role, or to PUBLIC",
    )
}

/// `None`: no limit, which is written -1.
fn connection_limit(input: &mut Input) -> Result<Option<u32>> {
    let is_negative = input.accept_token(&Token::Minus);
    let Token::Number(digits, _) = input.token(0) else {
        return Err(input.expected("a number of connections"));
    };
    let limit = match (is_negative, digits.parse::<u32>()) {
        (true, Ok(1)) => None,
        (false, Ok(limit)) => Some(limit),
        _ => return Err(input.error("a CONNECTION LIMIT is a number from 0, or -1 for none")),
    };
    input.skip(1);
    Ok(limit)
}

/// What stands behind GRANT.
pub(super) fn grant(input: &mut Input) -> Result<Statement> {
    privileges_on(input, false).map(Statement::Grant)
}

/// What stands behind REVOKE.
pub(super) fn revoke(input: &mut Input) -> Result<Statement> {
    if input.is_at(&["GRANT", "OPTION", "FOR"]) {
        return Err(grant_option());
    }
    privileges_on(input, true).map(Statement::Grant)
}

/// What stands behind ALTER DEFAULT PRIVILEGES.
pub(super) fn default_privileges(input: &mut Input) -> Result<Statement> {
    let creators = match input.accept(&["FOR", "ROLE"]) || input.accept(&["FOR", "USER"]) {
        true => input.list(role)?,
        false => Vec::new(),
    };
    let schemas = match input.accept(&["IN", "SCHEMA"]) {
        true => input.list(|i| i.name("a schema name"))?,
        false => Vec::new(),
    };
    let is_revoke = input.accept(&["REVOKE"]);
    if !is_revoke {
        input.expect(&["GRANT"])?;
    }
    let privileges = privileges(input)?;
    input.expect(&["ON"])?;
    if !input.accept(&["TABLES"]) {
        return Err(elsewhere());
    }
    let grantees = grantees(input, is_revoke)?;
    Ok(Statement::Grant(GrantStatement {
        privileges,
        on: GrantOn::Future { creators, schemas },
        grantees,
        is_revoke,
    }))
}

/// What stands behind REASSIGN.
pub(super) fn reassign(input: &mut Input) -> Result<Statement> {
    input.expect(&["OWNED", "BY"])?;
    let from = input.list(role)?;
    input.expect(&["TO"])?;
    let to = role(input)?;
    Ok(Statement::Reassign { from, to })
}

/// What stands behind DROP OWNED BY.
pub(super) fn drop_owned(input: &mut Input) -> Result<Statement> {
    let names = input.list(role)?;
    let cascade = input.accept(&["CASCADE"]);
    if !cascade {
        input.accept(&["RESTRICT"]);
    }
    Ok(Statement::DropOwned { names, cascade })
}

fn privileges_on(input: &mut Input, is_revoke: bool) -> Result<GrantStatement> {
    let privileges = privileges(input)?;
    if input.is_at(&[if is_revoke { "FROM" } else { "TO" }]) {
        return Err(memberships());
    }
    input.expect(&["ON"])?;
    let on = if input.accept(&["ALL", "TABLES", "IN", "SCHEMA"]) {
        GrantOn::AllIn(input.list(|i| i.name("a schema name"))?)
    } else if input.accept(&["SCHEMA"]) {
        GrantOn::Schemas(input.list(|i| i.name("a schema name"))?)
    } else if input.accept(&["DATABASE"]) {
        GrantOn::Databases(input.list(|i| i.name("a database's name"))?)
    } else if input.is_at_one_of(&[
        "ALL",
        "DOMAIN",
        "FOREIGN",
        "FUNCTION",
        "LANGUAGE",
        "LARGE",
        "PARAMETER",
        "PROCEDURE",
        "ROUTINE",
        "SEQUENCE",
        "TABLESPACE",
        "TYPE",
    ]) && matches!(input.token(1), Token::Word(word) if !ends_list(&word.value))
    {
        return Err(elsewhere());
    } else {
        input.accept(&["TABLE"]);
        GrantOn::Relations(input.list(|i| i.object_name("a relation's name"))?)
    };
    let grantees = grantees(input, is_revoke)?;
    Ok(GrantStatement {
        privileges,
        on,
        grantees,
        is_revoke,
    })
}

fn elsewhere() -> PlanError {
    PlanError::unsupported(
        "privileges on anything but relations, schemas and the database",
        "leave it out: everyone may use it, or there is none",
    )
}

/// `None`: all.
fn privileges(input: &mut Input) -> Result<Option<Vec<Privilege>>> {
    if input.accept(&["ALL"]) {
        input.accept(&["PRIVILEGES"]);
        return Ok(None);
    }
    input.list(privilege).map(Some)
}

fn privilege(input: &mut Input) -> Result<Privilege> {
    let known = [
        ("SELECT", Privilege::Select),
        ("INSERT", Privilege::Insert),
        ("UPDATE", Privilege::Update),
        ("DELETE", Privilege::Delete),
        ("TRUNCATE", Privilege::Truncate),
        ("REFERENCES", Privilege::References),
        ("TRIGGER", Privilege::Trigger),
        ("USAGE", Privilege::Usage),
        ("CREATE", Privilege::Create),
        ("CONNECT", Privilege::Connect),
        ("TEMPORARY", Privilege::Temporary),
        ("TEMP", Privilege::Temporary),
    ];
    let Some((_, privilege)) = known.into_iter().find(|(word, _)| input.accept(&[word])) else {
        return Err(
            match matches!(input.token(1), Token::Comma) || is_role_list(input) {
                true => memberships(),
                false => input.expected("a privilege such as SELECT"),
            },
        );
    };
    if input.is_at_token(&Token::LParen) {
        return Err(PlanError::unsupported(
            "privileges on columns",
            "grant SELECT on a view with these columns",
        ));
    }
    Ok(privilege)
}

/// `GRANT role TO role`.
fn is_role_list(input: &Input) -> bool {
    matches!(input.token(1), Token::Word(word) if ends_list(&word.value))
}

/// Whether the word stands behind what is granted on; before it, even "type" is a relation's name.
fn ends_list(word: &str) -> bool {
    word.eq_ignore_ascii_case("TO") || word.eq_ignore_ascii_case("FROM")
}

fn grantees(input: &mut Input, is_revoke: bool) -> Result<Vec<Grantee>> {
    input.expect(&[if is_revoke { "FROM" } else { "TO" }])?;
    let grantees = input.list(|input| {
        input.accept(&["GROUP"]);
        Ok(match input.accept(&["PUBLIC"]) {
            true => Grantee::Public,
            false => Grantee::Role(role(input)?),
        })
    })?;
    if input.is_at(&["WITH", "GRANT", "OPTION"]) {
        return Err(grant_option());
    }
    if is_revoke {
        let _ = input.accept(&["CASCADE"]) || input.accept(&["RESTRICT"]);
    }
    Ok(grantees)
}

fn grant_option() -> PlanError {
    PlanError::unsupported("GRANT OPTION", "owners and superusers grant")
}
