//! PREPARE, EXECUTE and DEALLOCATE; DECLARE, FETCH and CLOSE.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::statement::{FetchCount, Statement};

/// What stands behind PREPARE.
pub(super) fn prepare(input: &mut Input) -> Result<Statement> {
    if input.is_at(&["TRANSACTION"]) {
        return Err(PlanError::unsupported("two-phase commit", "use COMMIT"));
    }
    let name = input.name("a name for the statement")?;
    let parameter_types = if input.is_at_token(&Token::LParen) {
        input.parenthesized_list(Input::ast_type)?
    } else {
        Vec::new()
    };
    input.expect(&["AS"])?;
    if !input.is_at_one_of(&["SELECT", "WITH", "VALUES", "INSERT", "UPDATE", "DELETE"])
        && !input.is_at_token(&Token::LParen)
    {
        return Err(input.expected("SELECT, VALUES, INSERT, UPDATE or DELETE"));
    }
    let statement = Box::new(super::statement(input)?);
    Ok(Statement::Prepare {
        name,
        parameter_types,
        statement,
    })
}

/// What stands behind EXECUTE.
pub(super) fn execute(input: &mut Input) -> Result<Statement> {
    let name = input.name("a prepared statement's name")?;
    let has_parameters = input.is_at_token(&Token::LParen) && input.token(1) != &Token::RParen;
    let parameters = if has_parameters {
        input.parenthesized_list(Input::expression)?
    } else {
        Vec::new()
    };
    if !has_parameters && input.accept_token(&Token::LParen) {
        input.expect_token(&Token::RParen)?;
    }
    Ok(Statement::Execute { name, parameters })
}

/// What stands behind DEALLOCATE.
pub(super) fn deallocate(input: &mut Input) -> Result<Statement> {
    input.accept(&["PREPARE"]);
    let name = if input.accept(&["ALL"]) {
        None
    } else {
        Some(input.name("a prepared statement's name")?)
    };
    Ok(Statement::Deallocate { name })
}

/// What stands behind DECLARE.
pub(super) fn declare(input: &mut Input) -> Result<Statement> {
    let name = input.name("a cursor's name")?;
    if input.accept(&["BINARY"]) {
        return Err(PlanError::unsupported(
            "a BINARY cursor",
            "ask for binary results in the extended protocol",
        ));
    }
    while input.accept(&["INSENSITIVE"])
        || input.accept(&["ASENSITIVE"])
        || input.accept(&["NO", "SCROLL"])
    {}
    if input.is_at(&["SCROLL"]) {
        return Err(PlanError::unsupported(
            "a SCROLL cursor",
            "cursors go forward only: leave SCROLL out",
        ));
    }
    input.expect(&["CURSOR"])?;
    if input.is_at(&["WITH", "HOLD"]) {
        return Err(PlanError::unsupported(
            "a cursor WITH HOLD",
            "read it within its transaction",
        ));
    }
    input.accept(&["WITHOUT", "HOLD"]);
    input.expect(&["FOR"])?;
    if input.is_at(&["SUBSCRIBE"]) {
        let subscribe = super::follow::subscribe(input)?;
        return Ok(Statement::DeclareSubscription { name, subscribe });
    }
    let query = input.query()?;
    Ok(Statement::DeclareCursor { name, query })
}

/// What stands behind FETCH.
pub(super) fn fetch(input: &mut Input) -> Result<Statement> {
    if input.is_at_one_of(&["PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD"])
        || input.is_at_token(&Token::Minus)
    {
        return Err(PlanError::unsupported(
            "a FETCH that does not go forward",
            "use FETCH n FROM cursor",
        ));
    }
    let count = if input.accept(&["NEXT"]) {
        FetchCount::Rows(1)
    } else {
        input.accept(&["FORWARD"]);
        count(input)?
    };
    if !input.accept(&["FROM"]) {
        input.accept(&["IN"]);
    }
    let name = input.name("a cursor's name")?;
    let timeout = match input.accept(&["WITH"]) {
        true => Some(timeout(input)?),
        false => None,
    };
    Ok(Statement::Fetch {
        name,
        count,
        timeout,
    })
}

/// `(timeout = '1s')`.
fn timeout(input: &mut Input) -> Result<String> {
    input.expect_token(&Token::LParen)?;
    let name = input.word("timeout")?;
    if name != "timeout" {
        return Err(PlanError::invalid_option(format!(
            "FETCH option \"{name}\" not recognized: allowed is timeout"
        )));
    }
    input.accept_token(&Token::Eq);
    let timeout = input.string("a duration such as '1s'")?;
    input.expect_token(&Token::RParen)?;
    Ok(timeout)
}

fn count(input: &mut Input) -> Result<FetchCount> {
    if input.accept(&["ALL"]) {
        return Ok(FetchCount::All);
    }
    let Token::Number(digits, _) = input.token(0) else {
        return Ok(FetchCount::Rows(1));
    };
    let rows = digits
        .parse()
        .map_err(|_| input.expected("a number of rows"))?;
    input.skip(1);
    Ok(FetchCount::Rows(rows))
}

/// What stands behind CLOSE.
pub(super) fn close(input: &mut Input) -> Result<Statement> {
    let name = if input.accept(&["ALL"]) {
        None
    } else {
        Some(input.name("a cursor's name")?)
    };
    Ok(Statement::CloseCursor { name })
}
