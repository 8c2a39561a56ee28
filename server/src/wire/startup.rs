//! A connection's first messages: encryption requests, cancel requests, and the startup message with its protocol
//! version and parameters.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{GssEncRequest, NegotiateProtocolVersion, SslRequest, Startup};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use pgwire::tokio::TlsAcceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::link::BoxedSocket;
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// PostgreSQL's limit on everything that is sent before authentication.
const MAX_STARTUP_BYTES: usize = 10_000;

/// What a new connection turned out to want.
pub enum Opening {
    Session(Box<StartupRequest>),
    /// A cancel request: it has no answer.
    Cancel(CancelRequest),
    /// The client left without a word.
    Gone,
}

/// A client that asks for a session, not yet authenticated.
pub struct StartupRequest {
    pub socket: BoxedSocket,
    /// What was read beyond the startup message.
    pub input: BytesMut,
    pub version: ProtocolVersion,
    /// To be sent first, where the client asked for a version or option that we do not have.
    pub negotiate: Option<NegotiateProtocolVersion>,
    pub user: String,
    pub database: String,
    /// All other parameters.
    pub settings: BTreeMap<String, String>,
}

/// An opening that failed; the error is to be told on this socket.
pub struct Refusal {
    pub socket: BoxedSocket,
    pub error: PgError,
}

/// Reads a connection's first messages.
pub async fn open(mut socket: BoxedSocket, tls: Option<&TlsAcceptor>) -> Result<Opening, Refusal> {
    let mut input = BytesMut::with_capacity(1024);
    let mut is_encrypted = false;
    loop {
        let packet = match read_packet(&mut socket, &mut input).await {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Opening::Gone),
            Err(error) => return Err(Refusal { socket, error }),
        };
        if GssEncRequest::is_gss_enc_request_packet(&packet) {
            if socket.write_all(b"N").await.is_err() {
                return Ok(Opening::Gone);
            }
        } else if SslRequest::is_ssl_request_packet(&packet) {
            match tls.filter(|_| !is_encrypted) {
                Some(tls) => {
                    // Bytes that came in the clear behind the request must not be taken for encrypted ones.
                    if !input.is_empty() {
                        let error = violation("received unencrypted data after SSL request");
                        return Err(Refusal { socket, error });
                    }
                    socket = match encrypt(socket, tls).await {
                        Some(socket) => socket,
                        None => return Ok(Opening::Gone),
                    };
                    is_encrypted = true;
                }
                None => {
                    if socket.write_all(b"N").await.is_err() {
                        return Ok(Opening::Gone);
                    }
                }
            }
        } else if CancelRequest::is_cancel_request_packet(&packet) {
            return Ok(decode_cancel(packet).map_or(Opening::Gone, Opening::Cancel));
        } else {
            return match parse_startup(packet) {
                Ok(parsed) => Ok(Opening::Session(Box::new(StartupRequest {
                    socket,
                    input,
                    version: parsed.version,
                    negotiate: parsed.negotiate,
                    user: parsed.user,
                    database: parsed.database,
                    settings: parsed.settings,
                }))),
                Err(error) => Err(Refusal { socket, error }),
            };
        }
    }
}

async fn encrypt(mut socket: BoxedSocket, tls: &TlsAcceptor) -> Option<BoxedSocket> {
    socket.write_all(b"S").await.ok()?;
    match tls.accept(socket).await {
        Ok(encrypted) => Some(Box::new(encrypted)),
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
    }
}

fn violation(message: &str) -> PgError {
    PgError::fatal(SqlState::ProtocolViolation, message)
}

/// The next packet without a type byte, with its length field; `None` at the end of the stream.
async fn read_packet(
    socket: &mut BoxedSocket,
    input: &mut BytesMut,
) -> Result<Option<BytesMut>, PgError> {
    loop {
        if input.len() >= 4 {
            let length = (&input[..4]).get_u32() as usize;
            if !(8..=MAX_STARTUP_BYTES).contains(&length) {
                return Err(violation("invalid length of startup packet"));
            }
            if input.len() >= length {
                return Ok(Some(input.split_to(length)));
            }
        }
        match socket.read_buf(input).await {
            Ok(n) if n > 0 => {}
            _ => return Ok(None),
        }
    }
}

fn decode_cancel(mut packet: BytesMut) -> Option<CancelRequest> {
    // Version 3.2 makes the decoder take a secret of any length; a short one compares equal by its bytes.
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
    CancelRequest::decode(&mut packet, &context).ok().flatten()
}

struct Parsed {
    version: ProtocolVersion,
    negotiate: Option<NegotiateProtocolVersion>,
    user: String,
    database: String,
    settings: BTreeMap<String, String>,
}

