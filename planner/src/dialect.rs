//! The SQL dialect: PostgreSQL's, as sqlparser knows it, with what Rivermark adds and with a bound on the work
//! that one statement may cause.
//!
//! sqlparser backtracks: some malformed texts cost it time exponential in their length. Every expression prefix it
//! tries passes through this dialect, so a budget counted here turns such a text into an error.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// PostgreSQL's dialect with `STRUCT<...>` types. Make one per statement: it counts the statement's work.
#[derive(Debug)]
pub struct RivermarkDialect {
    /// Expression prefixes that may still be tried.
    attempts_left: Cell<usize>,
}

impl RivermarkDialect {
    /// A dialect for a statement of `tokens` tokens. Honest statements try most tokens once.
    pub fn for_statement(tokens: usize) -> Self {
        RivermarkDialect {
            attempts_left: Cell::new(tokens.saturating_mul(4).saturating_add(10_000)),
        }
    }

    /// Whether parsing stopped because the statement caused too much work.
    pub fn is_exhausted(&self) -> bool {
        self.attempts_left.get() == 0
    }
}

impl Default for RivermarkDialect {
    /// A dialect without a bound, for trusted text.
    fn default() -> Self {
        RivermarkDialect {
            attempts_left: Cell::new(usize::MAX),
        }
    }
}

macro_rules! as_postgres {
    ($($question:ident),* $(,)?) => {
        $(fn $question(&self) -> bool {
            POSTGRES.$question()
        })*
    };
}

impl Dialect for RivermarkDialect {
    /// sqlparser asks for PostgreSQL by type in places; this answers yes.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        POSTGRES.is_custom_operator_part(ch)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    /// `x NOT NULL` is no expression in PostgreSQL: in a column definition it ends the DEFAULT and is a constraint.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let is = |n: usize, keyword: Keyword| matches!(&parser.peek_nth_token_ref(n).token, Token::Word(w) if w.keyword == keyword);
        if is(0, Keyword::NOT) && is(1, Keyword::NULL) {
            return Some(Ok(self.prec_unknown()));
        }
        POSTGRES.get_next_precedence(parser)
    }

    fn parse_prefix(&self, _parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match self.attempts_left.get() {
            0 => Some(Err(ParserError::RecursionLimitExceeded)),
            n => {
                self.attempts_left.set(n - 1);
                None
            }
        }
    }

    /// `a IS DISTINCT FROM b AND c` compares a with b: sqlparser alone would take `b AND c` as the right side.
    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        use Keyword::{DISTINCT, FROM, IS, NOT};
        let compare: fn(Box<Expr>, Box<Expr>) -> Expr =
            if parser.parse_keywords(&[IS, DISTINCT, FROM]) {
                Expr::IsDistinctFrom
            } else if parser.parse_keywords(&[IS, NOT, DISTINCT, FROM]) {
                Expr::IsNotDistinctFrom
            } else {
                return None;
            };
        let right = parser.parse_subexpr(precedence);
        Some(right.map(|right| compare(Box::new(left.clone()), Box::new(right))))
    }

    /// Words that never start over as a column or function name after they failed as what they are.
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        match keyword {
            Keyword::CASE | Keyword::CAST | Keyword::NOT | Keyword::ARRAY => true,
            Keyword::STRUCT => false,
            other => POSTGRES.is_reserved_for_identifier(other),
        }
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    /// Off: with it sqlparser parses every function argument twice, which doubles at each level of nesting.
    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    as_postgres!(
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
    );
}
