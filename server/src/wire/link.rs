//! The two directions of a client's socket with their buffers, and the one place where a connection waits: while work
//! runs it also listens to cancel requests, shutdown, the client's disappearance and messages from elsewhere, and
//! sends what has been lying in the output buffer for [`FLUSH_INTERVAL`].

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse, NotificationResponse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::cancel::CancelSignal;
use super::frontend::{Frame, take_frame};
use crate::pg_error::{Notice, NoticeLevel, PgError, Severity};
use crate::session_api::ServerMessage;
use crate::sqlstate::SqlState;

/// Rows wait in the output buffer no longer than this.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// How long a statement waits to see whether it is alone in its pipeline; drivers send both in one packet.
const NEXT_MESSAGE_WAIT: Duration = Duration::from_millis(5);
/// Above this the socket is awaited before more rows are made.
pub const OUTPUT_HIGH_WATER: usize = 64 * 1024;
/// Room for input before each read.
const READ_CHUNK: usize = 16 * 1024;
/// Pipelined input is read ahead up to this while a statement runs.
const READ_AHEAD: usize = 256 * 1024;
/// How long the last message of a connection may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Texts in errors and notices are cut here; clients refuse far larger messages.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// A client's socket, plain or TLS.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}
pub type BoxedSocket = Box<dyn Socket>;

/// Why a wait ended early.
#[derive(Debug)]
pub enum Interrupt {
    Cancelled,
    Shutdown,
    Disconnected,
    /// The work panicked: a bug of ours, with its message.
    Panicked(String),
}

/// Why the handling of a message ended early.
#[derive(Debug)]
pub enum Fault {
    /// To be told to the client; a fatal one also ends the connection.
    Error(PgError),
    /// There is no client any more.
    Ended,
}

impl From<PgError> for Fault {
    fn from(error: PgError) -> Fault {
        Fault::Error(error)
    }
}

impl From<Interrupt> for Fault {
    fn from(interrupt: Interrupt) -> Fault {
        match interrupt {
            Interrupt::Cancelled => Fault::Error(PgError::cancelled()),
            Interrupt::Shutdown => Fault::Error(PgError::fatal(
                SqlState::AdminShutdown,
                "terminating connection due to administrator command",
            )),
            Interrupt::Panicked(message) => Fault::Error(PgError::fatal(
                SqlState::InternalError,
                format!("internal error: {message}"),
            )),
            Interrupt::Disconnected => Fault::Ended,
        }
    }
}

/// A client's connection below the level of statements.
pub struct Link {
    reader: ReadHalf<BoxedSocket>,
    writer: WriteHalf<BoxedSocket>,
    input: BytesMut,
    pub out: BytesMut,
    flush_at: Option<Instant>,
    max_message_bytes: usize,
    pub cancel: Arc<CancelSignal>,
    shutdown: CancellationToken,
    messages: mpsc::Receiver<ServerMessage>,
}

impl Link {
    /// `input` holds what was read beyond the startup message.
    pub fn new(
        socket: BoxedSocket,
        input: BytesMut,
        max_message_bytes: usize,
        cancel: Arc<CancelSignal>,
        shutdown: CancellationToken,
        messages: mpsc::Receiver<ServerMessage>,
    ) -> Link {
        let (reader, writer) = tokio::io::split(socket);
        Link {
            reader,
            writer,
            input,
            out: BytesMut::with_capacity(2 * OUTPUT_HIGH_WATER),
            flush_at: None,
            max_message_bytes,
            cancel,
            shutdown,
            messages,
        }
    }

    /// Before a client is authenticated it may send little; afterwards this much in one message.
    pub fn set_max_message_bytes(&mut self, bytes: usize) {
        self.max_message_bytes = bytes;
    }

    /// Appends a message to the output.
    pub fn put(&mut self, message: &impl Message) {
        let start = self.out.len();
        if let Err(error) = message.encode(&mut self.out) {
            // Only a text beyond the protocol's limits can do this.
            tracing::warn!(%error, "message not sent");
            self.out.truncate(start);
        }
    }

    pub fn put_error(&mut self, error: &PgError) {
        let severity = match error.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields = message_fields(
            severity,
            error.state,
            &error.message,
            &error.detail,
            &error.hint,
        );
        if let Some(position) = error.position {
            fields.push((b'P', position.to_string()));
        }
        fields.extend(error.context.as_ref().map(|text| (b'W', cut(text))));
        self.put(&ErrorResponse::new(fields));
    }

    pub fn put_notice(&mut self, notice: &Notice) {
        let severity = match notice.level {
            NoticeLevel::Notice => "NOTICE",
            NoticeLevel::Warning => "WARNING",
        };
        let fields = message_fields(
            severity,
            notice.state,
            &notice.message,
            &notice.detail,
            &notice.hint,
        );
        self.put(&NoticeResponse::new(fields));
    }

