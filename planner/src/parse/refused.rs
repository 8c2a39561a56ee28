//! Statements that are known and refused, each with what to do instead; and those that are not known at all.

use sqlparser::tokenizer::Token;

use super::input::Input;
use super::shape::is_word;
use super::split::Piece;
use super::system_time;
use crate::error::PlanError;

/// A statement that starts with no word we take.
pub(super) fn statement(input: &Input) -> PlanError {
    let refused = |feature: &str, hint: &str| PlanError::unsupported(feature, hint);
    let Token::Word(word) = input.token(0) else {
        return input.expected("a statement");
    };
    match word.value.to_uppercase().as_str() {
        "MERGE" => refused("MERGE", "use INSERT, UPDATE and DELETE in one transaction"),
        "SECURITY" => refused("SECURITY LABEL", "leave it out"),
        "ANALYZE" | "REINDEX" | "CLUSTER" | "CHECKPOINT" => refused(
            &word.value.to_uppercase(),
            "nothing needs such maintenance; leave it out",
        ),
        "REFRESH" => refused(
            "REFRESH MATERIALIZED VIEW",
            "views are always up to date; FLUSH waits for what is in the topics",
        ),
        "LOCK" => refused(
            "LOCK",
            "there are no table locks; a conflicting transaction fails at COMMIT",
        ),
        "CALL" | "DO" => refused("CALL and DO", "there are no procedures"),
        "MOVE" => refused("MOVE", "use FETCH and leave the rows out"),
        "LOAD" | "IMPORT" => refused(
            &word.value.to_uppercase(),
            "nothing can be loaded into the server",
        ),
        "USE" => refused(
            "USE",
            "there is one database; SET search_path chooses the schema",
        ),
        _ => input.expected("a statement"),
    }
}

/// Something that CREATE does not make.
pub(super) fn create(input: &Input) -> PlanError {
    let refused = |feature: &str, hint: &str| PlanError::unsupported(feature, hint);
    let Token::Word(word) = input.token(0) else {
        return input.expected("SOURCE, TABLE, VIEW or MATERIALIZED VIEW");
    };
    match word.value.to_uppercase().as_str() {
        "SINK" => refused(
            "CREATE SINK",
            "read the view over the wire; sinks come in a later version",
        ),
        "POLICY" => refused("CREATE POLICY", "grant SELECT on a view with these rows"),
        "DATABASE" => refused(
            "CREATE DATABASE",
            "there is one database; use CREATE SCHEMA",
        ),
        "SEQUENCE" => refused("CREATE SEQUENCE", "let the client make keys"),
        "TYPE" | "DOMAIN" => refused(
            "CREATE TYPE",
            "use STRUCT<...>, arrays, or text with a CHECK",
        ),
        "FUNCTION" | "AGGREGATE" | "PROCEDURE" | "OPERATOR" | "CAST" => {
            refused("CREATE FUNCTION", "write the expression in a view")
        }
        "TRIGGER" | "RULE" | "EVENT" => {
            refused("CREATE TRIGGER", "write a materialized view over the table")
        }
        "EXTENSION" => refused("CREATE EXTENSION", "leave it out"),
        "CONNECTION" => refused("CREATE CONNECTION", "write the options in WITH (...)"),
        "FOREIGN" | "SERVER" => refused("foreign data wrappers", "declare a source"),
        "SUBSCRIPTION" | "PUBLICATION" => refused("logical replication", "declare a source"),
        _ => input.expected("SOURCE, TABLE, VIEW, MATERIALIZED VIEW, INDEX or SCHEMA"),
    }
}

/// Something that DROP does not take.
pub(super) fn drop(input: &Input) -> PlanError {
    let kinds = [
        "DATABASE",
        "SEQUENCE",
        "TYPE",
        "FUNCTION",
        "TRIGGER",
        "EXTENSION",
        "CONNECTION",
    ];
    match kinds.iter().find(|k| input.is_at(&[k])) {
        Some(kind) => PlanError::unsupported(format!("DROP {kind}"), "no such object can exist"),
        None => input.expected("SOURCE, TABLE, VIEW, MATERIALIZED VIEW, SINK, INDEX or SCHEMA"),
    }
}

/// Clauses inside queries that sqlparser would misread.
pub(super) fn clause(piece: &Piece) -> Option<PlanError> {
    let tokens = &piece.tokens;
    let at = |i: usize, words: &[&str]| {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| tokens.get(i + n).is_some_and(|t| is_word(&t.token, word)))
    };
    for i in 0..tokens.len() {
        if at(i, &["FOR", "SYSTEM_TIME"]) && system_time::clause_end(tokens, i).is_none() {
            return Some(PlanError::unsupported(
                "FOR SYSTEM_TIME with anything but AS OF PROCTIME()",
                "write FOR SYSTEM_TIME AS OF PROCTIME(): what a relation held in the past is not kept",
            ));
        }
        if at(i, &["FOR", "SYSTEM_TIME"]) && system_time::is_behind_subquery(tokens, i) {
            return Some(PlanError::unsupported(
                "FOR SYSTEM_TIME AS OF PROCTIME() of a subquery",
                "name a table, a materialized view or a query of WITH",
            ));
        }
        if ["CURRENT", "GROUP", "TIES"]
            .iter()
            .any(|what| at(i, &["EXCLUDE", what]))
            || at(i, &["EXCLUDE", "NO", "OTHERS"])
        {
            return Some(PlanError::unsupported(
                "EXCLUDE in a window frame",
                "leave it out and take the row's own value off again: sum(x) OVER (…) - x",
            ));
        }
        if at(i, &["MATCH_RECOGNIZE"])
            && tokens.get(i + 1).is_some_and(|t| t.token == Token::LParen)
        {
            return Some(PlanError::unsupported(
                "MATCH_RECOGNIZE",
                "use window functions such as lag and lead",
            ));
        }
    }
    None
}
