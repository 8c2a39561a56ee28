//! JSON as PostgreSQL has it. Both types are carried as text: `json` as it was written, `jsonb` in its canonical form
//! (keys sorted by length and bytes, the last of equal keys, one space after `:` and `,`, numbers in full), so that
//! equal objects are equal texts. Reading a part of either is finding a piece of the text.

mod compare;
mod scan;
mod value;

pub use compare::{compare, contains};
pub use scan::{element, elements, field, fields, path, text_value, type_name};
pub use value::{Json, parse, quote};

use crate::pg_text::ValueError;

fn invalid() -> ValueError {
    ValueError("invalid input syntax for type json".to_string())
}

/// An error if `text` is no JSON.
pub fn check(text: &str) -> Result<(), ValueError> {
    parse(text).map(|_| ())
}

/// The `jsonb` text of a JSON text.
pub fn canonical(text: &str) -> Result<String, ValueError> {
    Ok(parse(text)?.canonical()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts() {
        for (text, expected) in [
            ("{\"b\":1, \"a\": 2, \"b\": 3}", "{\"a\": 2, \"b\": 3}"),
            (
                "{\"aa\":1,\"b\":2,\"a\":3}",
                "{\"a\": 3, \"b\": 2, \"aa\": 1}",
            ),
            ("[1, 2 ,[ ]]", "[1, 2, []]"),
            ("{\"a\":\"\\u00e9\\n\"}", "{\"a\": \"é\\n\"}"),
            ("{\"a\":1e2}", "{\"a\": 100}"),
            ("-1.50E-1", "-0.150"),
            ("1.10", "1.10"),
            ("-0", "0"),
            ("12345678901234567890.123", "12345678901234567890.123"),
            (" \"\\ud83d\\ude00\" ", "\"😀\""),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json() {
        for text in [
            "",
            "{bad",
            "[1,]",
            "{\"a\"}",
            "01",
            "1.",
            "nul",
            "\"\\x\"",
            "[1] 2",
            "\"\n\"",
            "+1",
            "\"\\ud83d\"",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(check(&deep).is_err());
    }

    #[test]
    fn parts_of_a_text() {
        let text = "{\"a\": {\"b\": [1, \"x\\ty\", null]}, \"c\": true, \"a\" : [2]}";
        assert_eq!(field(text, "a"), Some("[2]"));
        assert_eq!(field(text, "c"), Some("true"));
        assert_eq!(field(text, "z"), None);
        assert_eq!(element("[1, {\"a\":[2]}, 3]", 1), Some("{\"a\":[2]}"));
        assert_eq!(element("[1,2,3]", -1), Some("3"));
        assert_eq!(element("[]", 0), None);
        assert_eq!(text_value("\"x\\ty\"").as_deref(), Some("x\ty"));
        assert_eq!(text_value("null"), None);
        assert_eq!(
            path("{\"a\":{\"b\":[\"foo\",\"bar\"]}}", &["a", "b", "1"]),
            Some("\"bar\"")
        );
        assert_eq!(elements("[1, [2] ]").unwrap(), ["1", "[2]"]);
        let pairs = fields("{\"a\":1,\"b\":{}}").unwrap();
        assert_eq!(pairs, [("a".to_string(), "1"), ("b".to_string(), "{}")]);
    }

    #[test]
    fn containment_and_order() {
        let holds = |a: &str, b: &str| contains(&parse(a).unwrap(), &parse(b).unwrap());
        assert!(holds("{\"a\":1,\"b\":2}", "{\"b\":2.0}"));
        assert!(holds("[1,[1,3],2]", "[[3],1]"));
        assert!(holds("[\"a\"]", "\"a\""));
        assert!(!holds("\"a\"", "[\"a\"]"));
        assert!(!holds("{\"a\":{\"b\":1}}", "{\"b\":1}"));
        assert!(holds("[1]", "[]") && holds("{}", "{}"));
        let order = |a: &str, b: &str| compare(&parse(a).unwrap(), &parse(b).unwrap());
        use std::cmp::Ordering::{Equal, Greater, Less};
        assert_eq!(order("1", "1.0"), Equal);
        assert_eq!(order("{\"a\":1}", "{\"a\":2}"), Less);
        assert_eq!(order("[1,2]", "[3]"), Greater);
        assert_eq!(order("null", "\"a\""), Less);
        assert_eq!(order("true", "1"), Greater);
    }
}
