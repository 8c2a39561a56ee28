//! Reading JSON: the operators, and the functions that take values apart.

use std::sync::Arc;

use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::argument::Kind::{Int4, Json, Jsonb, Text, TextArray};
use super::sql_function::{Row, function};
use super::value::Value;
use crate::json::{self, compare, contains};
use crate::types::SqlType;

const TEXT: SqlType = SqlType::Text { max_length: None };

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = operators();
    all.extend(paths());
    all.extend(parts());
    all.extend(comparisons());
    all
}

fn operators() -> Vec<Arc<ScalarUDF>> {
    fn member<'a>(a: &Row<'a>) -> Option<&'a str> {
        json::field(a.text(0), a.text(1))
    }
    fn item<'a>(a: &Row<'a>) -> Option<&'a str> {
        json::element(a.text(0), a.int(1))
    }
    vec![
        function("rm_json_get")
            .strict(&[Jsonb, Text], SqlType::Jsonb, |a| Ok(member(a).into()))
            .strict(&[Jsonb, Int4], SqlType::Jsonb, |a| Ok(item(a).into()))
            .strict(&[Json, Text], SqlType::Json, |a| Ok(member(a).into()))
            .strict(&[Json, Int4], SqlType::Json, |a| Ok(item(a).into()))
            .udf(),
        function("rm_json_get_text")
            .strict(&[Jsonb, Text], TEXT, |a| {
                Ok(member(a).and_then(json::text_value).into())
            })
            .strict(&[Jsonb, Int4], TEXT, |a| {
                Ok(item(a).and_then(json::text_value).into())
            })
            .strict(&[Json, Text], TEXT, |a| {
                Ok(member(a).and_then(json::text_value).into())
            })
            .strict(&[Json, Int4], TEXT, |a| {
                Ok(item(a).and_then(json::text_value).into())
            })
            .udf(),
        function("rm_json_path")
            .strict(&[Jsonb, TextArray], SqlType::Jsonb, |a| {
                Ok(by_array(a).into())
            })
            .strict(
                &[Json, TextArray],
                SqlType::Json,
                |a| Ok(by_array(a).into()),
            )
            .udf(),
        function("rm_json_path_text")
            .strict(&[Jsonb, TextArray], TEXT, |a| {
                Ok(by_array(a).and_then(json::text_value).into())
            })
            .strict(&[Json, TextArray], TEXT, |a| {
                Ok(by_array(a).and_then(json::text_value).into())
            })
            .udf(),
    ]
}

/// What the path in the second argument leads to; a NULL in it leads nowhere.
fn by_array<'a>(a: &Row<'a>) -> Option<&'a str> {
    let steps: Option<Vec<String>> = a.texts(1).into_iter().collect();
    let steps = steps?;
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    json::path(a.text(0), &steps)
}

/// The path is given as separate arguments.
fn paths() -> Vec<Arc<ScalarUDF>> {
    fn follow<'a>(a: &Row<'a>) -> Option<&'a str> {
        let steps: Vec<&str> = (1..a.len()).map(|i| a.text(i)).collect();
        json::path(a.text(0), &steps)
    }
    vec![
        function("jsonb_extract_path")
            .strict_variadic(&[Jsonb, Text], SqlType::Jsonb, |a| Ok(follow(a).into()))
            .udf(),
        function("json_extract_path")
            .strict_variadic(&[Json, Text], SqlType::Json, |a| Ok(follow(a).into()))
            .udf(),
        function("jsonb_extract_path_text")
            .strict_variadic(&[Jsonb, Text], TEXT, |a| {
                Ok(follow(a).and_then(json::text_value).into())
            })
            .udf(),
        function("json_extract_path_text")
            .strict_variadic(&[Json, Text], TEXT, |a| {
                Ok(follow(a).and_then(json::text_value).into())
            })
            .udf(),
    ]
}

