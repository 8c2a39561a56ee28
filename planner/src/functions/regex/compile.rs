//! From PostgreSQL's advanced regular expressions to Rust's, with a small cache of compiled ones.

use std::cell::RefCell;
use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use regex::{Regex, RegexBuilder};
use regex_automata::hybrid::dfa::DFA;
use regex_automata::util::syntax;
use regex_automata::{MatchKind, nfa::thompson};

/// Compiled patterns that a thread keeps.
const KEPT: usize = 64;

/// A pattern, twice: to find where matches begin, and to find the longest that begins there.
pub struct Pattern {
    pub(super) regex: Regex,
    /// `None`: the pattern has non-greedy parts, and its own preference decides.
    pub(super) longest: Option<DFA>,
    /// All of a text, to find the groups of a match.
    pub(super) whole: Regex,
}

impl Pattern {
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// How many groups capture.
    pub fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }
}

thread_local! {
    static COMPILED: RefCell<Vec<(String, String, Arc<Pattern>)>> = const { RefCell::new(Vec::new()) };
}

/// The pattern, compiled before if it was met lately.
pub fn compiled(pattern: &str, flags: &str) -> Result<Arc<Pattern>> {
    COMPILED.with_borrow_mut(|kept| {
        if let Some((_, _, found)) = kept.iter().find(|(p, f, _)| p == pattern && f == flags) {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new(compile(pattern, flags)?);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((pattern.to_string(), flags.to_string(), Arc::clone(&made)));
        Ok(made)
    })
}

/// What the letters of a flags argument ask for.
struct Options {
    ignores_case: bool,
    /// `.` matches a line break.
    dot_is_all: bool,
    /// `^` and `$` match at line breaks.
    is_multi_line: bool,
    ignores_blanks: bool,
    is_literal: bool,
}

impl Options {
    fn of(flags: &str) -> Result<Options> {
        let mut options = Options {
            ignores_case: false,
            dot_is_all: true,
            is_multi_line: false,
            ignores_blanks: false,
            is_literal: false,
        };
        for flag in flags.chars() {
            match flag {
                'i' => options.ignores_case = true,
                'c' => options.ignores_case = false,
                'n' | 'm' => (options.dot_is_all, options.is_multi_line) = (false, true),
                's' => (options.dot_is_all, options.is_multi_line) = (true, false),
                'p' => (options.dot_is_all, options.is_multi_line) = (false, false),
                'w' => (options.dot_is_all, options.is_multi_line) = (true, true),
                'x' => options.ignores_blanks = true,
                't' => options.ignores_blanks = false,
                'q' => options.is_literal = true,
                'e' => {}
                other => {
                    return exec_err!("invalid regular expression option: \"{other}\"");
                }
            }
        }
        Ok(options)
    }
}

fn compile(pattern: &str, flags: &str) -> Result<Pattern> {
    let mut flags = flags.to_string();
    let mut pattern = pattern;
    if let Some(rest) = pattern.strip_prefix("***=") {
        flags.push('q');
        pattern = rest;
    } else if let Some(rest) = pattern.strip_prefix("***:") {
        pattern = rest;
    }
    // embedded options: `(?i)…`
    if let Some((embedded, rest)) = pattern.strip_prefix("(?").and_then(|p| p.split_once(')'))
        && !embedded.is_empty()
        && embedded.bytes().all(|b| b.is_ascii_lowercase())
    {
        flags.push_str(embedded);
        pattern = rest;
    }
    let options = Options::of(&flags)?;
    let translated = if options.is_literal {
        Translated {
            regex: regex::escape(pattern),
            is_greedy: true,
        }
    } else {
        translate(pattern)?
    };
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .case_insensitive(options.ignores_case)
            .dot_matches_new_line(options.dot_is_all)
            .multi_line(options.is_multi_line)
            .ignore_whitespace(options.ignores_blanks)
            .build()
            .map_err(|error| invalid(&error.to_string()))
    };
    let syntax = syntax::Config::new()
        .case_insensitive(options.ignores_case)
        .dot_matches_new_line(options.dot_is_all)
        .multi_line(options.is_multi_line)
        .ignore_whitespace(options.ignores_blanks);
    let longest = DFA::builder()
        .configure(
            DFA::config()
                .match_kind(MatchKind::All)
                .unicode_word_boundary(true)
                .skip_cache_capacity_check(true),
        )
        .syntax(syntax)
        .thompson(thompson::Config::new().which_captures(thompson::WhichCaptures::None))
        .build(&translated.regex)
        .ok()
        .filter(|_| translated.is_greedy);
    Ok(Pattern {
        regex: build(&translated.regex)?,
        longest,
        whole: build(&format!("\\A(?:{})\\z", translated.regex))?,
    })
}

