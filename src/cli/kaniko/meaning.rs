//! From kaniko's options to those of `rbuild build`.

use std::path::{Path, PathBuf};

use super::context;
use super::files::Files;
use super::flags::Id;
use super::registries;
use super::words::{Typed, truth};
use crate::cli::Failure;
use crate::cli::options::request::{bad, tag, variable};
use crate::config::Flags;
use crate::oci::{Platform, Reference};
use crate::pipeline::{ContextFrom, Secret};
use crate::registry::VariableLogins;
use crate::report::Diagnostic;
use crate::text::duration::parse_go;

/// The tag of the repository that holds the cache.
const CACHE_TAG: &str = "rbuild-cache";
/// How long kaniko believes its cache.
const CACHE_TTL: &str = "336h";

/// What a command line of kaniko's asks for.
pub(super) struct Job {
    /// The options of `rbuild build`, but for the context.
    pub(super) words: Vec<String>,
    /// Stages that are built before, and go nowhere.
    pub(super) before: Vec<String>,
    /// The context.
    pub(super) context: ContextFrom,
    /// How to talk to registries.
    pub(super) flags: Flags,
    /// Where logins are looked for beside files.
    pub(super) logins: VariableLogins,
    /// The names of the image.
    pub(super) names: Vec<Reference>,
    /// Files that tell what was built.
    pub(super) files: Files,
    /// Logins to fetch the context.
    pub(super) secrets: Vec<Secret>,
    /// What is to be said.
    pub(super) notes: Vec<String>,
    /// All times are those of 1970.
    pub(super) is_timeless: bool,
    /// Only the plan is wanted.
    pub(super) is_dry: bool,
}

impl Job {
    /// Reads it.
    pub(super) fn of(typed: &Typed) -> Result<Self, Failure> {
        if let Some((flag, help)) = typed.refused() {
            let error = Diagnostic::error(format!("`--{}` is not possible", flag.name));
            return Err(Failure::usage(error.help(help)));
        }
        ignored_paths(typed)?;
        let is_dry = typed.is_on(Id::DryRun, false);
        let is_pushed = !is_dry && !no_push(typed)?;
        let names = destinations(typed, is_pushed)?;
        let context::Context { from, secrets, notes } = context::of(typed)?;
        let dockerfile = dockerfile(typed, &from)?;
        let mut targets =
            typed.all(Id::Target).flat_map(|value| value.split(',')).filter(|target| !target.is_empty());
        let target = targets.next();
        let mut flags = registries::flags(typed)?;
        let caches = caches(typed, is_pushed, &names)?;
        if let (Cached::Repository(repository), true) = (&caches.place, flags.foreign.insecure_push) {
            flags.insecure.push(repository.registry().to_owned());
        }
        let is_timeless = typed.is_on(Id::Reproducible, false) && variable("SOURCE_DATE_EPOCH").is_none();
        let option = |name: &str, value: &str| format!("--{name}={value}");
        let given = |name: &'static str, id| typed.all(id).map(move |value| option(name, value));
        // What a store has under the name of a base is none of kaniko's.
        let mut words = vec![option("pull", "always")];
        words.extend(dockerfile.map(|path| option("file", &path)));
        words.extend(names.iter().map(|name| option("tag", &name.to_string())));
        words.extend(typed.all(Id::BuildArg).map(|value| option("build-arg", &build_arg(value))));
        words.extend(target.map(|target| option("target", target)));
        words.extend(given("label", Id::Label).chain(given("annotation", Id::Annotation)));
        words.extend(given("secret", Id::Secret));
        words.extend(platform(typed)?.map(|platform| option("platform", platform)));
        words.extend(progress(typed)?.map(|mode| option("progress", mode)));
        words.extend(outputs(typed)?);
        words.extend(typed.is_on(Id::SingleSnapshot, false).then(|| "--squash".to_owned()));
        words.extend(is_pushed.then(|| "--push".to_owned()));
        words.extend(caches.words);
        Ok(Self {
            words,
            before: targets.map(str::to_owned).collect(),
            context: from,
            flags,
            logins: registries::logins(typed)?,
            files: Files::of(typed, is_pushed)?,
            names,
            secrets,
            notes: typed.notes().into_iter().chain(notes).chain(strange(typed)).collect(),
            is_timeless,
            is_dry,
        })
    }
}

/// What kaniko takes without a word and does nothing with.
fn strange(typed: &Typed) -> Vec<String> {
    let words = typed.words.iter().map(|word| {
        let hint = if truth(word).is_some() { "; a switch has its value behind `=`" } else { "" };
        format!("the word `{word}` means nothing, as with kaniko{hint}")
    });
    let mut switches: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("FF_KANIKO_"))
        .map(|name| format!("`{name}`"))
        .collect();
    switches.sort();
    let switches = (!switches.is_empty())
        .then(|| format!("{} switched something inside of kaniko, and nothing here", switches.join(", ")));
    words.chain(switches).collect()
}

