//! The time of day, for whatever is written down: what enters an image with it differs from build to build.
//!
//! It is asked elsewhere only to be compared and forgotten: with times of files ([`context::statcache`](crate::context::statcache), partial
//! downloads of [`store`](crate::store)), with the time that a server says to wait for ([`http`](crate::http)), and with the time since the machine started.

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