fn invalid(reason: &str) -> datafusion::common::DataFusionError {
    let last = reason.lines().last().unwrap_or_default();
    let last = last.trim_start_matches("error: ");
    exec_datafusion_err!("invalid regular expression: {last}")
}

struct Translated {
    regex: String,
    is_greedy: bool,
}

/// PostgreSQL's syntax as Rust's; what Rust's has no counterpart for is an error.
fn translate(pattern: &str) -> Result<Translated> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut is_greedy = true;
    let mut characters = pattern.chars().peekable();
    let mut previous = None;
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('y') => out.push_str("\\b"),
                Some('Y') => out.push_str("\\B"),
                Some('m') => out.push_str("\\b{start}"),
                Some('M') => out.push_str("\\b{end}"),
                Some('Z') => out.push_str("\\z"),
                Some('e') => out.push_str("\\x1B"),
                Some('b') => out.push_str("\\x08"),
                Some('B') => out.push_str("\\\\"),
                Some(digit @ '1'..='9') => {
                    return exec_err!(
                        "regular expressions with back references (\\{digit}) are not supported"
                    );
                }
                Some(c) if c.is_ascii_alphanumeric() => {
                    out.push('\\');
                    out.push(c);
                }
                Some(c) => out.push_str(&regex::escape(&c.to_string())),
                None => return exec_err!("invalid regular expression: invalid escape \\ sequence"),
            },
            '[' => bracket(&mut characters, &mut out)?,
            '(' => {
                out.push('(');
                if characters.peek() == Some(&'?') {
                    characters.next();
                    match characters.next() {
                        Some(':') => out.push_str("?:"),
                        _ => {
                            return exec_err!(
                                "regular expressions with lookaround are not supported"
                            );
                        }
                    }
                }
            }
            '?' if matches!(previous, Some('*' | '+' | '?' | '}')) => {
                is_greedy = false;
                out.push('?');
                previous = None;
                continue;
            }
            // Rust has `+` behind a quantifier for nothing, PostgreSQL refuses it
            '*' | '+' if matches!(previous, Some('*' | '+' | '?' | '}')) => {
                return exec_err!("invalid regular expression: quantifier operand invalid");
            }
            other => out.push(other),
        }
        previous = Some(c).filter(|_| c != '\\');
    }
    Ok(Translated {
        regex: out,
        is_greedy,
    })
}

/// The inside of `[...]`: Rust's set operators are plain characters to PostgreSQL.
fn bracket(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    out: &mut String,
) -> Result<()> {
    let unbalanced =
        || exec_datafusion_err!("invalid regular expression: brackets [] not balanced");
    out.push('[');
    if characters.peek() == Some(&'^') {
        characters.next();
        out.push('^');
    }
    let mut is_first = true;
    loop {
        match characters.next().ok_or_else(unbalanced)? {
            ']' if !is_first => {
                out.push(']');
                return Ok(());
            }
            ']' => out.push_str("\\]"),
            '[' => match characters.peek() {
                Some(':') => {
                    out.push('[');
                    loop {
                        let c = characters.next().ok_or_else(unbalanced)?;
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                }
                Some('.' | '=') => {
                    return exec_err!(
                        "regular expressions with collating elements are not supported"
                    );
                }
                _ => out.push_str("\\["),
            },
            '\\' => match characters.next().ok_or_else(unbalanced)? {
                c if c.is_ascii_alphanumeric() => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push_str(&regex::escape(&c.to_string())),
            },
            c @ ('&' | '~') => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        is_first = false;
    }
}
