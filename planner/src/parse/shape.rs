//! Refuses statements whose shape would overflow a stack or take for ever: types nested without end, operator
//! chains of thousands, and parentheses that make the parser try every subquery twice at each level.
//!
//! Depth of expressions and subqueries is bounded by sqlparser's own counter; what it does not count is counted here,
//! on the tokens, before parsing. What is nested less deeply than all that, but deeply, is parsed on a stack of its
//! own: sqlparser's frames for joins in parentheses take a hundred kilobytes each where it is not optimised.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{PlanError, Result};

/// Operators that may stand in one another, as `a + b + c` nests: the sum over a place and all that encloses it.
const MAX_CHAIN: usize = 1_000;
/// Angle brackets that may be open at once in a type.
const MAX_TYPE_DEPTH: usize = 32;
/// How often the innermost subquery may be parsed because of doubled parentheses around it.
const MAX_REPARSES: usize = 4_096;

/// Parentheses in one another that the caller's stack surely bears.
const SHALLOW: usize = 8;
/// Bytes of the stack for deep statements; memory is taken only as far as it is used.
const DEEP_STACK: usize = 256 << 20;

/// Whether parsing takes a stack of its own; or what is too deep, and at which token.
pub(super) fn is_deep(tokens: &[TokenWithSpan]) -> Result<bool, (&TokenWithSpan, &'static str)> {
    let mut shape = Shape {
        levels: vec![Level::default()],
        angles: 0,
    };
    let mut deepest = 0;
    for (i, token) in tokens.iter().enumerate() {
        if let Some(problem) = shape.take(&tokens[..i], token, tokens.get(i + 1)) {
            return Err((token, problem));
        }
        deepest = deepest.max(shape.levels.len());
    }
    Ok(deepest > SHALLOW)
}

/// Runs `parse` on a stack for deep statements.
pub(super) fn on_deep_stack<T: Send>(parse: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let lost = |what: &str| {
        PlanError::Internal(format!("the thread for a deeply nested statement {what}"))
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("parse".to_string())
            .stack_size(DEEP_STACK);
        let thread = builder
            .spawn_scoped(scope, parse)
            .map_err(|_| lost("did not start"))?;
        thread.join().map_err(|_| lost("panicked"))?
    })
}

struct Shape {
    levels: Vec<Level>,
    angles: usize,
}

/// What was seen since the last open parenthesis, bracket or CASE.
#[derive(Default)]
struct Level {
    /// Opened by CASE, closed by END.
    is_case: bool,
    /// UNION, EXCEPT and INTERSECT of the level.
    set_operations: usize,
    /// AND and OR since the last comma: they chain over the other operators.
    connectives: usize,
    /// Other operators since the last connective or comma.
    operators: usize,
    /// Open parentheses directly before this one, itself included.
    run: usize,
    /// How often what is inside may be parsed.
    reparses: usize,
}

impl Shape {
    fn take(
        &mut self,
        before: &[TokenWithSpan],
        token: &TokenWithSpan,
        next: Option<&TokenWithSpan>,
    ) -> Option<&'static str> {
        let previous = before.last().map(|t| &t.token);
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                // `int[][][]` nests a type at each bracket.
                self.level().operators += usize::from(token.token == Token::LBracket);
                self.open(previous == Some(&Token::LParen), next);
                if self.level().reparses > MAX_REPARSES {
                    return Some("subqueries in doubled parentheses are nested too deeply");
                }
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if self.levels.len() > 1 {
                    self.levels.pop();
                }
            }
            Token::Comma => {
                self.level().connectives = 0;
                self.level().operators = 0;
            }
            Token::Lt if is_type_constructor(previous) => {
                self.angles += 1;
                if self.angles > MAX_TYPE_DEPTH {
                    return Some("a type is nested too deeply");
                }
            }
            Token::Gt if self.angles > 0 => self.angles -= 1,
            Token::Word(w) if w.quote_style.is_none() => {
                if is_word(&token.token, "INTERVAL")
                    && previous.is_some_and(|p| is_word(p, "INTERVAL"))
                {
                    return Some("INTERVAL twice in a row");
                }
                self.count_word(&w.value);
            }
            Token::Word(_)
            | Token::Number(_, _)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::SemiColon => {}
            _ => self.level().operators += 1,
        }
        let total: usize = self
            .levels
            .iter()
            .map(|l| l.set_operations + l.connectives + l.operators)
            .sum();
        (total > MAX_CHAIN)
            .then_some("an expression chains too many operators (write IN (...) or split it)")
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn open(&mut self, follows_paren: bool, next: Option<&TokenWithSpan>) {
        let outer = self.level();
        let run = if follows_paren { outer.run + 1 } else { 1 };
        let mut reparses = outer.reparses.max(1);
        let starts_query = next.is_some_and(|t| {
            ["SELECT", "WITH", "VALUES"]
                .iter()
                .any(|w| is_word(&t.token, w))
        });
        if run > 1 && starts_query {
            reparses = reparses.saturating_mul(run);
        }
        self.levels.push(Level {
            run,
            reparses,
            ..Level::default()
        });
    }

    fn count_word(&mut self, word: &str) {
        const SET_OPERATIONS: &[&str] = &["UNION", "EXCEPT", "INTERSECT"];
        const CONNECTIVES: &[&str] = &["AND", "OR"];
        const OPERATORS: &[&str] = &[
            "NOT", "IS", "LIKE", "ILIKE", "SIMILAR", "BETWEEN", "IN", "AT", "COLLATE", "ISNULL",
            "NOTNULL", "XOR",
        ];
        const BRANCHES: &[&str] = &["WHEN", "THEN", "ELSE"];
        let is_one_of = |list: &[&str]| list.iter().any(|w| w.eq_ignore_ascii_case(word));
        if is_one_of(SET_OPERATIONS) {
            self.level().set_operations += 1;
        } else if is_one_of(CONNECTIVES) {
            self.level().connectives += 1;
            self.level().operators = 0;
        } else if is_one_of(OPERATORS) {
            self.level().operators += 1;
        } else if is_one_of(&["CASE"]) {
            let reparses = self.level().reparses;
            self.levels.push(Level {
                is_case: true,
                reparses,
                ..Level::default()
            });
        } else if is_one_of(&["END"]) && self.level().is_case {
            self.levels.pop();
        } else if is_one_of(BRANCHES) && self.level().is_case {
            self.level().connectives = 0;
            self.level().operators = 0;
        }
    }
}

fn is_type_constructor(token: Option<&Token>) -> bool {
    token.is_some_and(|t| ["STRUCT", "ARRAY", "MAP"].iter().any(|w| is_word(t, w)))
}

/// Whether a token is this unquoted word, in any case.
pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}
