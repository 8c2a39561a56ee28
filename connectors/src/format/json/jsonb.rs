//! JSONB's normal form, as PostgreSQL prints it: keys sorted by length and bytes, of equal keys the last, one space
//! after `:` and `,`, numbers written out.

use std::str::from_utf8;

use jiter::{Jiter, Peek};

/// Nesting beyond this is refused.
const MAX_DEPTH: usize = 128;

/// Appends the normal form of `json`, which is well formed.
pub fn push_normalized(json: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut jiter = Jiter::new(json);
    let peek = jiter.peek().map_err(|e| e.to_string())?;
    push_value(&mut jiter, peek, out, 0)
}

fn push_value(
    jiter: &mut Jiter,
    peek: Peek,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("JSON is nested deeper than {MAX_DEPTH} levels"));
    }
    match peek {
        Peek::Null => {
            jiter.known_null().map_err(|e| e.to_string())?;
            out.extend_from_slice(b"null");
        }
        Peek::True | Peek::False => {
            let value = jiter.known_bool(peek).map_err(|e| e.to_string())?;
            out.extend_from_slice(if value { b"true" } else { b"false" });
        }
        Peek::String => push_string(jiter.known_str().map_err(|e| e.to_string())?, out)?,
        Peek::Array => push_array(jiter, out, depth)?,
        Peek::Object => push_object(jiter, out, depth)?,
        _ => {
            let digits = jiter.known_number_bytes(peek).map_err(|e| e.to_string())?;
            push_number(digits, out);
        }
    }
    Ok(())
}

fn push_array(jiter: &mut Jiter, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    out.push(b'[');
    let mut next = jiter.known_array().map_err(|e| e.to_string())?;
    let mut is_first = true;
    while let Some(peek) = next {
        if !is_first {
            out.extend_from_slice(b", ");
        }
        is_first = false;
        push_value(jiter, peek, out, depth + 1)?;
        next = jiter.array_step().map_err(|e| e.to_string())?;
    }
    out.push(b']');
    Ok(())
}

fn push_object(jiter: &mut Jiter, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    let mut key = jiter.known_object().map_err(|e| e.to_string())?;
    while let Some(name) = key {
        let name = name.to_string();
        let peek = jiter.peek().map_err(|e| e.to_string())?;
        let mut value = Vec::new();
        push_value(jiter, peek, &mut value, depth + 1)?;
        members.push((name, value));
        key = jiter.next_key().map_err(|e| e.to_string())?;
    }
    // A stable sort of the reversed members, so that of equal keys the last comes first and is kept.
    members.reverse();
    members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    members.dedup_by(|(later, _), (earlier, _)| later == earlier);
    out.push(b'{');
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        push_string(name, out)?;
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Ok(())
}

fn push_string(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0 => {
                return Err(
                    "unsupported Unicode escape sequence: \\u0000 cannot be converted to text"
                        .to_string(),
                );
            }
            0x01..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    Ok(())
}

/// Numbers are PostgreSQL numerics: an exponent is written out, `-0` is `0`.
fn push_number(digits: &[u8], out: &mut Vec<u8>) {
    let is_plain = !digits.iter().any(|b| matches!(b, b'e' | b'E'));
    if is_plain {
        let is_zero = !digits.iter().any(|b| matches!(b, b'1'..=b'9'));
        out.extend_from_slice(if is_zero {
            digits.strip_prefix(b"-").unwrap_or(digits)
        } else {
            digits
        });
        return;
    }
    match from_utf8(digits).ok().and_then(without_exponent) {
        Some(text) => out.extend_from_slice(text.as_bytes()),
        None => out.extend_from_slice(digits),
    }
}

/// `1.5e3` as `1500`; `None` where that would take more than a thousand digits.
fn without_exponent(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i64 = exponent.parse().ok().filter(|e: &i64| e.abs() <= 1000)?;
    let (sign, magnitude) = match mantissa.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", mantissa),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    let (whole, fraction) = if point <= 0 {
        (
            String::new(),
            format!("{}{digits}", "0".repeat(-point as usize)),
        )
    } else if point as usize >= digits.len() {
        (
            format!("{digits}{}", "0".repeat(point as usize - digits.len())),
            String::new(),
        )
    } else {
        (
            digits[..point as usize].to_string(),
            digits[point as usize..].to_string(),
        )
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let is_zero = whole == "0" && !fraction.bytes().any(|b| b != b'0');
    let sign = if is_zero { "" } else { sign };
    Some(if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form() {
        let check = |json: &str, expected: &str| {
            let mut out = Vec::new();
            let result = push_normalized(json.as_bytes(), &mut out);
            assert_eq!(
                result.map(|()| String::from_utf8_lossy(&out).into_owned()),
                Ok(expected.to_string())
            );
        };
        check(
            r#"{"bb":1,"a":[1,2 , {}],"a":null}"#,
            r#"{"a": null, "bb": 1}"#,
        );
        check(
            r#"{ "b" : "x\u00e4\n" , "aa": [ ] }"#,
            r#"{"b": "xä\n", "aa": []}"#,
        );
        check("1e2", "100");
        check("-1.5E-3", "-0.0015");
        check("1.50", "1.50");
        check("12.5e1", "125");
        check("1.234e1", "12.34");
        check("-0", "0");
        check("true", "true");
    }
}
