//! Making JSON, and making other JSON of it.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::argument::Kind::{
    AnyArray, AnyJson, AnyText, Bool, Int4, Json as JsonText, Jsonb, Text, TextArray,
};
use super::sql_function::{Row, function};
use super::value::Value;
use crate::json::{self, Json};
use crate::types::SqlType;

const TEXT: SqlType = SqlType::Text { max_length: None };

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = building();
    all.extend(objects_of_arrays());
    all.extend(changing());
    all
}

fn building() -> Vec<Arc<ScalarUDF>> {
    let _ = AnyArray;
    vec![
        function("to_json")
            .strict(&[AnyJson], SqlType::Json, |a| Ok(a.text(0).into()))
            .udf(),
        function("array_to_json")
            .strict(&[AnyJson], SqlType::Json, |a| Ok(a.text(0).into()))
            .udf(),
        function("row_to_json")
            .strict(&[AnyJson], SqlType::Json, |a| Ok(a.text(0).into()))
            .udf(),
        function("to_jsonb")
            .strict(&[AnyJson], SqlType::Jsonb, |a| {
                Ok(json::canonical(a.text(0))?.into())
            })
            .udf(),
        function("json_build_array")
            .lenient(&[], SqlType::Json, |_| Ok("[]".into()))
            .variadic(&[AnyJson], SqlType::Json, |a| Ok(array_of(a).into()))
            .udf(),
        function("jsonb_build_array")
            .lenient(&[], SqlType::Jsonb, |_| Ok("[]".into()))
            .variadic(&[AnyJson], SqlType::Jsonb, |a| {
                Ok(json::canonical(&array_of(a))?.into())
            })
            .udf(),
        function("json_build_object")
            .lenient(&[], SqlType::Json, |_| Ok("{}".into()))
            .variadic(&[AnyJson], SqlType::Json, |a| Ok(object_of(a)?.into()))
            .udf(),
        function("jsonb_build_object")
            .lenient(&[], SqlType::Jsonb, |_| Ok("{}".into()))
            .variadic(&[AnyJson], SqlType::Jsonb, |a| {
                Ok(json::canonical(&object_of(a)?)?.into())
            })
            .udf(),
    ]
}

fn or_null<'a>(a: &Row<'a>, index: usize) -> &'a str {
    if a.is_null(index) {
        "null"
    } else {
        a.text(index)
    }
}

fn array_of(a: &Row) -> String {
    let items: Vec<&str> = (0..a.len()).map(|i| or_null(a, i)).collect();
    format!("[{}]", items.join(", "))
}

fn object_of(a: &Row) -> Result<String> {
    if !a.len().is_multiple_of(2) {
        return exec_err!("argument list must have even number of elements");
    }
    let members = (0..a.len()).step_by(2).map(|i| {
        if a.is_null(i) {
            return exec_err!("argument {}: key must not be null", i + 1);
        }
        let key = a.text(i);
        // keys are texts, whatever their type was
        let key = match json::type_name(key) {
            "string" => key.to_string(),
            "array" | "object" => {
                return exec_err!("key value must be scalar, not array, composite, or json");
            }
            _ => json::quote(key),
        };
        Ok(format!("{key} : {}", or_null(a, i + 1)))
    });
    Ok(format!(
        "{{{}}}",
        members.collect::<Result<Vec<_>>>()?.join(", ")
    ))
}

/// `json_object('{a,1,b,2}')` and `json_object(keys, values)`.
fn objects_of_arrays() -> Vec<Arc<ScalarUDF>> {
    fn pairs(a: &Row) -> Result<Vec<(String, Option<String>)>> {
        let first = a.texts(0);
        let pairs: Vec<(Option<String>, Option<String>)> = if a.len() > 1 {
            let second = a.texts(1);
            if first.len() != second.len() {
                return exec_err!("mismatched array dimensions");
            }
            first.into_iter().zip(second).collect()
        } else {
            if !first.len().is_multiple_of(2) {
                return exec_err!("array must have even number of elements");
            }
            first
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect()
        };
        pairs
            .into_iter()
            .map(|(key, value)| match key {
                Some(key) => Ok((key, value)),
                None => exec_err!("null value not allowed for object key"),
            })
            .collect()
    }
    fn as_text(a: &Row) -> Result<Value> {
        let members: Vec<String> = pairs(a)?
            .into_iter()
            .map(|(key, value)| {
                let value = value.map_or("null".to_string(), |v| json::quote(&v));
                format!("{} : {value}", json::quote(&key))
            })
            .collect();
        Ok(format!("{{{}}}", members.join(", ")).into())
    }
    fn as_canonical(a: &Row) -> Result<Value> {
        let members = pairs(a)?
            .into_iter()
            .map(|(key, value)| (key, value.map_or(Json::Null, Json::String)))
            .collect();
        Ok(Json::object(members).to_string().into())
    }
    vec![
        function("json_object")
            .strict(&[TextArray], SqlType::Json, as_text)
            .strict(&[TextArray, TextArray], SqlType::Json, as_text)
            .udf(),
        function("jsonb_object")
            .strict(&[TextArray], SqlType::Jsonb, as_canonical)
            .strict(&[TextArray, TextArray], SqlType::Jsonb, as_canonical)
            .udf(),
    ]
}

