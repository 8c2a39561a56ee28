//! Functions on bytea.

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::argument::Kind::{Bytes, Int4, Text};
use super::sql_function::{Row, function};
use super::value::Value;
use crate::pg_text::input::{parse_escaped, parse_hex};
use crate::pg_text::output::{put_hex, text_of};
use crate::types::SqlType;

const TEXT: SqlType = SqlType::Text { max_length: None };

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("encode")
            .strict(&[Bytes, Text], TEXT, |a| encode(a.bytes(0), a.text(1)))
            .udf(),
        function("decode")
            .strict(&[Text, Text], SqlType::Bytea, |a| {
                decode(a.text(0), a.text(1))
            })
            .udf(),
        function("get_byte")
            .strict(&[Bytes, Int4], SqlType::Integer, |a| {
                let at = index(a)?;
                Ok(i64::from(a.bytes(0)[at]).into())
            })
            .udf(),
        function("set_byte")
            .strict(&[Bytes, Int4, Int4], SqlType::Bytea, |a| {
                let at = index(a)?;
                let mut bytes = a.bytes(0).to_vec();
                bytes[at] = a.int(2) as u8;
                Ok(bytes.into())
            })
            .udf(),
        function("convert_from")
            .strict(&[Bytes, Text], TEXT, |a| {
                only_utf8(a.text(1))?;
                match std::str::from_utf8(a.bytes(0)) {
                    Ok(text) => Ok(text.into()),
                    Err(_) => exec_err!("invalid byte sequence for encoding \"UTF8\""),
                }
            })
            .udf(),
        function("convert_to")
            .strict(&[Text, Text], SqlType::Bytea, |a| {
                only_utf8(a.text(1))?;
                Ok(a.text(0).as_bytes().to_vec().into())
            })
            .udf(),
        function("rm_bytes_concat")
            .strict(&[Bytes, Bytes], SqlType::Bytea, |a| {
                Ok([a.bytes(0), a.bytes(1)].concat().into())
            })
            .udf(),
    ]
}

fn index(a: &Row) -> Result<usize> {
    let length = a.bytes(0).len();
    match usize::try_from(a.int(1)) {
        Ok(at) if at < length => Ok(at),
        _ => exec_err!(
            "index {} out of valid range, 0..{}",
            a.int(1),
            length as i64 - 1
        ),
    }
}

fn only_utf8(encoding: &str) -> Result<()> {
    let name: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    if name.eq_ignore_ascii_case("utf8") || name.eq_ignore_ascii_case("unicode") {
        return Ok(());
    }
    exec_err!("encoding \"{encoding}\" is not supported; only UTF8 is")
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8], format: &str) -> Result<Value> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => Ok(text_of(|out| put_hex(out, bytes)).into()),
        "base64" => Ok(base64(bytes).into()),
        "escape" => {
            let mut text = String::with_capacity(bytes.len());
            for byte in bytes {
                match byte {
                    b'\\' => text.push_str("\\\\"),
                    0 | 128.. => text.push_str(&format!("\\{byte:03o}")),
                    byte => text.push(char::from(*byte)),
                }
            }
            Ok(text.into())
        }
        _ => exec_err!("unrecognized encoding: \"{format}\""),
    }
}

/// Lines of 76 characters, as MIME has them.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, chunk) in bytes.chunks(3).enumerate() {
        if i > 0 && i % 19 == 0 {
            text.push('\n');
        }
        let group = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte));
        for position in 0..4 {
            let sextet = (group >> (18 - 6 * position)) & 63;
            text.push(if position <= chunk.len() {
                char::from(BASE64[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn decode(text: &str, format: &str) -> Result<Value> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => Ok(parse_hex(text)?.into()),
        "base64" => Ok(from_base64(text)?.into()),
        "escape" => match parse_escaped(text.as_bytes()) {
            Some(bytes) => Ok(bytes.into()),
            None => exec_err!("invalid input syntax for type bytea"),
        },
        _ => exec_err!("unrecognized encoding: \"{format}\""),
    }
}

fn from_base64(text: &str) -> Result<Vec<u8>> {
    let broken = || exec_datafusion_err!("invalid base64 end sequence");
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut filled, mut padding) = (0u32, 0, 0);
    for c in text.bytes().filter(|b| !b.is_ascii_whitespace()) {
        if c == b'=' {
            padding += 1;
        } else if padding > 0 {
            return Err(broken());
        } else {
            let sextet = BASE64.iter().position(|known| *known == c).ok_or_else(|| {
                exec_datafusion_err!(
                    "invalid symbol \"{}\" found while decoding base64 sequence",
                    char::from(c)
                )
            })?;
            group = group << 6 | sextet as u32;
        }
        if c == b'=' {
            group <<= 6;
        }
        filled += 1;
        if filled == 4 {
            let whole = group.to_be_bytes();
            bytes.extend_from_slice(&whole[1..4_usize.saturating_sub(padding)]);
            (group, filled) = (0, 0);
        }
    }
    if filled != 0 || padding > 2 {
        return Err(broken());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for (bytes, text) in [
            (&b"abc"[..], "YWJj"),
            (b"ab", "YWI="),
            (b"a", "YQ=="),
            (b"", ""),
        ] {
            assert_eq!(base64(bytes), text);
            assert_eq!(from_base64(text).unwrap(), bytes);
        }
        assert!(from_base64("YWJ").is_err() && from_base64("Y?==").is_err());
        assert_eq!(base64(&[0; 60]).lines().next().map(str::len), Some(76));
    }
}