fn parts() -> Vec<Arc<ScalarUDF>> {
    fn length(a: &Row) -> Result<Value> {
        match json::elements(a.text(0)) {
            Some(elements) => Ok((elements.len() as i64).into()),
            None => match json::type_name(a.text(0)) {
                "object" => exec_err!("cannot get array length of a non-array"),
                _ => exec_err!("cannot get array length of a scalar"),
            },
        }
    }
    fn elements(a: &Row) -> Result<Value> {
        match json::elements(a.text(0)) {
            Some(elements) => Ok(elements
                .into_iter()
                .map(str::to_string)
                .collect::<Vec<_>>()
                .into()),
            None => no_array(a.text(0)),
        }
    }
    fn element_texts(a: &Row) -> Result<Value> {
        match json::elements(a.text(0)) {
            Some(elements) => Ok(elements
                .into_iter()
                .map(json::text_value)
                .collect::<Vec<Option<String>>>()
                .into()),
            None => no_array(a.text(0)),
        }
    }
    fn keys(a: &Row) -> Result<Value> {
        match json::fields(a.text(0)) {
            Some(fields) => Ok(fields
                .into_iter()
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
                .into()),
            None => no_object(a.text(0), "json_object_keys"),
        }
    }
    fn values(a: &Row) -> Result<Value> {
        match json::fields(a.text(0)) {
            Some(fields) => Ok(fields
                .into_iter()
                .map(|(_, value)| value.to_string())
                .collect::<Vec<_>>()
                .into()),
            None => no_object(a.text(0), "json_each"),
        }
    }
    fn value_texts(a: &Row) -> Result<Value> {
        match json::fields(a.text(0)) {
            Some(fields) => Ok(fields
                .into_iter()
                .map(|(_, value)| json::text_value(value))
                .collect::<Vec<Option<String>>>()
                .into()),
            None => no_object(a.text(0), "json_each_text"),
        }
    }
    let list = |element: SqlType| SqlType::Array(Box::new(element));
    vec![
        function("jsonb_typeof")
            .strict(&[Jsonb], TEXT, |a| Ok(json::type_name(a.text(0)).into()))
            .udf(),
        function("json_typeof")
            .strict(&[Json], TEXT, |a| Ok(json::type_name(a.text(0)).into()))
            .udf(),
        function("jsonb_array_length")
            .strict(&[Jsonb], SqlType::Integer, length)
            .udf(),
        function("json_array_length")
            .strict(&[Json], SqlType::Integer, length)
            .udf(),
        // the functions below give lists; unnest() makes rows of them, and a cast makes JSON of those again
        function("rm_jsonb_array_elements")
            .strict(&[Jsonb], list(TEXT), elements)
            .udf(),
        function("rm_json_array_elements")
            .strict(&[Json], list(TEXT), elements)
            .udf(),
        function("rm_json_array_elements_text")
            .strict(&[Jsonb], list(TEXT), element_texts)
            .strict(&[Json], list(TEXT), element_texts)
            .udf(),
        function("rm_json_object_keys")
            .strict(&[Jsonb], list(TEXT), keys)
            .strict(&[Json], list(TEXT), keys)
            .udf(),
        function("rm_jsonb_object_values")
            .strict(&[Jsonb], list(TEXT), values)
            .udf(),
        function("rm_json_object_values")
            .strict(&[Json], list(TEXT), values)
            .udf(),
        function("rm_json_object_value_texts")
            .strict(&[Jsonb], list(TEXT), value_texts)
            .strict(&[Json], list(TEXT), value_texts)
            .udf(),
    ]
}

fn no_array(text: &str) -> Result<Value> {
    match json::type_name(text) {
        "object" => exec_err!("cannot extract elements from an object"),
        _ => exec_err!("cannot extract elements from a scalar"),
    }
}

fn no_object(text: &str, function: &str) -> Result<Value> {
    match json::type_name(text) {
        "array" => exec_err!("cannot call {function} on an array"),
        _ => exec_err!("cannot call {function} on a scalar"),
    }
}

fn comparisons() -> Vec<Arc<ScalarUDF>> {
    fn order(a: &Row) -> Result<std::cmp::Ordering> {
        if a.text(0) == a.text(1) {
            return Ok(std::cmp::Ordering::Equal);
        }
        Ok(compare(&json::parse(a.text(0))?, &json::parse(a.text(1))?))
    }
    macro_rules! comparison {
        ($name:literal, $is:ident) => {
            function($name)
                .strict(&[Jsonb, Jsonb], SqlType::Boolean, |a| {
                    Ok(order(a)?.$is().into())
                })
                .udf()
        };
    }
    fn has(text: &str, key: &str) -> bool {
        match json::type_name(text) {
            "object" => json::field(text, key).is_some(),
            "array" => json::elements(text).is_some_and(|elements| {
                elements
                    .into_iter()
                    .any(|e| e.starts_with('"') && json::text_value(e).as_deref() == Some(key))
            }),
            "string" => json::text_value(text).as_deref() == Some(key),
            _ => false,
        }
    }
    vec![
        comparison!("rm_jsonb_eq", is_eq),
        comparison!("rm_jsonb_ne", is_ne),
        comparison!("rm_jsonb_lt", is_lt),
        comparison!("rm_jsonb_le", is_le),
        comparison!("rm_jsonb_gt", is_gt),
        comparison!("rm_jsonb_ge", is_ge),
        function("rm_jsonb_contains")
            .strict(&[Jsonb, Jsonb], SqlType::Boolean, |a| {
                let (whole, part) = (json::parse(a.text(0))?, json::parse(a.text(1))?);
                Ok(contains(&whole, &part).into())
            })
            .udf(),
        function("rm_jsonb_has_key")
            .strict(&[Jsonb, Text], SqlType::Boolean, |a| {
                Ok(has(a.text(0), a.text(1)).into())
            })
            .udf(),
        function("rm_jsonb_has_any")
            .strict(&[Jsonb, TextArray], SqlType::Boolean, |a| {
                let keys = a.texts(1);
                Ok(keys.iter().flatten().any(|key| has(a.text(0), key)).into())
            })
            .udf(),
        function("rm_jsonb_has_all")
            .strict(&[Jsonb, TextArray], SqlType::Boolean, |a| {
                let keys = a.texts(1);
                Ok(keys.iter().flatten().all(|key| has(a.text(0), key)).into())
            })
            .udf(),
    ]
}