fn changing() -> Vec<Arc<ScalarUDF>> {
    let _ = AnyText;
    vec![
        function("jsonb_pretty")
            .strict(&[Jsonb], TEXT, |a| {
                Ok(json::parse(a.text(0))?.pretty().into())
            })
            .udf(),
        function("jsonb_strip_nulls")
            .strict(&[Jsonb], SqlType::Jsonb, |a| {
                Ok(without_nulls(json::parse(a.text(0))?).to_string().into())
            })
            .udf(),
        function("json_strip_nulls")
            .strict(&[JsonText], SqlType::Json, |a| {
                let text = without_nulls(json::parse(a.text(0))?).to_string();
                Ok(compact(&json::parse(&text)?).into())
            })
            .udf(),
        function("rm_jsonb_concat")
            .strict(&[Jsonb, Jsonb], SqlType::Jsonb, |a| {
                concat(json::parse(a.text(0))?, json::parse(a.text(1))?)
            })
            .udf(),
        function("rm_jsonb_delete")
            .strict(&[Jsonb, Int4], SqlType::Jsonb, |a| {
                delete_index(json::parse(a.text(0))?, a.int(1))
            })
            .strict(&[Jsonb, Text], SqlType::Jsonb, |a| {
                delete_keys(json::parse(a.text(0))?, &[a.text(1).to_string()])
            })
            .strict(&[Jsonb, TextArray], SqlType::Jsonb, |a| {
                let keys: Vec<String> = a.texts(1).into_iter().flatten().collect();
                delete_keys(json::parse(a.text(0))?, &keys)
            })
            .udf(),
        function("rm_jsonb_delete_path")
            .strict(&[Jsonb, TextArray], SqlType::Jsonb, |a| {
                let steps = steps(a)?;
                let mut value = json::parse(a.text(0))?;
                if matches!(value, Json::Array(_) | Json::Object(_)) {
                    change(&mut value, &steps, &Change::Delete)?;
                    Ok(value.to_string().into())
                } else {
                    exec_err!("cannot delete path in scalar")
                }
            })
            .udf(),
        function("jsonb_set")
            .strict(&[Jsonb, TextArray, Jsonb], SqlType::Jsonb, |a| set(a, true))
            .strict(&[Jsonb, TextArray, Jsonb, Bool], SqlType::Jsonb, |a| {
                set(a, a.bool(3))
            })
            .udf(),
        function("jsonb_insert")
            .strict(&[Jsonb, TextArray, Jsonb], SqlType::Jsonb, |a| {
                insert(a, false)
            })
            .strict(&[Jsonb, TextArray, Jsonb, Bool], SqlType::Jsonb, |a| {
                insert(a, a.bool(3))
            })
            .udf(),
    ]
}

fn without_nulls(value: Json) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.into_iter().map(without_nulls).collect()),
        Json::Object(fields) => Json::Object(
            fields
                .into_iter()
                .filter(|(_, value)| *value != Json::Null)
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        scalar => scalar,
    }
}

/// Without blanks, as `json` functions write.
fn compact(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(compact).collect();
            format!("[{}]", items.join(","))
        }
        Json::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{}:{}", json::quote(key), compact(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// Two objects become one, anything else arrays.
fn concat(a: Json, b: Json) -> Result<Value> {
    let joined = match (a, b) {
        (Json::Object(mut a), Json::Object(b)) => {
            a.extend(b);
            Json::object(a)
        }
        (a, b) => {
            let list = |value: Json| match value {
                Json::Array(items) => items,
                other => vec![other],
            };
            Json::Array(list(a).into_iter().chain(list(b)).collect())
        }
    };
    Ok(joined.to_string().into())
}

fn delete_index(value: Json, index: i64) -> Result<Value> {
    match value {
        Json::Array(mut items) => {
            if let Some(at) = place(index, items.len()) {
                items.remove(at);
            }
            Ok(Json::Array(items).to_string().into())
        }
        Json::Object(_) => exec_err!("cannot delete from object using integer index"),
        _ => exec_err!("cannot delete from scalar"),
    }
}

fn delete_keys(value: Json, keys: &[String]) -> Result<Value> {
    let kept = match value {
        Json::Object(fields) => Json::Object(
            fields
                .into_iter()
                .filter(|(key, _)| !keys.contains(key))
                .collect(),
        ),
        Json::Array(items) => Json::Array(
            items
                .into_iter()
                .filter(|item| !matches!(item, Json::String(text) if keys.contains(text)))
                .collect(),
        ),
        _ => return exec_err!("cannot delete from scalar"),
    };
    Ok(kept.to_string().into())
}

