//! Passwords as they are kept: SCRAM-SHA-256 verifiers in PostgreSQL's form,
//! `SCRAM-SHA-256$iterations:salt$stored key:server key`. They check a password and do not tell it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, gen_salted_password};

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

const PREFIX: &str = "SCRAM-SHA-256$";
const SALT_BYTES: usize = 16;
/// As PostgreSQL's limit on what a client sends.
const MAX_PASSWORD_BYTES: usize = 4096;

/// What is kept of a password. A verifier that a client has made itself (`\password` in psql) is kept as it is.
pub fn verifier(password: &str) -> Result<String, PgError> {
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        let message = format!("a password has 1 to {MAX_PASSWORD_BYTES} bytes");
        return Err(PgError::new(SqlState::InvalidParameterValue, message));
    }
    if secret(password).is_some() {
        return Ok(password.to_string());
    }
    if is_md5(password) {
        let message = "passwords hashed with MD5 are not supported";
        let hint = "Give the password itself, or a SCRAM-SHA-256 verifier.";
        return Err(PgError::new(SqlState::FeatureNotSupported, message).with_hint(hint));
    }
    let salt = rand::random::<[u8; SALT_BYTES]>().to_vec();
    let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
    match ScramSecret::verifier_from_salted_password(salt, salted, SCRAM_ITERATIONS) {
        ScramSecret::Verifier {
            salt,
            iterations,
            stored_key,
            server_key,
        } => Ok(format!(
            "{PREFIX}{iterations}:{}${}:{}",
            STANDARD.encode(salt),
            STANDARD.encode(stored_key),
            STANDARD.encode(server_key)
        )),
        ScramSecret::SaltedPassword { .. } => Err(PgError::new(
            SqlState::InternalError,
            "a verifier was asked for, and a password came",
        )),
    }
}

/// Whether this is what old clients send instead of a password.
fn is_md5(password: &str) -> bool {
    password.strip_prefix("md5").is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// The salt that a role without a password is told: always the same, so that guessing does not tell which roles there are.
pub fn salt_of_nobody(key: &str, role: &str) -> Vec<u8> {
    // with one iteration this is HMAC-SHA-256 of the role under the key
    let mut salt = gen_salted_password(key, role.as_bytes(), 1);
    salt.truncate(SALT_BYTES);
    salt
}

/// The secret that a verifier's text stands for.
pub fn secret(verifier: &str) -> Option<ScramSecret> {
    let (parameters, keys) = verifier.strip_prefix(PREFIX)?.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let (stored_key, server_key) = keys.split_once(':')?;
    let key = |text: &str| STANDARD.decode(text).ok().filter(|key| key.len() == 32);
    Some(ScramSecret::Verifier {
        salt: STANDARD.decode(salt).ok()?,
        iterations: iterations.parse().ok().filter(|n| *n > 0)?,
        stored_key: key(stored_key)?,
        server_key: key(server_key)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_kept_and_a_password_is_not() {
        let kept = verifier("secret").unwrap();
        assert!(kept.starts_with("SCRAM-SHA-256$4096:") && !kept.contains("secret"));
        assert!(secret(&kept).is_some());
        assert_eq!(verifier(&kept).unwrap(), kept);
        assert_ne!(verifier("secret").unwrap(), kept, "the salt is random");
        assert!(secret("SCRAM-SHA-256$x").is_none());
        assert!(verifier("").is_err());
        assert!(verifier("md5a3556571e93b0d20722ba62be61e8c2d").is_err());
        assert_eq!(salt_of_nobody("key", "a"), salt_of_nobody("key", "a"));
        assert_ne!(salt_of_nobody("key", "a"), salt_of_nobody("key", "b"));
    }
}
