//! Bytes of aggregate states: variable-length integers and byte strings, written to a buffer and read by [`Reader`].
//!
//! ```text
//! unsigned:  LEB128, 7 bits a byte, lowest first
//! signed:    zigzag (0, -1, 1, -2, ...), then as unsigned
//! bytes:     length unsigned, bytes
//! ```

use crate::error::{ExecutorError, Result};

/// Appends an unsigned number.
pub fn put_unsigned(mut value: u128, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number.
#[inline]
pub fn put_signed(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends a signed number of up to 128 bits.
pub fn put_signed_wide(value: i128, out: &mut Vec<u8>) {
    put_unsigned(((value << 1) ^ (value >> 127)) as u128, out);
}

/// Appends a byte string with its length.
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_unsigned(bytes.len() as u128, out);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote, front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8> {
        let (&first, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned number.
    pub fn unsigned(&mut self) -> Result<u128> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    /// A signed number.
    #[inline]
    pub fn signed(&mut self) -> Result<i64> {
        let mut zigzag = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err(damaged())
    }

    /// A signed number of up to 128 bits.
    pub fn signed_wide(&mut self) -> Result<i128> {
        let zigzag = self.unsigned()?;
        Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128))
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| damaged())?;
        self.take(length)
    }
}

/// Stored bytes are not what a state wrote.
pub fn damaged() -> ExecutorError {
    ExecutorError::Internal("a stored aggregate state is damaged".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, -1, 63, -64, 64, 127, 128, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_signed(value, &mut out);
            assert_eq!(Reader::new(&out).signed().unwrap(), value);
            out.clear();
            put_signed_wide(value as i128 * 1_000_003, &mut out);
            assert_eq!(
                Reader::new(&out).signed_wide().unwrap(),
                value as i128 * 1_000_003
            );
        }
        for value in [i128::MAX, i128::MIN] {
            let mut out = Vec::new();
            put_signed_wide(value, &mut out);
            assert_eq!(Reader::new(&out).signed_wide().unwrap(), value);
        }
    }

    #[test]
    fn truncated_bytes_are_errors() {
        assert!(Reader::new(&[]).signed().is_err());
        assert!(Reader::new(&[0x80]).unsigned().is_err());
        assert!(Reader::new(&[0x80; 30]).signed().is_err());
        assert!(Reader::new(&[3, 1, 2]).bytes().is_err());
    }
}
