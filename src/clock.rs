//! The time of day, read nowhere else: what enters an image with it differs from build to build.
//!
//! Times of files are compared with each other, and with [`std::time::SystemTime`] where that is what they are kept as.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970, to tell what came first.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
