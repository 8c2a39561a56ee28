//! Who may have a session: `trust` for clients on this machine, SCRAM-SHA-256 for everyone where passwords are kept.
//! Only password messages are read here, one at a time; whatever a client pipelines behind them stays unread until
//! its session exists.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use pgwire::api::auth::sasl::SCRAM_SHA_256_METHOD;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, ScramServerAuth};
use pgwire::messages::startup::Authentication;
use tokio::time::sleep;

use super::link::{Fault, Link};
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// Keeps the verifiers of users' passwords.
pub trait ScramCredentials: Send + Sync {
    /// The user's SCRAM-SHA-256 secret; `None` for a user without a password or that does not exist.
    fn secret(&self, user: &str) -> Option<ScramSecret>;

    /// The salt that such a user is told, always the same one.
    fn salt_of_nobody(&self, user: &str) -> Vec<u8>;
}

/// How clients prove who they are.
#[derive(Clone)]
pub enum AuthMethod {
    /// No proof, and only from this machine.
    TrustLoopback,
    /// No proof, from anywhere: only by the operator's explicit wish.
    Trust,
    /// A password, by SCRAM-SHA-256.
    Scram(Arc<dyn ScramCredentials>),
}

/// How long a client waits that did not prove who it is.
const FAILED_LOGIN_DELAY: Duration = Duration::from_millis(500);

fn denied(user: &str) -> PgError {
    PgError::fatal(
        SqlState::InvalidPassword,
        format!("password authentication failed for user \"{user}\""),
    )
}

/// Authenticates a client; an error must close its connection.
pub async fn authenticate(
    method: &AuthMethod,
    link: &mut Link,
    peer: Option<SocketAddr>,
    user: &str,
) -> Result<(), Fault> {
    match method {
        AuthMethod::TrustLoopback => {
            if peer.is_some_and(|peer| !peer.ip().to_canonical().is_loopback()) {
                return Err(PgError::fatal(
                    SqlState::InvalidAuthorizationSpecification,
                    "connections from other machines need password authentication, which is not set up",
                )
                .into());
            }
        }
        AuthMethod::Trust => {}
        AuthMethod::Scram(credentials) => {
            if let Err(fault) = scram(credentials.as_ref(), link, user).await {
                // Guessing takes time, however many passwords are at hand.
                if matches!(fault, Fault::Error(_)) {
                    tracing::warn!(user, ?peer, "a client failed to authenticate");
                    sleep(FAILED_LOGIN_DELAY).await;
                }
                return Err(fault);
            }
        }
    }
    link.put(&Authentication::Ok);
    Ok(())
}

async fn scram(
    credentials: &dyn ScramCredentials,
    link: &mut Link,
    user: &str,
) -> Result<(), Fault> {
    link.put(&Authentication::SASL(vec![
        SCRAM_SHA_256_METHOD.to_string(),
    ]));
    let mut first = password_message(link).await?;
    let violation = || PgError::fatal(SqlState::ProtocolViolation, "malformed SCRAM message");
    let name_end = first.iter().position(|b| *b == 0).ok_or_else(violation)?;
    let mechanism = first.split_to(name_end);
    if mechanism != SCRAM_SHA_256_METHOD || first.len() < 5 {
        return Err(violation().into());
    }
    first.advance(1);
    let length = first.get_i32();
    if usize::try_from(length) != Ok(first.len()) {
        return Err(violation().into());
    }
    // An unknown user goes through the same steps with a secret that no password has.
    let known = credentials.secret(user);
    let is_known = known.is_some();
    let secret = known.unwrap_or_else(|| ScramSecret::Verifier {
        salt: credentials.salt_of_nobody(user),
        iterations: SCRAM_ITERATIONS,
        stored_key: rand::random::<[u8; 32]>().to_vec(),
        server_key: rand::random::<[u8; 32]>().to_vec(),
    });
    let (answer, waiting) = ScramServerAuth::new()
        .on_client_first_message_with_secret(&first, secret)
        .map_err(|_| violation())?;
    link.put(&Authentication::SASLContinue(Bytes::from(answer)));
    let last = password_message(link).await?;
    let proof = waiting
        .on_client_final_message(&last)
        .map_err(|_| denied(user))?;
    if !is_known {
        return Err(denied(user).into());
    }
    link.put(&Authentication::SASLFinal(Bytes::from(proof)));
    Ok(())
}

/// The body of the client's next message, which must be of the password family.
async fn password_message(link: &mut Link) -> Result<Bytes, Fault> {
    let frame = link.next_frame().await?;
    match frame.tag {
        b'p' => Ok(frame.body),
        b'X' => Err(Fault::Ended),
        tag => Err(PgError::fatal(
            SqlState::ProtocolViolation,
            format!("expected password response, got message type {tag}"),
        )
        .into()),
    }
}