fn parse_startup(mut packet: BytesMut) -> Result<Parsed, PgError> {
    let (major, minor) = ((&packet[4..6]).get_u16(), (&packet[6..8]).get_u16());
    if major != Startup::PG_PROTOCOL_LATEST {
        return Err(PgError::fatal(
            SqlState::FeatureNotSupported,
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
        ));
    }
    if packet.len() == 8 || packet.last() != Some(&0) {
        return Err(violation(
            "invalid startup packet layout: expected terminator as last byte",
        ));
    }
    let startup = Startup::decode(&mut packet, &DecodeContext::default())
        .ok()
        .flatten()
        .ok_or_else(|| violation("invalid startup packet layout"))?;
    // The highest version that both sides speak: 3.1 was never one.
    let version = match minor {
        0 | 1 => ProtocolVersion::PROTOCOL3_0,
        _ => ProtocolVersion::PROTOCOL3_2,
    };
    let mut settings = startup.parameters;
    let unknown: Vec<String> = settings
        .keys()
        .filter(|name| name.starts_with("_pq_."))
        .cloned()
        .collect();
    settings.retain(|name, _| !name.starts_with("_pq_."));
    let (_, own_minor) = version.version_number();
    let negotiate = (own_minor != minor || !unknown.is_empty())
        .then(|| NegotiateProtocolVersion::new(version.into(), unknown));

    let user = settings
        .remove("user")
        .filter(|user| !user.is_empty())
        .ok_or_else(|| {
            PgError::fatal(
                SqlState::InvalidAuthorizationSpecification,
                "no PostgreSQL user name specified in startup packet",
            )
        })?;
    let database = settings
        .remove("database")
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| user.clone());
    if let Some(replication) = settings.remove("replication")
        && !matches!(replication.as_str(), "false" | "off" | "no" | "0")
    {
        return Err(PgError::fatal(
            SqlState::FeatureNotSupported,
            "replication connections are not supported",
        ));
    }
    if let Some(options) = settings.remove("options") {
        for (name, value) in parse_options(&options)? {
            settings.entry(name).or_insert(value);
        }
    }
    Ok(Parsed {
        version,
        negotiate,
        user,
        database,
        settings,
    })
}

/// `-c name=value`, `-cname=value` and `--name=value`; a backslash keeps the next character.
fn parse_options(options: &str) -> Result<Vec<(String, String)>, PgError> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => words
                .last_mut()
                .into_iter()
                .for_each(|w| w.extend(characters.next())),
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|w| w.push(c)),
        }
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--")
                .or_else(|| word.strip_prefix("-c"))
                .map(str::to_string)
        };
        let pair = assignment.as_deref().and_then(|text| text.split_once('='));
        let Some((name, value)) = pair else {
            return Err(PgError::fatal(
                SqlState::InvalidParameterValue,
                format!("invalid command-line argument for server process: {word}"),
            ));
        };
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    fn startup(minor: u16, parameters: &[(&str, &str)]) -> Result<Parsed, SqlState> {
        let mut packet = BytesMut::new();
        packet.put_u32(0);
        packet.put_u16(3);
        packet.put_u16(minor);
        for (name, value) in parameters {
            packet.put_slice(format!("{name}\0{value}\0").as_bytes());
        }
        packet.put_u8(0);
        let length = packet.len() as u32;
        packet[..4].copy_from_slice(&length.to_be_bytes());
        parse_startup(packet).map_err(|e| e.state)
    }

    #[test]
    fn versions_and_options_are_negotiated_down() {
        let cases = [
            (0, false, 196_608),
            (1, true, 196_608),
            (2, false, 196_610),
            (9999, true, 196_610),
        ];
        for (minor, negotiates, version) in cases {
            let parsed = startup(minor, &[("user", "u")]).unwrap();
            assert_eq!(parsed.negotiate.is_some(), negotiates, "{minor}");
            assert_eq!(i32::from(parsed.version), version, "{minor}");
        }
        let parsed = startup(0, &[("user", "u"), ("_pq_.x", "1")]).unwrap();
        assert_eq!(parsed.negotiate.unwrap().unsupported_options, ["_pq_.x"]);
        assert!(!parsed.settings.contains_key("_pq_.x"));
    }

    #[test]
    fn parameters_and_options_become_settings() {
        let options = "-c a=1 -cb=x\\ y --work-mem=3";
        let parsed = startup(0, &[("user", "u"), ("options", options), ("a", "own")]).unwrap();
        assert_eq!(parsed.database, "u");
        let settings: Vec<(&str, &str)> = parsed
            .settings
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(settings, [("a", "own"), ("b", "x y"), ("work_mem", "3")]);
        assert_eq!(
            startup(0, &[]).err(),
            Some(SqlState::InvalidAuthorizationSpecification)
        );
        let replication = startup(0, &[("user", "u"), ("replication", "database")]);
        assert_eq!(replication.err(), Some(SqlState::FeatureNotSupported));
    }
}
