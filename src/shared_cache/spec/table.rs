//! The keys of `--cache-from` and `--cache-to`, as buildx writes them: which say something here, and why the others do not.

use super::Direction;

/// What a key is to rbuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It counts, in both options.
    Both,
    /// It counts in `--cache-to` alone.
    To,
    /// It belongs to the other option; that one's word for it follows.
    Instead(Direction, &'static str),
    /// It is taken, and why nothing comes of it.
    Nothing(&'static str),
}

use Use::{Both, Instead, Nothing, To};

const COMPRESSED: Use = Nothing("layers are compressed already, and travel as they are");
const FORM: Use = Nothing("the cache has a form of its own");
const TRIES: Use = Nothing("what fails is tried again as often as makes sense");
const AT_ONCE: Use = Nothing("four blobs are sent at once");
const IDENTITY: Use = Nothing("blobs are never compressed on the way");

/// Keys of every type.
const COMMON: &[(&str, Use)] = &[
    ("mode", To),
    ("ignore-error", To),
    ("max-size", To),
    ("max-age", To),
    ("mounts-max-size", To),
    ("mount-max-size", Both),
    ("sign", Instead(Direction::From, "verify")),
    ("verify", Instead(Direction::To, "sign")),
    ("secrets", To),
    ("compression", COMPRESSED),
    ("compression-level", COMPRESSED),
    ("force-compression", COMPRESSED),
    ("oci-mediatypes", FORM),
    ("image-manifest", FORM),
];

const REGISTRY: &[(&str, Use)] =
    &[("ref", Both), ("registry.insecure", Nothing("`--tls-verify=false` says it, for all registries"))];

const LOCAL: &[(&str, Use)] = &[
    ("src", Instead(Direction::To, "dest")),
    ("dest", Instead(Direction::From, "src")),
    ("tag", Both),
    ("digest", Nothing("a tag has one state")),
    ("reset", Nothing("`max-size` and `max-age` bound what is kept")),
];

const HTTP: &[(&str, Use)] = &[("url", Both), ("name", Both), ("token", Both), ("timeout", Both)];

const REAPI: &[(&str, Use)] = &[
    ("endpoint", Both),
    ("instance", Both),
    ("name", Both),
    ("ca", Both),
    ("cert", Both),
    ("key", Both),
    ("token", Both),
    ("header", Both),
    ("header-env", Both),
    ("header-file", Both),
    ("timeout", Both),
];

const S3: &[(&str, Use)] = &[
    ("bucket", Both),
    ("region", Both),
    ("prefix", Both),
    ("blobs_prefix", Both),
    ("manifests_prefix", Both),
    ("name", Both),
    ("endpoint_url", Both),
    ("use_path_style", Both),
    ("access_key_id", Both),
    ("secret_access_key", Both),
    ("session_token", Both),
    ("touch_refresh", To),
    ("timeout", Both),
    ("upload_parallelism", AT_ONCE),
    ("retry_mode", TRIES),
    ("retry_max_attempts", TRIES),
    ("disable_accept_encoding", IDENTITY),
];

const GHA: &[(&str, Use)] = &[
    ("scope", Both),
    ("url_v2", Both),
    ("token", Both),
    ("timeout", Both),
    ("version", Both),
    ("repository", Both),
    ("url", Nothing("GitHub has ended the first version of its cache service; `url_v2` is the second")),
    ("ghtoken", Nothing("which entries there are is in the cache itself")),
];

const OF_IMAGE: Use = Nothing("an image carries the records of its own layers");

const INLINE: &[(&str, Use)] = &[
    ("mode", OF_IMAGE),
    ("ignore-error", Nothing("nothing is sent but the image")),
    ("max-size", OF_IMAGE),
    ("max-age", OF_IMAGE),
    ("mounts-max-size", OF_IMAGE),
    ("mount-max-size", OF_IMAGE),
];

/// What kinds of caches there are, and their own keys.
pub(super) const TYPES: &[(&str, &[(&str, Use)])] = &[
    ("registry", REGISTRY),
    ("local", LOCAL),
    ("http", HTTP),
    ("reapi", REAPI),
    ("s3", S3),
    ("gha", GHA),
    ("inline", INLINE),
];

/// What `key` is to the type, and all that could be meant.
pub(super) fn of(kind: &str, key: &str) -> Result<Use, Vec<&'static str>> {
    let own = TYPES.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    let all = || own.iter().chain(COMMON);
    match all().find(|(name, _)| *name == key) {
        Some((_, it)) => Ok(*it),
        None => Err(all().map(|(name, _)| *name).collect()),
    }
}

/// Whether nobody may see the value of `key`, which may be misspelt.
pub(super) fn is_secret(key: &str) -> bool {
    ["secret", "token", "key", "password", "header"].iter().any(|word| key.contains(word))
}
