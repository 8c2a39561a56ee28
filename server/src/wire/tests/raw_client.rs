//! A client that sends and receives messages byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A message with its type byte and length.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

pub fn startup(version: u32, parameters: &str) -> Vec<u8> {
    let mut bytes = (parameters.len() as u32 + 9).to_be_bytes().to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(parameters.as_bytes());
    bytes.push(0);
    bytes
}

pub const V3: u32 = 196_608;
pub const USER: &str = "user\0u\0";

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(
        b'B',
        format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes(),
    )
}

pub fn execute(portal: &str, limit: u32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend(limit.to_be_bytes());
    message(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub struct RawClient(pub TcpStream);

impl RawClient {
    /// Starts a session.
    pub async fn connect(socket: TcpStream) -> RawClient {
        let mut client = RawClient(socket);
        client.send(&[startup(V3, USER)]).await;
        client.until_ready().await;
        client
    }

    pub async fn send(&mut self, messages: &[Vec<u8>]) {
        self.0.write_all(&messages.concat()).await.unwrap();
    }

    /// The next message; `None` when the server has closed the connection.
    pub async fn receive(&mut self) -> Option<(char, Vec<u8>)> {
        let receive = async {
            let tag = self.0.read_u8().await.ok()?;
            let length = self.0.read_u32().await.ok()?;
            let mut body = vec![0; length as usize - 4];
            self.0.read_exact(&mut body).await.ok()?;
            Some((tag as char, body))
        };
        timeout(Duration::from_secs(10), receive)
            .await
            .expect("no message within 10 s")
    }

    /// Type bytes up to and including ReadyForQuery with its status; errors with their SQLSTATE.
    pub async fn until_ready(&mut self) -> String {
        let mut seen = Vec::new();
        loop {
            match self.receive().await {
                None => {
                    seen.push("closed".to_string());
                    break;
                }
                Some(('E', body)) => seen.push(format!("E:{}", field(&body, b'C'))),
                Some(('Z', body)) => {
                    seen.push(format!("Z{}", body[0] as char));
                    break;
                }
                Some((tag, _)) => seen.push(tag.to_string()),
            }
        }
        seen.join(" ")
    }
}

/// A field of an ErrorResponse or NoticeResponse.
pub fn field(body: &[u8], name: u8) -> String {
    body.split(|b| *b == 0)
        .find(|field| field.first() == Some(&name))
        .map_or(String::new(), |field| {
            String::from_utf8_lossy(&field[1..]).into_owned()
        })
}
