//! PostgreSQL's text input of booleans, uuids, byte strings, intervals and limited text.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::IntervalMonthDayNano;

use super::number::NumberError;

/// Any unambiguous prefix of true, false, yes, no, on, off; 1 and 0.
pub fn parse_boolean(text: &str) -> Result<bool, NumberError> {
    let text = text.trim_ascii().to_ascii_lowercase();
    match text.as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Ok(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Ok(false),
        _ => Err(NumberError::Syntax),
    }
}

/// 32 hexadecimal digits, hyphens after any group of four, braces around; appended in the usual form.
pub fn push_uuid(text: &str, out: &mut Vec<u8>) -> Result<(), NumberError> {
    let bytes = text.trim_ascii().as_bytes();
    let bytes = match bytes {
        [b'{', inner @ .., b'}'] => inner,
        _ => bytes,
    };
    let mut digits = 0;
    let mut after_hyphen = true;
    for byte in bytes {
        match byte {
            b'-' if digits % 4 == 0 && !after_hyphen => after_hyphen = true,
            _ if byte.is_ascii_hexdigit() && digits < 32 => {
                if matches!(digits, 8 | 12 | 16 | 20) {
                    out.push(b'-');
                }
                out.push(byte.to_ascii_lowercase());
                digits += 1;
                after_hyphen = false;
            }
            _ => return Err(NumberError::Syntax),
        }
    }
    if digits == 32 && !after_hyphen {
        Ok(())
    } else {
        Err(NumberError::Syntax)
    }
}

/// PostgreSQL's hexadecimal form, `\xDEADBEEF`.
pub fn push_bytea(text: &str, out: &mut Vec<u8>) -> Result<(), NumberError> {
    let digits = text
        .strip_prefix("\\x")
        .ok_or(NumberError::Syntax)?
        .as_bytes();
    let value = |digit: u8| (digit as char).to_digit(16).ok_or(NumberError::Syntax);
    let (pairs, []) = digits.as_chunks::<2>() else {
        return Err(NumberError::Syntax);
    };
    for [high, low] in pairs {
        out.push((value(*high)? * 16 + value(*low)?) as u8);
    }
    Ok(())
}

/// `1 day 02:03:04`, `5 minutes`.
pub fn parse_interval(text: &str) -> Result<IntervalMonthDayNano, NumberError> {
    parse_interval_month_day_nano(text.trim_ascii()).map_err(|_| NumberError::Syntax)
}

/// The text if it has at most `max_length` characters; spaces beyond are cut off, anything else is an error.
pub fn fit_length(text: &[u8], max_length: Option<u32>) -> Result<&[u8], String> {
    let Some(max_length) = max_length else {
        return Ok(text);
    };
    let limit = max_length as usize;
    if text.len() <= limit {
        return Ok(text);
    }
    let is_start = |byte: &u8| (*byte as i8) >= -0x40;
    let end = text
        .iter()
        .enumerate()
        .filter(|(_, b)| is_start(b))
        .nth(limit)
        .map(|(at, _)| at);
    match end {
        None => Ok(text),
        Some(end) if text[end..].iter().all(|b| *b == b' ') => Ok(&text[..end]),
        Some(_) => Err(format!(
            "value too long for type character varying({max_length})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        let check = |text: &str, is_valid: bool| {
            let mut out = Vec::new();
            let result = push_uuid(text, &mut out);
            assert_eq!(result.is_ok(), is_valid, "{text}");
            if is_valid {
                assert_eq!(out, b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
            }
        };
        check("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", true);
        check("{A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11}", true);
        check("a0eebc999c0b4ef8bb6d6bb9bd380a11", true);
        check("a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", true);
        check("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", false);
        check("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a112", false);
        check("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g", false);
        check("a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11", false);
        check("", false);
    }

    #[test]
    fn lengths_count_characters() {
        let check = |text: &str, limit: u32, expected: Option<&str>| {
            let fitted = fit_length(text.as_bytes(), Some(limit)).ok();
            assert_eq!(fitted, expected.map(str::as_bytes), "{text} in {limit}");
        };
        check("abc", 3, Some("abc"));
        check("abcd", 3, None);
        check("äöü", 3, Some("äöü"));
        check("abc  ", 3, Some("abc"));
        check("", 1, Some(""));
    }

    #[test]
    fn byte_strings_are_hexadecimal() {
        let mut out = Vec::new();
        assert_eq!(push_bytea("\\xDEad00", &mut out), Ok(()));
        assert_eq!(out, [0xde, 0xad, 0]);
        for bad in ["DEAD", "\\x1", "\\xzz"] {
            assert_eq!(
                push_bytea(bad, &mut Vec::new()),
                Err(NumberError::Syntax),
                "{bad}"
            );
        }
    }
}
