//! Every option of kaniko's executor, and what becomes of it.
//!
//! An option that is not here is none of kaniko's: those of the archived kaniko and of its successors were read.

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    /// Without the hyphens.
    pub(super) name: &'static str,
    /// `-X`
    pub(super) short: Option<char>,
    /// Whether it takes a value.
    pub(super) kind: Kind,
    /// What becomes of it.
    pub(super) becomes: Becomes,
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// None, or one behind `=`.
    Switch,
    /// One, behind `=` or as the next word.
    Value,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// It means what it meant.
    Meant(Id),
    /// It is taken, and why nothing comes of it.
    Nothing(&'static str),
    /// It is refused, and how to go on without it.
    Refused(&'static str),
}

/// The options that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Verbosity,
    LogFormat,
    Dockerfile,
    Context,
    SubPath,
    Destination,
    Platform,
    BuildArg,
    TarPath,
    Reproducible,
    SingleSnapshot,
    Target,
    NoPush,
    NoPushCache,
    CacheRepo,
    DigestFile,
    NameFile,
    NameTagFile,
    LayoutPath,
    Compression,
    CompressionLevel,
    ImageFormat,
    Cache,
    CacheTtl,
    CacheRunLayers,
    Label,
    Annotation,
    Git,
    IgnorePath,
    Secret,
    DryRun,
    Insecure,
    SkipTlsVerify,
    InsecurePull,
    SkipTlsVerifyPull,
    InsecureRegistry,
    SkipTlsVerifyRegistry,
    Certificate,
    ClientCertificate,
    Map,
    Mirror,
    NoFallback,
    Helpers,
}

use Becomes::{Meant, Nothing, Refused};
use Kind::{Switch, Value};

const OWN_ROOT: &str = "steps have roots of their own, and the one of this container is never touched";
const SNAPSHOTS: &str = "changes are found whole, and at no cost that could be saved";
const TRIES: &str = "what fails on the way is tried again as often as makes sense";
const DEFAULT: &str = "it is so anyway";
const ANY_STEP: &str = "steps of every kind are in the cache";
const NO_CHECK: &str = "no registry is asked beforehand whether it would take the image";
const TIMES: &str = "progress has times of its own";
const IN_STORE: &str = "base images are kept in the store, which `RBUILD_ROOT` puts elsewhere";
const BUCKET: &str = "fetch the archive, and pipe it in: `gsutil cat gs://BUCKET/context.tar.gz | executor --context=tar://stdin …`";
const IMMUTABLE: &str =
    "let the job ask for the tag before (`rbuild pull NAME || executor …`), or push under one that is new";

const fn flag(name: &'static str, kind: Kind, becomes: Becomes) -> Flag {
    Flag { name, short: None, kind, becomes }
}

const fn short(name: &'static str, short: char, kind: Kind, becomes: Becomes) -> Flag {
    Flag { name, short: Some(short), kind, becomes }
}

