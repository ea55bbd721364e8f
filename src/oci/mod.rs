//! The image format as plain values: no I/O, no clock.
//!
//! Types are named after the image-spec. They are our own, not those of the `oci-spec` crate, for
//! three reasons: its maps are hash maps (bytes would differ from run to run), its configuration
//! drops the Docker fields (`Healthcheck`, `OnBuild`, `Shell`, `ArgsEscaped`), and a digest there is
//! a string. Tests read everything that we write back with `oci-spec`.

mod annotation;
mod config;
mod digest;
pub mod image;
mod manifest;
mod nested;
mod platform;
mod reference;

pub use annotation::{Annotation, AnnotationLevel, AnnotationPlace};
pub use config::{CarriedRecord, Config, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher, HasherState};
pub use manifest::{Descriptor, Index, Layer, Manifest, MediaType};
pub use nested::{MAX_INDEX_DEPTH, TooDeep};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};

/// A moment in whole seconds since 1970-01-01T00:00:00Z; may be negative.
pub type Seconds = i64;

/// RFC 3339 in UTC with whole seconds, as `created` fields are written: `1970-01-01T00:00:00Z`.
/// Moments outside the years -9999 to 9999 are cut to that range.
pub fn rfc3339(time: Seconds) -> String {
    let min = jiff::Timestamp::MIN.as_second();
    let max = jiff::Timestamp::MAX.as_second();
    let time = time.clamp(min, max);
    jiff::Timestamp::from_second(time).map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

/// As [`rfc3339`], of milliseconds since 1970, and with as many digits behind the second as it takes.
pub fn rfc3339_ms(time: u64) -> String {
    let time = i64::try_from(time).ok().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    time.map_or_else(|| "1970-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

/// The whole seconds of an RFC 3339 moment; `None` when it is none.
pub fn parse_rfc3339(text: &str) -> Option<Seconds> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
