//! What time it is, to epochs: temporal filters and silent partitions wait for it.
//!
//! A test need not wait as long. `RIVERMARK_TEST_CLOCK` names a file, which may come and change while the server runs, and in it
//! stands how many milliseconds the server is ahead of the machine. Time never goes back, so neither does that.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("RIVERMARK_TEST_CLOCK").map(PathBuf::from));

/// The most that the file has said so far.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

fn ahead() -> Duration {
    let Some(file) = &*FILE else {
        return Duration::ZERO;
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let read: u64 = text.trim().parse().unwrap_or(0);
    let before = AHEAD_MS.fetch_max(read, Ordering::Relaxed);
    Duration::from_millis(before.max(read))
}

/// The time of day, in microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from((since + ahead()).as_micros()).unwrap_or(i64::MAX)
    })
}

/// For how long something lasts.
pub fn instant() -> Instant {
    let now = Instant::now();
    now.checked_add(ahead()).unwrap_or(now)
}
