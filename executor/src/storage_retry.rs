//! Reads that are repeated while they fail for the environment's fault (disk I/O): giving up would turn a full disk into a
//! failed view, or half an epoch.

use std::time::Duration;

use tracing::warn;

use crate::error::{ExecutorError, Result};

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Repeats `action` until it does not fail with a storage error. Each of those goes to the log and to `report`.
pub fn retry<C, T>(
    context: &mut C,
    mut action: impl FnMut(&mut C) -> Result<T>,
    mut report: impl FnMut(&mut C, &ExecutorError),
) -> Result<T> {
    let mut delay = FIRST_DELAY;
    loop {
        match action(context) {
            Err(error @ ExecutorError::Storage(_)) => {
                warn!(%error, "storage error while computing an epoch; trying again");
                report(context, &error);
                std::thread::sleep(delay);
                delay = (delay * 2).min(LONGEST_DELAY);
            }
            other => return other,
        }
    }
}

/// The same for a read that is a small part of an epoch, so that what came before it need not be undone.
pub fn read<C, T>(context: &mut C, action: impl FnMut(&mut C) -> Result<T>) -> Result<T> {
    retry(context, action, |_, _| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_storage_errors_are_repeated() {
        let mut left = 2;
        let result = read(&mut left, |left| match *left {
            0 => Ok("read"),
            _ => {
                *left -= 1;
                Err(ExecutorError::Storage("EIO".into()))
            }
        });
        assert_eq!(result.unwrap(), "read");
        let mut calls = 0;
        let result = read(&mut calls, |calls| -> Result<()> {
            *calls += 1;
            Err(ExecutorError::Internal("a bug".into()))
        });
        assert!(result.is_err() && calls == 1);
    }
}