/// `--no-push`, for which `$KANIKO_NO_PUSH` stands.
fn no_push(typed: &Typed) -> Result<bool, Failure> {
    match variable("KANIKO_NO_PUSH") {
        Some(text) => truth(&text).ok_or_else(|| bad("$KANIKO_NO_PUSH", &text, "it is true or false")),
        None => Ok(typed.is_on(Id::NoPush, false)),
    }
}

fn destinations(typed: &Typed, is_pushed: bool) -> Result<Vec<Reference>, Failure> {
    let name = |text: &str| tag(text).map_err(|reason| bad("--destination", text, &reason));
    let names: Vec<Reference> = typed.all(Id::Destination).map(name).collect::<Result<_, _>>()?;
    if is_pushed && names.is_empty() {
        let error = Diagnostic::error("there is neither `--destination` nor `--no-push`");
        return Err(Failure::usage(
            error.help("say where the image goes: `--destination=REGISTRY/REPOSITORY:TAG`"),
        ));
    }
    Ok(names)
}

/// The Dockerfile; `None` for the usual one of a context that is no folder. In kaniko's order: a file of that path, then one in
/// the context.
fn dockerfile(typed: &Typed, context: &ContextFrom) -> Result<Option<String>, Failure> {
    let given = typed.last(Id::Dockerfile);
    let path = given.unwrap_or("Dockerfile");
    let ContextFrom::Directory(folder) = context else { return Ok(given.map(str::to_owned)) };
    if path.starts_with("http://") || path.starts_with("https://") {
        return Ok(Some(path.to_owned()));
    }
    let inside = folder.join(path);
    let found = [Path::new(path), &inside].into_iter().find(|path| path.exists());
    match found.map(Path::to_str) {
        Some(Some(found)) => Ok(Some(found.to_owned())),
        Some(None) | None => {
            let error =
                format!("there is no `{path}`, neither here nor in the context `{}`", folder.display());
            Err(Failure::build(vec![
                Diagnostic::error(error).help("name the Dockerfile with `--dockerfile`"),
            ]))
        }
    }
}

/// A value that the environment does not have is empty, as with kaniko.
fn build_arg(text: &str) -> String {
    match text.contains('=') {
        true => text.to_owned(),
        false => format!("{text}={}", std::env::var(text).unwrap_or_default()),
    }
}

fn platform(typed: &Typed) -> Result<Option<&str>, Failure> {
    let Some(text) = typed.last(Id::Platform) else { return Ok(None) };
    let read = text.parse::<Platform>().map_err(|error| bad("--custom-platform", text, &error.to_string()));
    read.map(|_| Some(text))
}

fn progress(typed: &Typed) -> Result<Option<&'static str>, Failure> {
    let is_quiet = match typed.last(Id::Verbosity) {
        None | Some("trace" | "debug" | "info" | "warn" | "warning") => false,
        Some("error" | "fatal" | "panic") => true,
        Some(other) => {
            return Err(bad("--verbosity", other, "it is trace, debug, info, warn, error, fatal or panic"));
        }
    };
    match (typed.last(Id::LogFormat), is_quiet) {
        (Some(format), _) if !matches!(format, "text" | "color" | "json") => {
            Err(bad("--log-format", format, "it is text, color or json"))
        }
        (_, true) => Ok(Some("quiet")),
        (Some("json"), false) => Ok(Some("json")),
        (Some("text"), false) => Ok(Some("plain")),
        (_, false) => Ok(None),
    }
}

/// Where the image goes beside registries, and how it is written.
fn outputs(typed: &Typed) -> Result<Vec<String>, Failure> {
    let mut outputs = Vec::new();
    // A hyphen is a file's name here.
    let path = |path: &str| if path == "-" { "./-".to_owned() } else { path.to_owned() };
    if let Some(file) = typed.last(Id::TarPath) {
        outputs.push(format!("--output=type=docker,{}", field("dest", &path(file))));
    }
    if let Some(folder) = typed.last(Id::LayoutPath) {
        outputs.push(format!("--output=type=oci,tar=false,{}", field("dest", &path(folder))));
    }
    let mut keys = String::new();
    if let Some(format) = typed.last(Id::Compression) {
        match format {
            "gzip" | "zstd" => keys.push_str(&format!(",compression={format}")),
            _ => return Err(bad("--compression", format, "it is gzip or zstd")),
        }
    }
    if let Some(level) = typed.last(Id::CompressionLevel).filter(|level| *level != "-1") {
        level.parse::<i32>().map_err(|_| bad("--compression-level", level, "it is a whole number"))?;
        keys.push_str(&format!(",compression-level={level}"));
    }
    match typed.last(Id::ImageFormat) {
        None | Some("oci") => {}
        Some("docker") => keys.push_str(",oci-mediatypes=false"),
        Some(other) => return Err(bad("--image-format", other, "it is docker or oci")),
    }
    if typed.is_on(Id::Reproducible, false) {
        keys.push_str(",rewrite-timestamp=true");
    }
    if !keys.is_empty() {
        outputs.push(format!("--output=type=image{keys}"));
    }
    Ok(outputs)
}

