//! Reads `-o`: the syntax and the meaning of the keys are those of `docker buildx build --output`.

use std::path::PathBuf;

use super::output::{Compression, LayerOptions, LocalMode, Output, OutputError, Sink, Target};
use crate::oci::Reference;
use crate::text::{boolean, closest, csv};

/// Every `type=`.
pub(super) const TYPES: [&str; 7] = ["oci", "docker", "local", "tar", "image", "registry", "cacheonly"];

/// Which keys a type has, beside `type`.
fn keys_of(kind: &str) -> &'static [&'static str] {
    const IMAGE: &[&str] = &[
        "dest",
        "tar",
        "name",
        "compression",
        "compression-level",
        "force-compression",
        "rewrite-timestamp",
        "oci-mediatypes",
    ];
    const STORE: &[&str] = &[
        "push",
        "name",
        "compression",
        "compression-level",
        "force-compression",
        "rewrite-timestamp",
        "oci-mediatypes",
    ];
    match kind {
        "oci" | "docker" => IMAGE,
        "image" | "registry" => STORE,
        "local" => &["dest", "mode", "platform-split"],
        "tar" => &["dest", "platform-split"],
        _ => &[],
    }
}

/// BuildKit's other keys, and why they are refused.
const REFUSED: [(&str, &str); 13] = [
    ("unpack", "there is no containerd to unpack into"),
    ("store", "the image always stays in the store"),
    ("context", "there is no docker daemon; pipe `-o type=docker` into `docker load`"),
    ("push-by-digest", "name a tag"),
    ("registry.insecure", "registries are configured on the command line of the build"),
    ("name-canonical", "the digest is always a name"),
    ("dangling-name-prefix", "untagged images are named by their digest"),
    ("danging-name-empty-only", "untagged images are named by their digest"),
    ("attestation-inline", "rbuild writes no attestations yet"),
    ("attestation-prefix", "rbuild writes no attestations yet"),
    ("oci-artifact", "rbuild writes no attestations yet"),
    ("prefer-nondist-layers", "layers keep the media type that they have"),
    ("source-date-epoch", "set SOURCE_DATE_EPOCH for the build"),
];

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
    tar: Option<bool>,
    mode: LocalMode,
    split: Option<bool>,
    push: Option<bool>,
}

fn from_pairs(pairs: &[(String, String)], text: &str) -> Result<Output, OutputError> {
    let is_type = |key: &str| key.eq_ignore_ascii_case("type");
    let kind = pairs.iter().rev().find(|(key, _)| is_type(key)).map(|(_, value)| value.clone());
    let kind = kind.ok_or_else(|| OutputError::NoType { text: text.to_owned() })?;
    if !TYPES.contains(&kind.as_str()) {
        let suggestion = closest(&kind, TYPES);
        return Err(OutputError::UnknownType { found: kind, suggestion });
    }
    let mut output = Output::new(Target::CacheOnly);
    let mut settings = Settings::default();
    for (key, value) in pairs.iter().filter(|(key, _)| !is_type(key)) {
        if !annotation(&mut output, &kind, key, value)? {
            let key = known_key(&kind, key)?;
            set(&mut output, &mut settings, key, value)?;
        }
    }
    check_level(&output.layers)?;
    output.target = target(&kind, settings)?;
    Ok(output)
}

fn target(kind: &str, settings: Settings) -> Result<Target, OutputError> {
    let Settings { dest, tar, mode, split, push } = settings;
    let directory = |what| match &dest {
        Some(dest) if dest != "-" && !dest.is_empty() => Ok(PathBuf::from(dest)),
        _ => Err(OutputError::NoDestination { what }),
    };
    let sink = match dest.as_deref() {
        None | Some("" | "-") => Sink::Stdout,
        Some(path) => Sink::File(PathBuf::from(path)),
    };
    Ok(match (kind, tar) {
        ("oci" | "docker", Some(false)) => Target::OciDirectory(directory("tar=false")?),
        ("oci", _) => Target::OciArchive(sink),
        ("docker", _) => Target::DockerArchive(sink),
        ("local", _) => Target::LocalDirectory { dest: directory("type=local")?, mode, split },
        ("tar", _) => Target::Tar { sink, split },
        ("image", _) => Target::Image { push: push.unwrap_or(false) },
        ("registry", _) => Target::Image { push: push.unwrap_or(true) },
        _ => Target::CacheOnly,
    })
}

