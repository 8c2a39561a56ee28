//! Identifiers: folding as PostgreSQL folds them, and quoting where the bound SQL needs it.

use sqlparser::ast::Ident;
use sqlparser::keywords::ALL_KEYWORDS;

/// The name that `ident` means: lower case unless it was quoted.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// An identifier that means exactly `name`, quoted if it would be folded or taken for a keyword otherwise.
pub fn ident(name: &str) -> Ident {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && ALL_KEYWORDS
            .binary_search(&name.to_ascii_uppercase().as_str())
            .is_err();
    if is_plain {
        Ident::new(name)
    } else {
        Ident::with_quote('"', name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_where_needed() {
        for (name, expected) in [
            ("device_id", "device_id"),
            ("Device", "\"Device\""),
            ("select", "\"select\""),
            ("?column?", "\"?column?\""),
            ("2x", "\"2x\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(ident(name).to_string(), expected);
            let reparsed = Ident {
                value: name.into(),
                quote_style: ident(name).quote_style,
                span: Ident::new("").span,
            };
            assert_eq!(fold(&reparsed), name);
        }
    }
}
