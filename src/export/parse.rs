//! Reads `-o`: the syntax and the meaning of the keys are those of `docker buildx build --output`.

use std::path::PathBuf;

use super::engine::{Engine, LoadInto};
use super::output::{Epoch, LocalMode, Output, OutputError, Sink, Target};
use crate::layer::Compression;
use crate::oci::{Annotation, Reference};
use crate::text::{boolean, closest, csv};

/// `type=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Oci,
    Docker,
    Local,
    Tar,
    Image,
    Registry,
    CacheOnly,
}

/// A key beside `type` and the annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Dest,
    /// One of docker's contexts, to load into.
    Context,
    /// `tar=false` is a directory.
    Tar,
    Push,
    Mode,
    PlatformSplit,
    Name,
    Compression,
    CompressionLevel,
    ForceCompression,
    RewriteTimestamp,
    OciMediatypes,
    SourceDateEpoch,
    PushByDigest,
    NameCanonical,
    RegistryInsecure,
    Store,
    Unpack,
    DanglingNamePrefix,
    DanglingNameEmptyOnly,
    PreferNondistLayers,
    OciArtifact,
    AttestationInline,
    AttestationPrefix,
}

/// How the keys are written.
const KEYS: [(&str, Key); 24] = [
    ("dest", Key::Dest),
    ("context", Key::Context),
    ("tar", Key::Tar),
    ("push", Key::Push),
    ("mode", Key::Mode),
    ("platform-split", Key::PlatformSplit),
    ("name", Key::Name),
    ("compression", Key::Compression),
    ("compression-level", Key::CompressionLevel),
    ("force-compression", Key::ForceCompression),
    ("rewrite-timestamp", Key::RewriteTimestamp),
    ("oci-mediatypes", Key::OciMediatypes),
    ("source-date-epoch", Key::SourceDateEpoch),
    ("push-by-digest", Key::PushByDigest),
    ("name-canonical", Key::NameCanonical),
    ("registry.insecure", Key::RegistryInsecure),
    ("store", Key::Store),
    ("unpack", Key::Unpack),
    ("dangling-name-prefix", Key::DanglingNamePrefix),
    // As BuildKit spells it.
    ("danging-name-empty-only", Key::DanglingNameEmptyOnly),
    ("prefer-nondist-layers", Key::PreferNondistLayers),
    ("oci-artifact", Key::OciArtifact),
    ("attestation-inline", Key::AttestationInline),
    ("attestation-prefix", Key::AttestationPrefix),
];

/// Every type, as it is written.
const KINDS: [(&str, Kind); 7] = [
    ("oci", Kind::Oci),
    ("docker", Kind::Docker),
    ("local", Kind::Local),
    ("tar", Kind::Tar),
    ("image", Kind::Image),
    ("registry", Kind::Registry),
    ("cacheonly", Kind::CacheOnly),
];

