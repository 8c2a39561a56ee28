//! Messages from clients after start-up. pgwire's own decoders are not used here: they read past the end of a
//! message, panic on a short one and replace invalid UTF-8. This one takes exactly one frame and checks every read.

use bytes::{Buf, Bytes, BytesMut};

use super::decode_binary::utf8;
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// One message: its type byte and its body.
#[derive(Debug)]
pub struct Frame {
    pub tag: u8,
    pub body: Bytes,
}

/// What Describe and Close name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Statement(String),
    Portal(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub portal: String,
    pub statement: String,
    pub parameter_formats: Vec<i16>,
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontendMessage {
    Query(String),
    Parse {
        name: String,
        sql: String,
        parameter_oids: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    /// `max_rows` 0 means all.
    Execute {
        portal: String,
        max_rows: u32,
    },
    Close(Target),
    Flush,
    Sync,
    FunctionCall,
    /// CopyData, CopyDone and CopyFail outside of a COPY: remains of one that failed, to be ignored.
    CopyRemains,
    Terminate,
}

/// Takes the next complete frame off `buffer`. An error means that the stream can not be followed any further.
pub fn take_frame(
    buffer: &mut BytesMut,
    max_message_bytes: usize,
) -> Result<Option<Frame>, PgError> {
    if buffer.len() < 5 {
        return Ok(None);
    }
    let tag = buffer[0];
    let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if !b"QPBDECHSFdcfXp".contains(&tag) {
        return Err(violation_fatal(format!(
            "invalid frontend message type {tag}"
        )));
    }
    if length < 4 {
        return Err(violation_fatal("invalid message length".to_string()));
    }
    if length > max_message_bytes {
        return Err(PgError::fatal(
            SqlState::ProgramLimitExceeded,
            format!("message of {length} bytes exceeds the limit of {max_message_bytes} bytes"),
        ));
    }
    if buffer.len() < length + 1 {
        buffer.reserve((length + 1 - buffer.len()).min(1 << 20));
        return Ok(None);
    }
    let mut frame = buffer.split_to(length + 1).freeze();
    frame.advance(5);
    Ok(Some(Frame { tag, body: frame }))
}

fn violation_fatal(message: String) -> PgError {
    PgError::fatal(SqlState::ProtocolViolation, message)
}

impl Frame {
    /// Whether an error in this message makes the server skip to the next Sync.
    pub fn is_extended(&self) -> bool {
        b"PBDECHS".contains(&self.tag)
    }

    pub fn parse(&self) -> Result<FrontendMessage, PgError> {
        let mut body = Body(self.body.clone());
        let message = match self.tag {
            b'Q' => FrontendMessage::Query(body.text()?),
            b'P' => {
                let name = body.text()?;
                let sql = body.text()?;
                let count = body.count()?;
                let parameter_oids = (0..count).map(|_| body.u32()).collect::<Result<_, _>>()?;
                FrontendMessage::Parse {
                    name,
                    sql,
                    parameter_oids,
                }
            }
            b'B' => FrontendMessage::Bind(Bind {
                portal: body.text()?,
                statement: body.text()?,
                parameter_formats: body.formats()?,
                parameters: body.values()?,
                result_formats: body.formats()?,
            }),
            b'D' => FrontendMessage::Describe(body.target()?),
            b'C' => FrontendMessage::Close(body.target()?),
            b'E' => {
                let portal = body.text()?;
                // Negative limits count as none, as in PostgreSQL.
                let max_rows = u32::try_from(body.u32()? as i32).unwrap_or(0);
                FrontendMessage::Execute { portal, max_rows }
            }
            b'H' => FrontendMessage::Flush,
            b'S' => FrontendMessage::Sync,
            b'F' => return Ok(FrontendMessage::FunctionCall),
            b'd' | b'c' | b'f' => return Ok(FrontendMessage::CopyRemains),
            b'X' => return Ok(FrontendMessage::Terminate),
            tag => return Err(violation_fatal(format!("unexpected message type {tag}"))),
        };
        if body.0.is_empty() {
            Ok(message)
        } else {
            Err(malformed())
        }
    }
}

fn malformed() -> PgError {
    PgError::new(SqlState::ProtocolViolation, "invalid message format")
}

/// What is left of a message.
pub struct Body(Bytes);

impl Body {
    pub fn new(bytes: Bytes) -> Body {
        Body(bytes)
    }

    fn take(&mut self, n: usize) -> Result<Bytes, PgError> {
        if self.0.len() < n {
            Err(malformed())
        } else {
            Ok(self.0.split_to(n))
        }
    }

    /// A text that ends with a zero byte.
    pub fn text(&mut self) -> Result<String, PgError> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(malformed)?;
        let bytes = self.0.split_to(end);
        self.0.advance(1);
        Ok(utf8(&bytes)?.to_string())
    }

    fn u32(&mut self) -> Result<u32, PgError> {
        Ok(self.take(4)?.get_u32())
    }

    fn count(&mut self) -> Result<u16, PgError> {
        Ok(self.take(2)?.get_u16())
    }

    fn formats(&mut self) -> Result<Vec<i16>, PgError> {
        let count = self.count()?;
        (0..count).map(|_| Ok(self.take(2)?.get_i16())).collect()
    }

    fn values(&mut self) -> Result<Vec<Option<Bytes>>, PgError> {
        let count = self.count()?;
        (0..count)
            .map(|_| match self.u32()? as i32 {
                -1 => Ok(None),
                length => {
                    let length = usize::try_from(length).map_err(|_| malformed())?;
                    self.take(length).map(Some)
                }
            })
            .collect()
    }

    fn target(&mut self) -> Result<Target, PgError> {
        let kind = self.take(1)?[0];
        let name = self.text()?;
        match kind {
            b'S' => Ok(Target::Statement(name)),
            b'P' => Ok(Target::Portal(name)),
            other => Err(PgError::new(
                SqlState::ProtocolViolation,
                format!("invalid DESCRIBE or CLOSE message subtype {other}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tag: u8, body: &[u8]) -> Result<FrontendMessage, SqlState> {
        Frame {
            tag,
            body: Bytes::copy_from_slice(body),
        }
        .parse()
        .map_err(|e| e.state)
    }

    #[test]
    fn short_long_and_broken_bodies_are_protocol_violations() {
        let violations: [(u8, &[u8]); 8] = [
            (b'Q', b"select 1"),
            (b'Q', b"select 1\0more"),
            (b'P', b"s\0select\0\0\x02\0\0\0\x17"),
            (b'B', b"\0\0\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"X\0"),
            (b'E', b"p\0\0\0"),
            (b'S', b"x"),
        ];
        for (tag, body) in violations {
            assert_eq!(
                parse(tag, body),
                Err(SqlState::ProtocolViolation),
                "{}",
                tag as char
            );
        }
        assert_eq!(
            parse(b'Q', b"\xff\0"),
            Err(SqlState::CharacterNotInRepertoire)
        );
        let execute = FrontendMessage::Execute {
            portal: "p".into(),
            max_rows: 0,
        };
        assert_eq!(parse(b'E', b"p\0\xff\xff\xff\xff"), Ok(execute));
    }

    #[test]
    fn frames_wait_for_their_last_byte_and_keep_what_follows() {
        let mut buffer = BytesMut::from(&b"S\0\0\0\x04Q\0\0\0\x06x"[..]);
        assert_eq!(take_frame(&mut buffer, 100).unwrap().unwrap().tag, b'S');
        assert!(take_frame(&mut buffer, 100).unwrap().is_none());
        buffer.extend_from_slice(b"\0X");
        assert_eq!(
            &take_frame(&mut buffer, 100).unwrap().unwrap().body[..],
            b"x\0"
        );
        assert_eq!(&buffer[..], b"X");
        for (bytes, state) in [
            (&b"Q\0\0\x01\0"[..], SqlState::ProgramLimitExceeded),
            (&b"Q\0\0\0\x03"[..], SqlState::ProtocolViolation),
            (&b"?\0\0\0\x04"[..], SqlState::ProtocolViolation),
        ] {
            assert_eq!(
                take_frame(&mut BytesMut::from(bytes), 100)
                    .unwrap_err()
                    .state,
                state
            );
        }
    }
}
