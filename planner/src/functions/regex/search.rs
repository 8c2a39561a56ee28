//! Finding matches as POSIX does: of those that begin leftmost the longest. Rust's own search prefers the first
//! alternative, `a` of `a|ab`.

use regex_automata::{Anchored, Input};

use super::compile::Pattern;

/// A match, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    pub start: usize,
    pub end: usize,
}

impl Match {
    /// The texts of the groups.
    pub fn groups(&self, pattern: &Pattern, text: &str) -> Vec<Option<String>> {
        let from_here = pattern.regex.captures_at(text, self.start);
        let fits = from_here
            .as_ref()
            .and_then(|captures| captures.get(0))
            .is_some_and(|m| m.start() == self.start && m.end() == self.end);
        let captures = if fits {
            from_here
        } else {
            pattern.whole.captures(&text[self.start..self.end])
        };
        (1..=pattern.groups())
            .map(|i| {
                let group = captures.as_ref()?.get(i)?;
                Some(group.as_str().to_string())
            })
            .collect()
    }
}

/// All matches that do not overlap, from byte `from` on.
pub fn matches<'a>(
    pattern: &'a Pattern,
    text: &'a str,
    from: usize,
) -> impl Iterator<Item = Match> + 'a {
    let mut cache = pattern.longest.as_ref().map(|dfa| dfa.create_cache());
    let mut at = Some(from);
    std::iter::from_fn(move || {
        let start = at.filter(|at| *at <= text.len())?;
        let first = pattern.regex.find_at(text, start)?;
        let end = pattern
            .longest
            .as_ref()
            .zip(cache.as_mut())
            .and_then(|(dfa, cache)| {
                let input = Input::new(text)
                    .range(first.start()..)
                    .anchored(Anchored::Yes);
                // it gives up on texts that it can not decide; the first alternative is then the answer
                dfa.try_search_fwd(cache, &input).ok().flatten()
            })
            .map_or(first.end(), |half| half.offset().max(first.end()));
        let found = Match {
            start: first.start(),
            end,
        };
        at = if found.end > found.start {
            Some(found.end)
        } else {
            // step over one character behind a match of nothing
            let step = text[found.end..].chars().next().map(char::len_utf8);
            step.map(|step| found.end + step)
        };
        Some(found)
    })
}