/// What may stand after `type=`.
pub(super) fn types() -> [&'static str; KINDS.len()] {
    KINDS.map(|(name, _)| name)
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether it makes an image, whose layers, names and annotations can be told.
    fn is_image(self) -> bool {
        match self {
            Kind::Oci | Kind::Docker | Kind::Image | Kind::Registry => true,
            Kind::Local | Kind::Tar | Kind::CacheOnly => false,
        }
    }

    fn has(self, key: Key) -> bool {
        match key {
            Key::Dest => matches!(self, Kind::Oci | Kind::Docker | Kind::Local | Kind::Tar),
            Key::Context => self == Kind::Docker,
            Key::Tar => matches!(self, Kind::Oci | Kind::Docker),
            Key::Push
            | Key::PushByDigest
            | Key::NameCanonical
            | Key::RegistryInsecure
            | Key::Store
            | Key::Unpack
            | Key::DanglingNamePrefix
            | Key::DanglingNameEmptyOnly => matches!(self, Kind::Image | Kind::Registry),
            Key::AttestationPrefix => matches!(self, Kind::Local | Kind::Tar),
            Key::Mode => self == Kind::Local,
            Key::PlatformSplit => matches!(self, Kind::Local | Kind::Tar),
            Key::SourceDateEpoch => self != Kind::CacheOnly,
            Key::Name
            | Key::Compression
            | Key::CompressionLevel
            | Key::ForceCompression
            | Key::RewriteTimestamp
            | Key::OciMediatypes
            | Key::PreferNondistLayers
            | Key::OciArtifact
            | Key::AttestationInline => self.is_image(),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Output, OutputError> {
    if text == "-" {
        return Ok(Output::new(Target::Tar { sink: Sink::Stdout, split: None }));
    }
    if text.is_empty() {
        return Err(OutputError::NoType { text: String::new() });
    }
    let fields = csv::fields(text).map_err(|fault| OutputError::Quote { text: text.to_owned(), fault })?;
    // docker: a single field is a directory unless it begins with `type=`.
    if let [only] = fields.as_slice()
        && only == text
        && !only.starts_with("type=")
    {
        let dest = PathBuf::from(only);
        return Ok(Output::new(Target::LocalDirectory { dest, mode: LocalMode::Copy, split: None }));
    }
    let mut pairs = Vec::new();
    for field in fields {
        let no_value = || OutputError::NoValue { field: field.clone(), text: text.to_owned() };
        let (key, value) = field.split_once('=').ok_or_else(no_value)?;
        pairs.push((key.trim().to_owned(), value.to_owned()));
    }
    from_pairs(&pairs, text)
}

/// What the keys said, before the type decides what it means.
#[derive(Default)]
struct Settings {
    dest: Option<String>,
    context: Option<String>,
    tar: Option<bool>,
    mode: LocalMode,
    split: Option<bool>,
    push: Option<bool>,
    by_digest: bool,
    names: Vec<Reference>,
    encoding: Option<Encoding>,
    level: Option<i64>,
}

fn from_pairs(pairs: &[(String, String)], text: &str) -> Result<Output, OutputError> {
    let is_type = |key: &str| key.eq_ignore_ascii_case("type");
    let named = pairs.iter().rev().find(|(key, _)| is_type(key)).map(|(_, value)| value.clone());
    let named = named.ok_or_else(|| OutputError::NoType { text: text.to_owned() })?;
    let kind = Kind::named(&named).ok_or_else(|| {
        let suggestion = closest(&named, types());
        OutputError::UnknownType { found: named, suggestion }
    })?;
    let mut output = Output::new(Target::CacheOnly);
    let mut settings = Settings::default();
    for (key, value) in pairs.iter().filter(|(key, _)| !is_type(key)) {
        if !annotation(&mut output, kind, key, value)? {
            set(&mut output, &mut settings, known_key(kind, key)?, value)?;
        }
    }
    let Settings { encoding, level, by_digest, .. } = settings;
    output.names =
        settings.names.drain(..).map(|name| named_as(name, by_digest)).collect::<Result<_, _>>()?;
    if encoding.is_some() || level.is_some() || output.layers.force {
        output.layers.compression = Some(compression(encoding.unwrap_or(Encoding::Gzip), level)?);
    }
    output.target = target(kind, settings)?;
    Ok(output)
}

/// What is pushed by its digest has no tag; every other name has one.
fn named_as(name: Reference, by_digest: bool) -> Result<Reference, OutputError> {
    match (by_digest, name.tag()) {
        (false, _) => Ok(name.with_default_tag()),
        (true, None) => Ok(name),
        (true, Some(_)) => {
            let expected = "with push-by-digest=true it has no tag".to_owned();
            Err(bad_value("name", &name.to_string(), expected))
        }
    }
}

fn target(kind: Kind, settings: Settings) -> Result<Target, OutputError> {
    let Settings { dest, context, tar, mode, split, push, by_digest, .. } = settings;
    let is_loaded =
        kind == Kind::Docker && tar != Some(false) && dest.as_deref().unwrap_or_default().is_empty();
    if is_loaded {
        return Ok(Target::Load(LoadInto::Engine(Engine::Docker { context })));
    }
    if context.is_some() {
        let reason = "it says which docker the image is loaded into, and `dest` writes it to a file";
        return Err(OutputError::NotPossible { key: "context".to_owned(), reason });
    }
    let directory = |what| match &dest {
        Some(dest) if dest != "-" && !dest.is_empty() => Ok(PathBuf::from(dest)),
        _ => Err(OutputError::NoDestination { what }),
    };
    let sink = match dest.as_deref() {
        None | Some("" | "-") => Sink::Stdout,
        Some(path) => Sink::File(PathBuf::from(path)),
    };
    Ok(match (kind, tar) {
        (Kind::Oci | Kind::Docker, Some(false)) => Target::OciDirectory(directory("tar=false")?),
        (Kind::Oci, _) => Target::OciArchive(sink),
        (Kind::Docker, _) => Target::DockerArchive(sink),
        (Kind::Local, _) => Target::LocalDirectory { dest: directory("type=local")?, mode, split },
        (Kind::Tar, _) => Target::Tar { sink, split },
        (Kind::Image, _) => Target::Image { push: push.unwrap_or(false), by_digest },
        (Kind::Registry, _) => Target::Image { push: push.unwrap_or(true), by_digest },
        (Kind::CacheOnly, _) => Target::CacheOnly,
    })
}

fn known_key(kind: Kind, key: &str) -> Result<Key, OutputError> {
    let lower = key.to_ascii_lowercase();
    let mut keys = KEYS.iter().filter(|(_, key)| kind.has(*key));
    if let Some((_, known)) = keys.clone().find(|(name, _)| *name == lower) {
        return Ok(*known);
    }
    let suggestion = closest(&lower, keys.by_ref().map(|(name, _)| *name));
    Err(OutputError::UnknownKey { kind: kind.name().to_owned(), key: key.to_owned(), suggestion })
}

fn set(output: &mut Output, settings: &mut Settings, key: Key, value: &str) -> Result<(), OutputError> {
    let name = KEYS.iter().find(|(_, known)| *known == key).map_or("", |(name, _)| name);
    let bad = |expected: &str| bad_value(name, value, expected.to_owned());
    let flag = || boolean(value).ok_or_else(|| bad("it is true or false"));
    let is_on = || if value.is_empty() { Ok(true) } else { flag() };
    let note = |is_on: bool, why: &str| is_on.then(|| format!("`{name}` of --output changes nothing: {why}"));
    match key {
        Key::Dest => settings.dest = Some(value.to_owned()),
        Key::Context => settings.context = Some(value.to_owned()).filter(|name| !name.is_empty()),
        Key::Tar => settings.tar = Some(is_on()?),
        Key::PlatformSplit => settings.split = Some(flag()?),
        Key::Push => settings.push = Some(is_on()?),
        Key::PushByDigest => settings.by_digest = is_on()?,
        Key::RegistryInsecure => output.insecure = is_on()?,
        Key::Store => output.stored = is_on()?,
        // It has that name anyway.
        Key::NameCanonical => drop(is_on()?),
        Key::Unpack => output.notes.extend(note(is_on()?, "there is no containerd to unpack into")),
        Key::DanglingNamePrefix => {
            output.notes.extend(note(!value.is_empty(), "an image without a name is found by its digest"));
        }
        // It is about the prefix.
        Key::DanglingNameEmptyOnly => drop(is_on()?),
        Key::PreferNondistLayers => {
            output.notes.extend(note(is_on()?, "layers keep the media type that they have"));
        }
        Key::OciArtifact => output.attestations.are_artifacts = is_on()?,
        // They always are.
        Key::AttestationInline => drop(is_on()?),
        Key::AttestationPrefix if value.contains('/') => {
            return Err(bad("it is the beginning of a name, without `/`"));
        }
        Key::AttestationPrefix => value.clone_into(&mut output.attestations.prefix),
        Key::Mode => settings.mode = local_mode(value).ok_or_else(|| bad("it is copy or delete"))?,
        Key::Name => {
            for name in value.split(',').filter(|name| !name.is_empty()) {
                settings.names.push(name.parse().map_err(|e| bad(&format!("{e}")))?);
            }
        }
        Key::SourceDateEpoch if value.is_empty() => output.epoch = Epoch::Unset,
        Key::SourceDateEpoch => {
            output.epoch = Epoch::At(value.parse().map_err(|_| bad("it is a number of seconds since 1970"))?);
        }
        Key::Compression => {
            let known = Encoding::named(value);
            settings.encoding = Some(known.ok_or_else(|| bad("it is gzip, estargz, zstd or uncompressed"))?);
        }
        Key::CompressionLevel => {
            settings.level = Some(value.parse().map_err(|_| bad("it is a whole number"))?);
        }
        Key::ForceCompression => output.layers.force = is_on()?,
        Key::RewriteTimestamp => output.layers.rewrite_timestamp = is_on()?,
        Key::OciMediatypes => output.dockers_types = !is_on()?,
    }
    Ok(())
}

fn bad_value(key: &str, value: &str, expected: String) -> OutputError {
    OutputError::BadValue { key: key.to_owned(), value: value.to_owned(), expected }
}

fn local_mode(value: &str) -> Option<LocalMode> {
    match value {
        "" | "copy" => Some(LocalMode::Copy),
        "delete" => Some(LocalMode::Delete),
        _ => None,
    }
}

/// `compression=`, whose level is a key of its own.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    Uncompressed,
    Gzip,
    Zstd,
    Estargz,
}

impl Encoding {
    fn named(name: &str) -> Option<Self> {
        match name {
            "uncompressed" => Some(Encoding::Uncompressed),
            "gzip" => Some(Encoding::Gzip),
            "zstd" => Some(Encoding::Zstd),
            "estargz" => Some(Encoding::Estargz),
            _ => None,
        }
    }
}

/// `zstd` without a level: as the program of that name.
const ZSTD_LEVEL: i32 = 3;
/// Numbers above it are this level, and those below 1 are 1, as BuildKit takes each for the nearest speed of its encoder.
const ZSTD_LEVEL_MAX: i64 = 22;
/// `estargz` without a level: as gzip without one.
const ESTARGZ_LEVEL: u8 = 1;

/// A compression with its level. BuildKit takes the same, but for a level of no compression at all, which it ignores.
fn compression(encoding: Encoding, level: Option<i64>) -> Result<Compression, OutputError> {
    let at_most = |name: &str, max: i64| match level {
        Some(level) if level > max => {
            let expected = format!("with compression={name} it is at most {max}");
            Err(bad_value("compression-level", &level.to_string(), expected))
        }
        Some(level) if level < -1 => {
            let expected = format!("with compression={name} it is at least 0, or -1 for the usual one");
            Err(bad_value("compression-level", &level.to_string(), expected))
        }
        _ => Ok(level.and_then(|level| u8::try_from(level).ok())),
    };
    Ok(match encoding {
        Encoding::Uncompressed => {
            at_most("uncompressed", 0)?;
            Compression::None
        }
        Encoding::Gzip => match at_most("gzip", 9)? {
            Some(level) => Compression::Gzip { level },
            None => Compression::default(),
        },
        Encoding::Estargz => Compression::Estargz { level: at_most("estargz", 9)?.unwrap_or(ESTARGZ_LEVEL) },
        Encoding::Zstd => {
            let level = level.map_or(ZSTD_LEVEL, |level| level.clamp(1, ZSTD_LEVEL_MAX) as i32);
            Compression::Zstd { level }
        }
    })
}

/// Takes `annotation….KEY=`; `false` for other keys.
fn annotation(output: &mut Output, kind: Kind, key: &str, value: &str) -> Result<bool, OutputError> {
    let Some((level, name)) =
        key.split_once('.').filter(|(level, _)| kind.is_image() && level.starts_with("annotation"))
    else {
        return Ok(false);
    };
    let level = level.strip_prefix("annotation").unwrap_or(level);
    let place = match level.strip_prefix('-') {
        Some(level) => level.parse(),
        // The level of manifests may be left out.
        None => format!("manifest{level}").parse(),
    };
    let place = place.map_err(|expected| bad_value(key, value, expected))?;
    output.annotations.push(Annotation { place, key: name.to_owned(), value: value.to_owned() });
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn types_and_keys_are_all_listed() {
        for (at, (name, kind)) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, at, "{name}");
        }
        for (at, (name, key)) in KEYS.iter().enumerate() {
            assert_eq!(*key as usize, at, "{name}");
            assert!(KINDS.iter().any(|(_, kind)| kind.has(*key)), "{name}");
        }
    }

    #[test]
    fn docker_without_a_file_is_loaded_into() {
        let of = |text: &str| Output::parse(text).map(|output| format!("{:?}", output.target));
        assert_eq!(of("type=docker").unwrap(), "Load(Engine(Docker { context: None }))");
        assert_eq!(of("type=docker,dest=").unwrap(), "Load(Engine(Docker { context: None }))");
        assert_eq!(of("type=docker,context=far").unwrap(), "Load(Engine(Docker { context: Some(\"far\") }))");
        assert_eq!(of("type=docker,dest=-").unwrap(), "DockerArchive(Stdout)");
        let told = of("type=docker,dest=a,context=far").unwrap_err().to_string();
        assert!(told.contains("`context` is not possible here"), "{told}");
    }

    #[test]
    fn compressions_by_name() {
        let of = |keys: &str| Output::parse(&format!("type=oci,dest=a{keys}")).unwrap().layers.compression;
        assert_eq!(of(""), None);
        assert_eq!(of(",compression=uncompressed"), Some(Compression::None));
        assert_eq!(of(",compression=zstd"), Some(Compression::Zstd { level: 3 }));
        assert_eq!(of(",compression=estargz"), Some(Compression::Estargz { level: 1 }));
        assert_eq!(of(",compression=estargz,compression-level=9"), Some(Compression::Estargz { level: 9 }));
        assert_eq!(of(",compression=gzip,compression-level=-1"), Some(Compression::default()));
        assert_eq!(of(",compression=estargz,compression-level=-1"), Some(Compression::Estargz { level: 1 }));
        for (level, expected) in [("-7", 1), ("-1", 1), ("0", 1), ("9", 9), ("22", 22), ("4000000000", 22)] {
            let zstd = of(&format!(",compression=zstd,compression-level={level}"));
            assert_eq!(zstd, Some(Compression::Zstd { level: expected }), "{level}");
        }
        // What names no compression, but speaks of one, means gzip.
        assert_eq!(of(",compression-level=9"), Some(Compression::Gzip { level: 9 }));
        assert_eq!(of(",force-compression=true"), Some(Compression::default()));
    }
}
