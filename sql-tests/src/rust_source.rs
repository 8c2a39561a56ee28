//! Just enough reading of Rust source to check habits: comments and the insides of literals are blanked out, so that
//! braces can be counted and words be looked for.

use std::path::{Path, PathBuf};

/// A source file of ours.
pub struct SourceFile {
    /// Its path in the repository.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Its text with comments and literals blanked, line for line.
    pub code: String,
}

/// A function and where its body is.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// The lines from `fn` to the closing brace.
    pub lines: usize,
}

impl SourceFile {
    /// Reads a file below `root`.
    pub fn read(root: &Path, path: &Path) -> std::io::Result<SourceFile> {
        let text = std::fs::read_to_string(path)?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned();
        let code = blank(&text);
        Ok(SourceFile { name, text, code })
    }

    /// The functions with a body, in order.
    pub fn functions(&self) -> Vec<Function> {
        functions(&self.code)
    }

    /// The code before the unit tests.
    pub fn code_without_tests(&self) -> &str {
        self.code.split("#[cfg(test)]").next().unwrap_or_default()
    }
}

/// All `.rs` files below a directory, in order.
pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![dir.to_path_buf()];
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                rest.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Replaces comments and the insides of strings and characters by spaces; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => line_end(bytes, i),
            b'/' if bytes.get(i + 1) == Some(&b'*') => block_comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'r' if !is_word(bytes, i) => raw_string_end(bytes, i).unwrap_or(i),
            b'\'' => char_end(bytes, i).unwrap_or(i),
            _ => i,
        };
        if end == i {
            out.push(bytes[i]);
            i += 1;
        } else {
            out.extend(
                bytes[i..end]
                    .iter()
                    .map(|b| if *b == b'\n' { b'\n' } else { b' ' }),
            );
            i = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the byte before `i` belongs to the same word.
fn is_word(bytes: &[u8], i: usize) -> bool {
    i > 0 && (bytes[i - 1].is_ascii_alphanumeric() && bytes[i - 1] != b'b' || bytes[i - 1] == b'_')
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |n| from + n)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..]
        .windows(2)
        .position(|w| w == b"*/")
        .map_or(bytes.len(), |n| from + n + 2)
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

fn raw_string_end(bytes: &[u8], from: usize) -> Option<usize> {
    let hashes = bytes[from + 1..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(from + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let body = from + 2 + hashes;
    let length = bytes[body..]
        .windows(close.len())
        .position(|w| w == close)?;
    Some(body + length + close.len())
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], from: usize) -> Option<usize> {
    if bytes.get(from + 1) == Some(&b'\\') {
        let close = bytes[from + 3..].iter().position(|b| *b == b'\'')?;
        return Some(from + 3 + close + 1);
    }
    let text = std::str::from_utf8(&bytes[from + 1..(from + 6).min(bytes.len())]);
    let valid = match &text {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[from + 1..from + 1 + error.valid_up_to()]).ok()?,
    };
    let length = valid.chars().next()?.len_utf8();
    (bytes.get(from + 1 + length) == Some(&b'\'')).then_some(from + length + 2)
}

fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(at) = next_fn(code, offset) {
        offset = at + 3;
        let name: String = code[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let Some(end) = body_end(&code[at..]) else {
            continue;
        };
        let line_of = |at: usize| code[..at].matches('\n').count() + 1;
        found.push(Function {
            name,
            line: line_of(at),
            lines: line_of(at + end) - line_of(at) + 1,
        });
    }
    found
}

fn next_fn(code: &str, from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let at = from + code[from..].find("fn ")?;
        let starts_word = code[..at]
            .chars()
            .next_back()
            .is_none_or(|c| c.is_whitespace());
        let is_named = code[at + 3..].starts_with(|c: char| c.is_alphabetic() || c == '_');
        if starts_word && is_named {
            return Some(at);
        }
        from = at + 3;
    }
}

/// Where the body of the function that begins here ends; `None` if it has no body.
fn body_end(code: &str) -> Option<usize> {
    let (mut depth, mut brackets) = (0, 0);
    for (i, c) in code.char_indices() {
        match c {
            '(' | '[' if depth == 0 => brackets += 1,
            ')' | ']' if depth == 0 => brackets -= 1,
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 && brackets == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked() {
        let text = "let a = \"{\\\"\"; // }\nlet b = r#\"}\"}\"#; let c = '{'; let d: &'static str = '\\'';";
        let code = blank(text);
        assert!(!code.contains(['{', '}']), "{code}");
        assert!(code.contains("&'static str"));
        assert_eq!(code.matches('\n').count(), 1);
    }

    #[test]
    fn functions_are_measured() {
        let code = "trait T { fn none(&self, x: [u8; 2]); }\nfn one(x: [u8; 3]) -> u8 {\n    if x { y }\n}\n";
        assert_eq!(
            functions(code),
            [Function {
                name: "one".into(),
                line: 2,
                lines: 3
            }]
        );
    }
}