fn known_key(kind: &str, key: &str) -> Result<&'static str, OutputError> {
    let lower = key.to_ascii_lowercase();
    let keys = keys_of(kind);
    if let Some(known) = keys.iter().find(|k| **k == lower) {
        return Ok(known);
    }
    if let Some((_, reason)) = REFUSED.iter().find(|(k, _)| *k == lower) {
        return Err(OutputError::NotPossible { key: key.to_owned(), reason });
    }
    let suggestion = closest(&lower, keys.iter().copied());
    Err(OutputError::UnknownKey { kind: kind.to_owned(), key: key.to_owned(), suggestion })
}

fn set(output: &mut Output, settings: &mut Settings, key: &str, value: &str) -> Result<(), OutputError> {
    let bad = |expected: &str| OutputError::BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    };
    let flag = || boolean(value).ok_or_else(|| bad("it is true or false"));
    match key {
        "dest" => settings.dest = Some(value.to_owned()),
        "tar" => settings.tar = Some(value.is_empty() || flag()?),
        "platform-split" => settings.split = Some(flag()?),
        "push" => settings.push = Some(value.is_empty() || flag()?),
        "mode" => settings.mode = local_mode(value).ok_or_else(|| bad("it is copy or delete"))?,
        "name" => {
            for name in value.split(',').filter(|name| !name.is_empty()) {
                let name: Reference = name.parse().map_err(|e| bad(&format!("{e}")))?;
                output.names.push(name.with_default_tag());
            }
        }
        "compression" => {
            let compression =
                compression(value).ok_or_else(|| bad("it is gzip, estargz, zstd or uncompressed"))?;
            output.layers.compression = Some(compression);
        }
        "compression-level" => {
            output.layers.level = Some(value.parse().map_err(|_| bad("it is a whole number"))?);
        }
        "force-compression" => output.layers.force = value.is_empty() || flag()?,
        "rewrite-timestamp" => output.layers.rewrite_timestamp = value.is_empty() || flag()?,
        "oci-mediatypes" if !value.is_empty() && !flag()? => {
            let reason = "images are always written with OCI's media types, which docker reads since 17.10";
            return Err(OutputError::NotPossible { key: format!("{key}={value}"), reason });
        }
        _ => {}
    }
    Ok(())
}

fn local_mode(value: &str) -> Option<LocalMode> {
    match value {
        "" | "copy" => Some(LocalMode::Copy),
        "delete" => Some(LocalMode::Delete),
        _ => None,
    }
}

fn compression(value: &str) -> Option<Compression> {
    match value {
        "uncompressed" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "zstd" => Some(Compression::Zstd),
        "estargz" => Some(Compression::Estargz),
        _ => None,
    }
}

/// Takes `annotation….KEY=`; `false` for other keys.
fn annotation(output: &mut Output, kind: &str, key: &str, value: &str) -> Result<bool, OutputError> {
    let is_image = keys_of(kind).contains(&"name");
    let Some((level, name)) = key.split_once('.').filter(|(l, _)| is_image && l.starts_with("annotation"))
    else {
        return Ok(false);
    };
    let map = match level {
        "annotation" | "annotation-manifest" => &mut output.manifest_annotations,
        "annotation-index" => &mut output.index_annotations,
        "annotation-manifest-descriptor" | "annotation-index-descriptor" => &mut output.entry_annotations,
        _ if level.contains('[') => {
            let reason = "annotations go to the images of all platforms";
            return Err(OutputError::NotPossible { key: key.to_owned(), reason });
        }
        _ => return Ok(false),
    };
    map.insert(name.to_owned(), value.to_owned());
    Ok(true)
}

/// What BuildKit takes, but for a level of no compression at all, which it ignores.
fn check_level(layers: &LayerOptions) -> Result<(), OutputError> {
    let Some(level) = layers.level else { return Ok(()) };
    let (name, max) = match layers.compression {
        // BuildKit takes any number here, for the nearest of its encoder's speeds.
        Some(Compression::Zstd) => return Ok(()),
        Some(Compression::Estargz) => ("estargz", 9),
        Some(Compression::None) => ("uncompressed", 0),
        Some(Compression::Gzip) | None => ("gzip", 9),
    };
    let expected = match level {
        _ if level > max => format!("with compression={name} it is at most {max}"),
        _ if level < -1 => format!("with compression={name} it is at least 0, or -1 for the usual one"),
        _ => return Ok(()),
    };
    Err(OutputError::BadValue { key: "compression-level".to_owned(), value: level.to_string(), expected })
}
