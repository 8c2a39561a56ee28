//! PostgreSQL's protocol message by message, for tests of what no driver would send or tell.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Protocol 3.0.
const VERSION: u32 = 196_608;
/// Instead of a version.
const CANCEL_REQUEST: u32 = 80_877_102;

/// The answer to one statement or message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Rows as text; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Command tags.
    pub tags: Vec<String>,
    /// SQLSTATE and message of the error.
    pub error: Option<(String, String)>,
    /// Channel and payload of notifications.
    pub notifications: Vec<(String, String)>,
    /// Lines of a COPY to the client.
    pub copied: Vec<String>,
    /// Process number and secret of a new session.
    pub key: Vec<u8>,
    /// ReadyForQuery's status.
    pub status: char,
}

/// A connection.
pub struct Wire(pub TcpStream);

/// A message with its type byte and length.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The first message of a connection.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = VERSION.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// A request to cancel what runs in the session with this key, on a connection of its own.
pub fn cancel(port: u16, key: &[u8]) -> Result<()> {
    let mut bytes = (key.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(CANCEL_REQUEST.to_be_bytes());
    bytes.extend(key);
    let mut wire = Wire::open(port)?;
    wire.send(&bytes)?;
    // The server closes the connection when it has passed the request on.
    match wire.receive()? {
        None => Ok(()),
        Some((tag, _)) => bail!("a cancel request was answered with {tag}"),
    }
}

/// A Query message.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

/// A field of an error.
pub fn field(body: &[u8], name: u8) -> String {
    body.split(|b| *b == 0)
        .find(|field| field.first() == Some(&name))
        .map_or(String::new(), |field| {
            String::from_utf8_lossy(&field[1..]).into_owned()
        })
}

impl Wire {
    /// A socket on which nothing has been said.
    pub fn open(port: u16) -> Result<Wire> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.set_nodelay(true)?;
        Ok(Wire(socket))
    }

    /// A session of a user who needs no password.
    pub fn connect(port: u16, user: &str) -> Result<Wire> {
        Ok(Self::connect_with_key(port, user)?.0)
    }

    /// The same, with the key by which it is cancelled; its first four bytes are the process number.
    pub fn connect_with_key(port: u16, user: &str) -> Result<(Wire, Vec<u8>)> {
        let mut wire = Wire::open(port)?;
        wire.send(&startup(&[("user", user), ("database", "rivermark")]))?;
        let reply = wire.reply()?;
        match reply.error {
            Some((code, message)) => bail!("{code}: {message}"),
            None => Ok((wire, reply.key)),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    /// The next message: its type and body; `None` once the server has closed the connection.
    pub fn receive(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; 5];
        if let Err(error) = self.0.read_exact(&mut head) {
            return match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                    Err(error).context("no message in time")
                }
                _ => Ok(None),
            };
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.saturating_sub(4)];
        self.0.read_exact(&mut body)?;
        Ok(Some((head[0], body)))
    }

    /// Everything up to ReadyForQuery, or to the end of the connection.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut reply = Reply::default();
        while let Some((tag, body)) = self.receive()? {
            match tag {
                b'Z' => {
                    reply.status = body.first().map_or(' ', |b| char::from(*b));
                    return Ok(reply);
                }
                b'D' => reply.rows.push(row(&body)),
                b'C' => reply.tags.push(text(&body)),
                b'E' => reply.error = Some((field(&body, b'C'), field(&body, b'M'))),
                b'A' => reply.notifications.push(notification(&body)),
                b'd' => reply.copied.push(text(&body)),
                b'K' => reply.key = body,
                // the server wants data: there is none
                b'G' => self.send(&message(b'c', b""))?,
                _ => {}
            }
        }
        Ok(reply)
    }

    /// Runs statements in the simple protocol.
    pub fn simple(&mut self, sql: &str) -> Result<Reply> {
        self.send(&query(sql))?;
        self.reply()
    }

    /// Runs a statement in the extended protocol: parameters of unknown types as text, results as text.
    pub fn extended(&mut self, sql: &str, parameters: &[Option<String>]) -> Result<Reply> {
        let mut bind = b"\0\0\0\0".to_vec();
        bind.extend((parameters.len() as u16).to_be_bytes());
        for value in parameters {
            match value {
                Some(value) => {
                    bind.extend((value.len() as u32).to_be_bytes());
                    bind.extend(value.as_bytes());
                }
                None => bind.extend((-1i32).to_be_bytes()),
            }
        }
        bind.extend(0u16.to_be_bytes());
        let messages = [
            message(b'P', format!("\0{sql}\0\0\0").as_bytes()),
            message(b'B', &bind),
            message(b'D', b"P\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ];
        self.send(&messages.concat())?;
        self.reply()
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .trim_end_matches(['\0', '\n'])
        .to_string()
}

/// The values of a DataRow.
pub fn row(body: &[u8]) -> Vec<Option<String>> {
    let count = u16::from_be_bytes([body[0], body[1]]);
    let mut rest = &body[2..];
    (0..count)
        .map(|_| {
            let (length, after) = rest.split_at(4);
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            let Ok(length) = usize::try_from(length) else {
                rest = after;
                return None;
            };
            let (value, after) = after.split_at(length);
            rest = after;
            Some(String::from_utf8_lossy(value).into_owned())
        })
        .collect()
}

fn notification(body: &[u8]) -> (String, String) {
    let mut parts = body[4..].split(|b| *b == 0).map(text);
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}