/// All of them.
pub(super) const FLAGS: &[Flag] = &[
    short("context", 'c', Value, Meant(Id::Context)),
    flag("context-sub-path", Value, Meant(Id::SubPath)),
    short("dockerfile", 'f', Value, Meant(Id::Dockerfile)),
    short("destination", 'd', Value, Meant(Id::Destination)),
    flag("build-arg", Value, Meant(Id::BuildArg)),
    flag("target", Value, Meant(Id::Target)),
    flag("label", Value, Meant(Id::Label)),
    flag("annotation", Value, Meant(Id::Annotation)),
    flag("secret", Value, Meant(Id::Secret)),
    flag("git", Value, Meant(Id::Git)),
    flag("custom-platform", Value, Meant(Id::Platform)),
    flag("customPlatform", Value, Meant(Id::Platform)),
    flag("single-snapshot", Switch, Meant(Id::SingleSnapshot)),
    flag("no-push", Switch, Meant(Id::NoPush)),
    flag("tar-path", Value, Meant(Id::TarPath)),
    flag("tarPath", Value, Meant(Id::TarPath)),
    flag("oci-layout-path", Value, Meant(Id::LayoutPath)),
    flag("digest-file", Value, Meant(Id::DigestFile)),
    flag("image-name-with-digest-file", Value, Meant(Id::NameFile)),
    flag("image-name-tag-with-digest-file", Value, Meant(Id::NameTagFile)),
    flag("compression", Value, Meant(Id::Compression)),
    flag("compression-level", Value, Meant(Id::CompressionLevel)),
    flag("image-format", Value, Meant(Id::ImageFormat)),
    flag("reproducible", Switch, Meant(Id::Reproducible)),
    flag("cache", Switch, Meant(Id::Cache)),
    flag("cache-repo", Value, Meant(Id::CacheRepo)),
    flag("cache-ttl", Value, Meant(Id::CacheTtl)),
    flag("cache-run-layers", Switch, Meant(Id::CacheRunLayers)),
    flag("no-push-cache", Switch, Meant(Id::NoPushCache)),
    flag("ignore-path", Value, Meant(Id::IgnorePath)),
    flag("insecure", Switch, Meant(Id::Insecure)),
    flag("skip-tls-verify", Switch, Meant(Id::SkipTlsVerify)),
    flag("insecure-pull", Switch, Meant(Id::InsecurePull)),
    flag("skip-tls-verify-pull", Switch, Meant(Id::SkipTlsVerifyPull)),
    flag("insecure-registry", Value, Meant(Id::InsecureRegistry)),
    flag("skip-tls-verify-registry", Value, Meant(Id::SkipTlsVerifyRegistry)),
    flag("registry-certificate", Value, Meant(Id::Certificate)),
    flag("registry-client-cert", Value, Meant(Id::ClientCertificate)),
    flag("registry-map", Value, Meant(Id::Map)),
    flag("registry-mirror", Value, Meant(Id::Mirror)),
    flag("skip-default-registry-fallback", Switch, Meant(Id::NoFallback)),
    flag("credential-helpers", Value, Meant(Id::Helpers)),
    short("verbosity", 'v', Value, Meant(Id::Verbosity)),
    flag("log-format", Value, Meant(Id::LogFormat)),
    flag("dryrun", Switch, Meant(Id::DryRun)),
    flag("log-timestamp", Switch, Nothing(TIMES)),
    flag("force", Switch, Nothing(OWN_ROOT)),
    flag("kaniko-dir", Value, Nothing(OWN_ROOT)),
    flag("pre-cleanup", Switch, Nothing(OWN_ROOT)),
    flag("cleanup", Switch, Nothing(OWN_ROOT)),
    flag("preserve-context", Switch, Nothing(OWN_ROOT)),
    flag("materialize", Switch, Nothing(OWN_ROOT)),
    flag("ignore-var-run", Switch, Nothing(OWN_ROOT)),
    flag("whitelist-var-run", Switch, Nothing(OWN_ROOT)),
    flag("snapshot-mode", Value, Nothing(SNAPSHOTS)),
    flag("snapshotMode", Value, Nothing(SNAPSHOTS)),
    flag("use-new-run", Switch, Nothing(SNAPSHOTS)),
    flag("cache-copy-layers", Switch, Nothing(ANY_STEP)),
    flag("cache-dir", Value, Nothing(IN_STORE)),
    flag(
        "compressed-caching",
        Switch,
        Nothing("layers are compressed while they are written, in little memory"),
    ),
    flag("image-fs-extract-retry", Value, Nothing(TRIES)),
    flag("image-download-retry", Value, Nothing(TRIES)),
    flag("push-retry", Value, Nothing(TRIES)),
    flag("skip-push-permission-check", Switch, Nothing(NO_CHECK)),
    flag("force-build-metadata", Switch, Nothing(DEFAULT)),
    flag("skip-unused-stages", Switch, Nothing(DEFAULT)),
    short("bucket", 'b', Value, Refused(BUCKET)),
    flag("push-ignore-immutable-tag-errors", Switch, Refused(IMMUTABLE)),
];

/// The option of that name.
pub(super) fn named(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The option of that letter.
pub(super) fn lettered(letter: char) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.short == Some(letter))
}
