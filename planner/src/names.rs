//! Identifiers: folding as PostgreSQL folds them, and quoting where the bound SQL needs it.

use std::borrow::Cow;

use sqlparser::ast::Ident;

use crate::identifier;

/// The name that `ident` means: lower case unless it was quoted.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => identifier::fold(&ident.value),
    }
}

/// An identifier that means exactly `name`, quoted if it would be read as something else otherwise.
pub fn ident(name: &str) -> Ident {
    match identifier::quote_ident(name) {
        Cow::Borrowed(plain) => Ident::new(plain),
        Cow::Owned(_) => Ident::with_quote('"', name),
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