/// Where an index, which counts from the end if it is negative, lies in an array.
fn place(index: i64, length: usize) -> Option<usize> {
    let at = if index < 0 {
        length as i64 + index
    } else {
        index
    };
    usize::try_from(at).ok().filter(|at| *at < length)
}

fn steps(a: &Row) -> Result<Vec<String>> {
    let steps = a.texts(1).into_iter().enumerate().map(|(i, step)| {
        step.ok_or_else(|| {
            DataFusionError::Execution(format!("path element at position {} is null", i + 1))
        })
    });
    steps.collect()
}

enum Change {
    Delete,
    Set { value: Json, may_create: bool },
    Insert { value: Json, is_after: bool },
}

fn set(a: &Row, may_create: bool) -> Result<Value> {
    let mut whole = json::parse(a.text(0))?;
    if !matches!(whole, Json::Array(_) | Json::Object(_)) {
        return exec_err!("cannot set path in scalar");
    }
    let value = json::parse(a.text(2))?;
    change(&mut whole, &steps(a)?, &Change::Set { value, may_create })?;
    Ok(whole.to_string().into())
}

fn insert(a: &Row, is_after: bool) -> Result<Value> {
    let mut whole = json::parse(a.text(0))?;
    if !matches!(whole, Json::Array(_) | Json::Object(_)) {
        return exec_err!("cannot set path in scalar");
    }
    let value = json::parse(a.text(2))?;
    change(&mut whole, &steps(a)?, &Change::Insert { value, is_after })?;
    Ok(whole.to_string().into())
}

/// Makes a change at the end of the path; a path that leads nowhere changes nothing.
fn change(value: &mut Json, steps: &[String], what: &Change) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else {
        return Ok(());
    };
    match value {
        Json::Object(fields) => {
            let found = fields.iter().position(|(key, _)| key == step);
            match found {
                Some(at) if !rest.is_empty() => change(&mut fields[at].1, rest, what)?,
                Some(at) => match what {
                    Change::Delete => {
                        fields.remove(at);
                    }
                    Change::Set { value, .. } => fields[at].1 = value.clone(),
                    Change::Insert { .. } => {
                        return exec_err!("cannot replace existing key");
                    }
                },
                None if rest.is_empty() => match what {
                    Change::Set {
                        value,
                        may_create: true,
                    }
                    | Change::Insert { value, .. } => {
                        fields.push((step.clone(), value.clone()));
                        *fields = match Json::object(std::mem::take(fields)) {
                            Json::Object(sorted) => sorted,
                            _ => Vec::new(),
                        };
                    }
                    _ => {}
                },
                None => {}
            }
        }
        Json::Array(items) => {
            let Ok(index) = step.trim().parse::<i64>() else {
                return exec_err!(
                    "path element at position {} is not an integer: \"{step}\"",
                    1
                );
            };
            change_array(items, index, rest, what)?;
        }
        _ => {}
    }
    Ok(())
}

fn change_array(items: &mut Vec<Json>, index: i64, rest: &[String], what: &Change) -> Result<()> {
    let found = place(index, items.len());
    match (found, what) {
        (Some(at), _) if !rest.is_empty() => change(&mut items[at], rest, what)?,
        (_, _) if !rest.is_empty() => {}
        (Some(at), Change::Delete) => {
            items.remove(at);
        }
        (Some(at), Change::Set { value, .. }) => items[at] = value.clone(),
        (Some(at), Change::Insert { value, is_after }) => {
            items.insert(at + usize::from(*is_after), value.clone());
        }
        (
            None,
            Change::Set {
                value,
                may_create: true,
            }
            | Change::Insert { value, .. },
        ) => {
            let at = if index < 0 { 0 } else { items.len() };
            items.insert(at, value.clone());
        }
        (None, _) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str, path: &[&str], what: Change) -> String {
        let mut value = json::parse(text).unwrap();
        let steps: Vec<String> = path.iter().map(|s| s.to_string()).collect();
        change(&mut value, &steps, &what).unwrap();
        value.to_string()
    }

    #[test]
    fn changes_at_the_end_of_a_path() {
        let value = || json::parse("[2]").unwrap();
        let set = |may_create| Change::Set {
            value: value(),
            may_create,
        };
        for (text, path, what, expected) in [
            (
                "[{\"f1\":1},2]",
                &["0", "f1"][..],
                set(false),
                "[{\"f1\": [2]}, 2]",
            ),
            ("{\"b\":1}", &["a"], set(true), "{\"a\": [2], \"b\": 1}"),
            ("{\"b\":1}", &["a"], set(false), "{\"b\": 1}"),
            (
                "{\"a\":[0,1]}",
                &["a", "-1"],
                Change::Delete,
                "{\"a\": [0]}",
            ),
            (
                "[0,1]",
                &["1"],
                Change::Insert {
                    value: value(),
                    is_after: true,
                },
                "[0, 1, [2]]",
            ),
            ("[0]", &["7"], set(true), "[0, [2]]"),
        ] {
            assert_eq!(changed(text, path, what), expected, "{text} {path:?}");
        }
    }
}