/// `KEY=VALUE` as one field between commas.
fn field(key: &str, value: &str) -> String {
    match value.contains([',', '"']) {
        false => format!("{key}={value}"),
        true => format!("\"{key}={}\"", value.replace('"', "\"\"")),
    }
}

/// Where layers come from and go to.
struct Caches {
    place: Cached,
    words: Vec<String>,
}

enum Cached {
    Nowhere,
    Repository(Reference),
    Folder(PathBuf),
}

fn caches(typed: &Typed, is_pushed: bool, names: &[Reference]) -> Result<Caches, Failure> {
    let is_on = typed.is_on(Id::Cache, false);
    let has_runs = typed.is_on(Id::CacheRunLayers, true);
    if !is_on || !has_runs {
        return Ok(Caches { place: Cached::Nowhere, words: vec!["--no-cache".to_owned()] });
    }
    let is_kept = !typed.is_on(Id::NoPushCache, false);
    let place = match (typed.last(Id::CacheRepo), names.first()) {
        (Some(text), _) => match text.strip_prefix("oci:") {
            Some(folder) => Cached::Folder(PathBuf::from(folder)),
            None => Cached::Repository(repository(text)?),
        },
        (None, _) if !is_pushed && is_kept => {
            let error = Diagnostic::error("`--cache` with `--no-push` leaves its layers nowhere");
            return Err(Failure::usage(
                error.help("name a repository for them: `--cache-repo=REGISTRY/REPOSITORY`"),
            ));
        }
        (None, Some(name)) => {
            Cached::Repository(repository(&format!("{}/{}/cache", name.registry(), name.repository()))?)
        }
        (None, None) => Cached::Nowhere,
    };
    let age = max_age(typed)?;
    let words = match &place {
        Cached::Nowhere => Vec::new(),
        Cached::Repository(name) => {
            let from = format!("type=registry,ref={name}");
            both(&from, &from, &age, is_kept)
        }
        Cached::Folder(folder) => {
            let folder = folder.display().to_string();
            let at = |key| format!("type=local,{}", field(key, &folder));
            both(&at("src"), &at("dest"), &age, is_kept)
        }
    };
    Ok(Caches { place, words })
}

fn both(from: &str, to: &str, age: &str, is_kept: bool) -> Vec<String> {
    let to = is_kept.then(|| format!("--cache-to={to},max-age={age}"));
    std::iter::once(format!("--cache-from={from}")).chain(to).collect()
}

/// The cache's name: kaniko has a tag for each layer, rbuild one for all.
fn repository(text: &str) -> Result<Reference, Failure> {
    let wrong = |reason: &str| bad("--cache-repo", text, reason);
    let name: Reference = text.parse().map_err(|e: crate::oci::ReferenceError| wrong(e.reason))?;
    if name.tag().is_some() || name.digest().is_some() {
        return Err(wrong("it is a repository, without a tag"));
    }
    let tagged = format!("{}/{}:{CACHE_TAG}", name.registry(), name.repository());
    tagged.parse().map_err(|e: crate::oci::ReferenceError| wrong(e.reason))
}

/// `--cache-ttl`, in seconds.
fn max_age(typed: &Typed) -> Result<String, Failure> {
    let text = typed.last(Id::CacheTtl).unwrap_or(CACHE_TTL);
    let seconds =
        parse_go(text).map(|nanoseconds| nanoseconds / 1_000_000_000).filter(|seconds| *seconds > 0);
    let reason = "write it as a duration of a second or more, such as 6h";
    seconds.map(|seconds| format!("{seconds}s")).ok_or_else(|| bad("--cache-ttl", text, reason))
}

/// Paths that kaniko finds in the container that it runs in, and that are in no image of rbuild's anyway.
const NOT_OF_IMAGES: [&str; 10] =
    ["/kaniko", "/busybox", "/workspace", "/builds", "/cache", "/proc", "/sys", "/dev", "/run", "/var/run"];

fn ignored_paths(typed: &Typed) -> Result<(), Failure> {
    let is_elsewhere = |path: &&str| NOT_OF_IMAGES.iter().any(|known| Path::new(path).starts_with(known));
    match typed.all(Id::IgnorePath).find(|path| !is_elsewhere(path)) {
        None => Ok(()),
        Some(path) => {
            let error = Diagnostic::error(format!("`--ignore-path={path}` is not possible"));
            Err(Failure::usage(
                error
                    .help("what lies in the job's container is in no image, so most of these options can go")
                    .help(format!(
                        "what a RUN writes there is in no layer with `RUN --mount=type=cache,target={path} …`"
                    )),
            ))
        }
    }
}