    fn put_server_message(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Notice(notice) => self.put_notice(&notice),
            ServerMessage::Notification {
                pid,
                channel,
                payload,
            } => {
                self.put(&NotificationResponse::new(pid, channel, payload));
            }
        }
    }

    /// The client's next message. All output is sent before waiting for it.
    pub async fn next_frame(&mut self) -> Result<Frame, Fault> {
        loop {
            if let Some(frame) = take_frame(&mut self.input, self.max_message_bytes)? {
                return Ok(frame);
            }
            self.receive().await?;
        }
    }

    /// The type of the client's next message; `None` if it does not come within [`NEXT_MESSAGE_WAIT`].
    pub async fn next_tag(&mut self) -> Result<Option<u8>, Fault> {
        if self.input.is_empty() {
            let arrival = async {
                while self.input.is_empty() {
                    self.receive().await?;
                }
                Ok(())
            };
            timeout(NEXT_MESSAGE_WAIT, arrival)
                .await
                .unwrap_or(Ok::<(), Fault>(()))?;
        }
        Ok(self.input.first().copied())
    }

    /// The next message of a client that feeds a running statement, which can be cancelled. All output is sent before
    /// waiting for it.
    pub async fn next_frame_of_statement(&mut self) -> Result<Frame, Fault> {
        loop {
            if let Some(frame) = take_frame(&mut self.input, self.max_message_bytes)? {
                return Ok(frame);
            }
            self.flush().await?;
            self.input.reserve(READ_CHUNK);
            tokio::select! {
                biased;
                () = self.cancel.requested() => return Err(Interrupt::Cancelled.into()),
                () = self.shutdown.cancelled() => return Err(Interrupt::Shutdown.into()),
                read = self.reader.read_buf(&mut self.input) => {
                    if !matches!(read, Ok(n) if n > 0) {
                        return Err(Fault::Ended);
                    }
                }
                Some(message) = self.messages.recv() => self.put_server_message(message),
            }
        }
    }

    /// Sends all output, then waits for input or a message from elsewhere, while nothing runs.
    async fn receive(&mut self) -> Result<(), Fault> {
        match self.flush().await {
            Ok(()) => {}
            // Nothing runs that could be cancelled.
            Err(Interrupt::Cancelled) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
        self.input.reserve(READ_CHUNK);
        tokio::select! {
            () = self.shutdown.cancelled() => return Err(Interrupt::Shutdown.into()),
            read = self.reader.read_buf(&mut self.input) => {
                if !matches!(read, Ok(n) if n > 0) {
                    return Err(Fault::Ended);
                }
            }
            Some(message) = self.messages.recv() => self.put_server_message(message),
        }
        // A cancel request that came while nothing ran was meant for a statement that is over.
        self.cancel.clear();
        Ok(())
    }

    /// Runs `work`, and gives it up when something more important happens.
    pub async fn guard<F: Future>(&mut self, work: F) -> Result<F::Output, Interrupt> {
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        loop {
            self.flush_if_due().await?;
            let flush_at = self.flush_at;
            self.input.reserve(READ_CHUNK);
            tokio::select! {
                biased;
                () = self.cancel.requested() => return Err(Interrupt::Cancelled),
                () = self.shutdown.cancelled() => return Err(Interrupt::Shutdown),
                output = &mut work => return output.map_err(|panic| Interrupt::Panicked(panic_text(panic))),
                read = self.reader.read_buf(&mut self.input), if self.input.len() < READ_AHEAD => {
                    if !matches!(read, Ok(n) if n > 0) {
                        return Err(Interrupt::Disconnected);
                    }
                }
                Some(message) = self.messages.recv() => self.put_server_message(message),
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {}
            }
        }
    }

    /// Starts the flush clock of new output; sends output whose time has come.
    async fn flush_if_due(&mut self) -> Result<(), Interrupt> {
        if self.out.is_empty() {
            self.flush_at = None;
            return Ok(());
        }
        let now = Instant::now();
        match self.flush_at {
            Some(at) if at <= now => self.flush().await,
            Some(_) => Ok(()),
            None => {
                self.flush_at = Some(now + FLUSH_INTERVAL);
                Ok(())
            }
        }
    }

    /// Sends all output, at the speed of the client, unless interrupted.
    pub async fn flush(&mut self) -> Result<(), Interrupt> {
        while !self.out.is_empty() {
            self.input.reserve(READ_CHUNK);
            tokio::select! {
                biased;
                () = self.cancel.requested() => return Err(Interrupt::Cancelled),
                () = self.shutdown.cancelled() => return Err(Interrupt::Shutdown),
                written = self.writer.write_buf(&mut self.out) => {
                    if !matches!(written, Ok(n) if n > 0) {
                        return Err(Interrupt::Disconnected);
                    }
                }
                read = self.reader.read_buf(&mut self.input), if self.input.len() < READ_AHEAD => {
                    if !matches!(read, Ok(n) if n > 0) {
                        return Err(Interrupt::Disconnected);
                    }
                }
            }
        }
        self.flush_at = None;
        self.writer
            .flush()
            .await
            .map_err(|_| Interrupt::Disconnected)
    }

    /// Awaits the socket when more than [`OUTPUT_HIGH_WATER`] is buffered: the backpressure of row streams.
    pub async fn relieve(&mut self) -> Result<(), Interrupt> {
        if self.out.len() >= OUTPUT_HIGH_WATER {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Sends a last error, as far as the client takes it, and closes the socket.
    pub async fn close(mut self, error: Option<&PgError>) {
        if let Some(error) = error {
            self.put_error(error);
        }
        let farewell = async {
            while !self.out.is_empty() {
                self.writer.write_buf(&mut self.out).await?;
            }
            self.writer.shutdown().await
        };
        if let Ok(Err(error)) = timeout(FAREWELL_TIMEOUT, farewell).await {
            tracing::debug!(%error, "connection lost while closing");
        }
    }
}

fn panic_text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => match panic.downcast::<&str>() {
            Ok(text) => text.to_string(),
            Err(_) => "panic".to_string(),
        },
    }
}

fn message_fields(
    severity: &str,
    state: SqlState,
    message: &str,
    detail: &Option<String>,
    hint: &Option<String>,
) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', state.code().to_string()),
        (b'M', cut(message)),
    ];
    fields.extend(detail.as_ref().map(|text| (b'D', cut(text))));
    fields.extend(hint.as_ref().map(|text| (b'H', cut(text))));
    fields
}

/// At most [`MAX_TEXT_BYTES`], without zero bytes.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].replace('\0', "\u{fffd}")
}
