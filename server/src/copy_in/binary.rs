//! The tuples of a COPY in PostgreSQL's binary format.

use bytes::{Buf, Bytes, BytesMut};

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Input and the place up to which it was cut into tuples.
#[derive(Default)]
pub struct Tuples {
    input: BytesMut,
    has_header: bool,
    is_over: bool,
    /// Tuples found.
    pub number: u64,
}

fn bad_format(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::BadCopyFileFormat, message)
}

/// The end of the input came too early, if it is the end.
fn more<T>(is_last: bool) -> Result<Option<T>, PgError> {
    match is_last {
        true => Err(bad_format("unexpected EOF in COPY data")),
        false => Ok(None),
    }
}

impl Tuples {
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    pub fn waiting(&self) -> usize {
        self.input.len()
    }

    /// The next tuple's fields, of which there must be `width`; `None` if more input is needed, or, with `is_last`, if
    /// there are no more.
    pub fn next_tuple(
        &mut self,
        width: usize,
        is_last: bool,
    ) -> Result<Option<Vec<Option<Bytes>>>, PgError> {
        if !self.has_header && !self.skip_header(is_last)? {
            return Ok(None);
        }
        if self.is_over {
            return match self.input.is_empty() {
                true => Ok(None),
                false => Err(bad_format("received copy data after EOF marker")),
            };
        }
        if is_last && self.input.is_empty() {
            // As in PostgreSQL, the last two bytes may be missing.
            return Ok(None);
        }
        let mut rest = &self.input[..];
        let Ok(count) = rest.try_get_i16() else {
            return more(is_last);
        };
        if count == -1 {
            self.input.advance(2);
            self.is_over = true;
            return self.next_tuple(width, is_last);
        }
        if usize::try_from(count) != Ok(width) {
            let message = format!("row field count is {count}, expected {width}");
            return Err(bad_format(message));
        }
        // Whole first, then taken.
        let mut lengths = Vec::with_capacity(width);
        for _ in 0..width {
            let Ok(length) = rest.try_get_i32() else {
                return more(is_last);
            };
            let bytes = match length {
                -1 => None,
                length => {
                    let bytes = usize::try_from(length);
                    Some(bytes.map_err(|_| bad_format("invalid field size"))?)
                }
            };
            if rest.len() < bytes.unwrap_or(0) {
                return more(is_last);
            }
            rest.advance(bytes.unwrap_or(0));
            lengths.push(bytes);
        }
        self.input.advance(2);
        self.number += 1;
        let take = |bytes: Option<usize>| {
            self.input.advance(4);
            bytes.map(|bytes| self.input.split_to(bytes).freeze())
        };
        Ok(Some(lengths.into_iter().map(take).collect()))
    }

    /// False: the header is not there yet.
    fn skip_header(&mut self, is_last: bool) -> Result<bool, PgError> {
        let fixed = SIGNATURE.len() + 8;
        let known = self.input.len().min(SIGNATURE.len());
        if self.input[..known] != SIGNATURE[..known] || (is_last && known < SIGNATURE.len()) {
            return Err(bad_format("COPY file signature not recognized"));
        }
        let mut rest = match self.input.get(SIGNATURE.len()..) {
            Some(rest) if rest.len() >= 8 => rest,
            _ if is_last => return Err(bad_format("invalid COPY file header (missing flags)")),
            _ => return Ok(false),
        };
        // The low bits are for whoever understands them, the high ones must be understood.
        if rest.get_u32() >> 16 != 0 {
            let message = "unrecognized critical flags in COPY file header";
            return Err(bad_format(message));
        }
        let extension = rest.get_u32() as usize;
        if rest.len() < extension {
            return match is_last {
                true => Err(bad_format("invalid COPY file header (wrong length)")),
                false => Ok(false),
            };
        }
        self.input.advance(fixed + extension);
        self.has_header = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_the_same_however_the_input_is_cut() {
        let mut bytes = [SIGNATURE, &[0; 8]].concat();
        bytes.extend([0, 2, 0, 0, 0, 1, b'a', 255, 255, 255, 255]);
        bytes.extend([0, 2, 0, 0, 0, 0, 0, 0, 0, 2, b'b', b'c']);
        bytes.extend([255, 255]);
        for size in [1, 2, 7, 100] {
            let mut tuples = Tuples::default();
            let mut found = Vec::new();
            for chunk in bytes.chunks(size).map(Some).chain([None]) {
                tuples.push(chunk.unwrap_or_default());
                while let Some(tuple) = tuples.next_tuple(2, chunk.is_none()).unwrap() {
                    found.push(tuple);
                }
            }
            let text = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
            assert_eq!(found, [[text(b"a"), None], [text(b""), text(b"bc")]]);
        }
    }

    #[test]
    fn what_is_no_binary_copy_is_refused() {
        let header = [SIGNATURE, &[0; 8]].concat();
        let with = |rest: &[u8]| [&header[..], rest].concat();
        let cases = [
            (b"a\tb\n".to_vec(), "COPY file signature not recognized"),
            (with(&[0, 1]), "row field count is 1, expected 2"),
            (with(&[0, 2, 0, 0]), "unexpected EOF in COPY data"),
            (with(&[0]), "unexpected EOF in COPY data"),
            (with(&[255, 255, 0]), "received copy data after EOF marker"),
        ];
        for (bytes, message) in cases {
            let mut tuples = Tuples::default();
            tuples.push(&bytes);
            assert_eq!(tuples.next_tuple(2, true).unwrap_err().message, message);
        }
    }
}
