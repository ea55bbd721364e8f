//! Trying again: when, how often, and how long to wait in between.

use std::time::Duration;

use super::Settings;
use super::connections::Connections;
use super::date::date_of;
use super::failure::Failure;
use super::request::{Request, Response};

/// A deterministic schedule of waits: each twice as long as the one before.
pub(crate) struct Schedule {
    left: u32,
    wait: Duration,
    longest: Duration,
}

impl Schedule {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            left: settings.attempts.saturating_sub(1),
            wait: settings.backoff,
            longest: settings.longest_wait,
        }
    }

    /// How long to wait before the next attempt, at least as long as the other side asked for; `None` when
    /// it is time to give up.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.left == 0 || asked.is_some_and(|a| a > self.longest) {
            return None;
        }
        self.left -= 1;
        let wait = self.wait.min(self.longest).max(asked.unwrap_or_default());
        self.wait = self.wait.saturating_mul(2);
        Some(wait)
    }
}

/// Makes a request until it is answered by something else than "not now"; one that must not be repeated once. The
/// last answer or failure is the result.
pub(crate) fn exchange(connections: &Connections, request: &Request<'_>) -> Result<Response, Failure> {
    let mut schedule = Schedule::new(connections.settings());
    if !request.is_repeatable {
        return connections.exchange(request);
    }
    loop {
        let result = connections.exchange(request);
        let asked = match &result {
            Ok(response) if is_transient(response.status.as_u16()) => retry_after(response),
            Err(failure) if failure.is_transient() => None,
            _ => return result,
        };
        match schedule.next(asked) {
            Some(wait) => std::thread::sleep(wait),
            None => return result,
        }
    }
}

/// Whether a status says "not now".
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// The `Retry-After` header.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    wait_of(response.header("retry-after")?.trim(), jiff::Timestamp::now())
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn wait_of(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = date_of(text)?;
    // A date in the past means now.
    Some(date.duration_since(now).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Environment;
    use super::*;

    #[test]
    fn waits_longer_each_time_and_then_gives_up() {
        let settings = Settings::with_environment(Environment::empty());
        let mut schedule = Schedule::new(&settings);
        let waits: Vec<u128> = std::iter::from_fn(|| schedule.next(None)).map(|w| w.as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000]);
        let seconds = Duration::from_secs;
        assert_eq!(Schedule::new(&settings).next(Some(seconds(3))), Some(seconds(3)));
        assert_eq!(Schedule::new(&settings).next(Some(seconds(3600))), None);
    }

    #[test]
    fn reads_retry_after() {
        let now = "2015-10-21T07:28:00Z".parse().unwrap();
        for (text, expected) in [
            ("7", Some(7)),
            ("Wed, 21 Oct 2015 07:28:09 GMT", Some(9)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("Wednesday, 21-Oct-15 07:28:09 GMT", Some(9)),
            ("Wed Oct 21 07:28:09 2015", Some(9)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(wait_of(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
