//! Text as bytes: `'\x00ff'::bytea`, in hex or in the older escape format (DataFusion takes the text's own bytes).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// `rm_bytea(text) -> bytea`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Bytea {
    signature: Signature,
}

impl Default for Bytea {
    fn default() -> Self {
        Bytea {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Bytea {
    fn name(&self) -> &str {
        "rm_bytea"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Utf8] => Ok(DataType::Binary),
            _ => plan_err!("rm_bytea takes a text, not {arguments:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let texts = args.args[0].to_array(1)?;
        let mut bytes = BinaryBuilder::with_capacity(texts.len(), 0);
        for text in texts.as_string::<i32>() {
            match text.map(parse_bytea) {
                None => bytes.append_null(),
                Some(Some(value)) => bytes.append_value(value),
                Some(None) => return exec_err!("invalid input syntax for type bytea"),
            }
        }
        let bytes: ArrayRef = Arc::new(bytes.finish());
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&bytes, 0)?),
            false => ColumnarValue::Array(bytes),
        })
    }
}

/// Hex (`\x00ff`) or the escape format (`a\\b\001`); `None`: neither.
pub fn parse_bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex
            .chars()
            .filter(|c| !c.is_ascii_whitespace())
            .map(|c| c.to_digit(16).map(|d| d as u8))
            .collect::<Option<_>>()?;
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        return Some(
            digits
                .chunks_exact(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect(),
        );
    }
    let source = text.as_bytes();
    let mut bytes = Vec::with_capacity(source.len());
    let mut i = 0;
    while i < source.len() {
        if source[i] != b'\\' {
            bytes.push(source[i]);
            i += 1;
        } else if source.get(i + 1) == Some(&b'\\') {
            bytes.push(b'\\');
            i += 2;
        } else {
            let octal = std::str::from_utf8(source.get(i + 1..i + 4)?).ok()?;
            bytes.push(u8::from_str_radix(octal, 8).ok()?);
            i += 4;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, expected) in [
            ("\\x00fF", Some(vec![0, 255])),
            ("\\x 00 ff", Some(vec![0, 255])),
            ("\\x", Some(vec![])),
            ("\\x0", None),
            ("\\xzz", None),
            ("a\\\\b\\001", Some(vec![b'a', b'\\', b'b', 1])),
            ("a\\b", None),
        ] {
            assert_eq!(parse_bytea(text), expected, "{text}");
        }
    }
}
