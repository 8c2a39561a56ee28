//! Array literals: `{1,"b c",NULL,{...}}`.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::ValueError;

/// What PostgreSQL's `array_isspace` takes for a blank.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Reads an array of elements of type `leaf`, each by `read`.
pub fn read_array(
    text: &str,
    leaf: &DataType,
    read: &dyn Fn(&str) -> Result<ScalarValue, ValueError>,
) -> Result<ScalarValue, ValueError> {
    let malformed = || ValueError(format!("malformed array literal: \"{text}\""));
    let body = text.trim();
    // Explicit bounds ([1:3]={...}) are accepted and forgotten: Arrow arrays start at 1.
    let body = match body.strip_prefix('[') {
        Some(_) => body.split_once('=').ok_or_else(malformed)?.1.trim_start(),
        None => body,
    };
    let mut reader = ArrayReader {
        bytes: body.as_bytes(),
        at: 0,
        leaf,
        read,
    };
    let value = reader.array().and_then(|v| v.ok_or_else(malformed))?;
    reader.skip_blanks();
    if reader.at != reader.bytes.len() {
        return Err(malformed());
    }
    Ok(value)
}

struct ArrayReader<'a> {
    bytes: &'a [u8],
    at: usize,
    leaf: &'a DataType,
    read: &'a dyn Fn(&str) -> Result<ScalarValue, ValueError>,
}

impl ArrayReader<'_> {
    fn skip_blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| is_blank(*b)) {
            self.at += 1;
        }
    }

    /// One array with its braces; `None` where the syntax is wrong.
    fn array(&mut self) -> Result<Option<ScalarValue>, ValueError> {
        self.skip_blanks();
        if self.bytes.get(self.at) != Some(&b'{') {
            return Ok(None);
        }
        self.at += 1;
        let mut values = Vec::new();
        self.skip_blanks();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return list_of(self.leaf, values).map(Some);
        }
        loop {
            self.skip_blanks();
            let value = match self.bytes.get(self.at) {
                Some(b'{') => self.array()?,
                Some(b'"') => self.quoted()?,
                _ => self.bare()?,
            };
            let Some(value) = value else { return Ok(None) };
            values.push(value);
            self.skip_blanks();
            let separator = self.bytes.get(self.at);
            self.at += 1;
            match separator {
                Some(b',') => {}
                Some(b'}') => return list_of(self.leaf, values).map(Some),
                _ => return Ok(None),
            }
        }
    }

    fn quoted(&mut self) -> Result<Option<ScalarValue>, ValueError> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.bytes.get(self.at) {
                None => return Ok(None),
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    text.extend(self.bytes.get(self.at + 1));
                    self.at += 2;
                }
                Some(byte) => {
                    text.push(*byte);
                    self.at += 1;
                }
            }
        }
        (self.read)(&String::from_utf8_lossy(&text)).map(Some)
    }

    fn bare(&mut self) -> Result<Option<ScalarValue>, ValueError> {
        let mut text = Vec::new();
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b',' | b'}' => break,
                b'{' | b'"' => return Ok(None),
                b'\\' => {
                    text.extend(self.bytes.get(self.at + 1));
                    self.at += 2;
                }
                byte => {
                    text.push(*byte);
                    self.at += 1;
                }
            }
        }
        let text = String::from_utf8_lossy(&text);
        let text = text.trim_end_matches(|c: char| c.is_ascii() && is_blank(c as u8));
        if text.is_empty() {
            return Ok(None);
        }
        if text.eq_ignore_ascii_case("null") {
            return ScalarValue::try_from(self.leaf).map(Some).map_err(bug);
        }
        (self.read)(text).map(Some)
    }
}

/// A list of `values`; what is no list among them has the type `leaf`.
pub fn list_of(leaf: &DataType, values: Vec<ScalarValue>) -> Result<ScalarValue, ValueError> {
    let nested = values
        .iter()
        .map(ScalarValue::data_type)
        .find(|t| matches!(t, DataType::List(_)));
    let item = nested.unwrap_or_else(|| leaf.clone());
    let values = values
        .into_iter()
        .map(|v| v.cast_to(&item).map_err(bug))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list(
        &values, &item, true,
    )))
}

fn bug(error: datafusion::common::DataFusionError) -> ValueError {
    ValueError(error.strip_backtrace())
}
