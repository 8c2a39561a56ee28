//! `COPY ... FROM STDIN`: takes CopyData messages until the client says that it is done or has failed.

use pgwire::messages::copy::CopyInResponse;

use super::connection::Connection;
use super::frontend::Body;
use super::link::Fault;
use crate::pg_error::PgError;
use crate::session_api::SqlSession;
use crate::sqlstate::SqlState;

impl<S: SqlSession> Connection<S> {
    /// Asks for data and hands it to the session; returns the command tag.
    pub async fn copy_in(&mut self, columns: usize, is_binary: bool) -> Result<String, Fault> {
        let code = i16::from(is_binary);
        self.put(&CopyInResponse::new(
            code as i8,
            columns as i16,
            vec![code; columns],
        ));
        loop {
            let frame = self.link.next_frame_of_statement().await?;
            match frame.tag {
                b'd' => {
                    self.link
                        .guard(self.session.copy_data(frame.body))
                        .await??;
                }
                b'c' => return Ok(self.link.guard(self.session.copy_done()).await??),
                b'f' => {
                    let reason = Body::new(frame.body).text()?;
                    self.link.guard(self.session.copy_failed(&reason)).await??;
                    let message = format!("COPY from stdin failed: {reason}");
                    return Err(PgError::new(SqlState::QueryCanceled, message).into());
                }
                // Clients may send them before they know that the statement is a COPY.
                b'H' | b'S' => {}
                b'X' => return Err(Fault::Ended),
                tag => {
                    let message =
                        format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                    return Err(PgError::new(SqlState::ProtocolViolation, message).into());
                }
            }
        }
    }
}
