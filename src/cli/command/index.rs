//! `rbuild index`: images of several platforms that are made, or looked at, where they are: in a registry.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::options::docker::switch;
use crate::cli::options::request::{all, bad, tag};
use crate::cli::show::listing::bad as bad_template;
use crate::cli::show::metadata;
use crate::cli::show::template::Template;
use crate::image::{Content, document};
use crate::oci::{Annotation, Descriptor, Digest, Platform, Reference};
use crate::registry::Client;
use crate::report::Diagnostic;
use crate::text::terminal::harmless_json;
use crate::transport::index::{self, Combined, IndexError, IndexRequest, Source};

/// Make an image of several platforms of those that a registry has, and look at what it has
#[derive(Debug, Args)]
pub(crate) struct IndexArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an index in a registry of images that are there; no layer moves
    Create(Box<CreateArgs>),
    /// Show what a registry has under a name; nothing is fetched into the store
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild index create [OPTIONS] NAME SOURCE…\n       rbuild index create [OPTIONS] -t NAME… SOURCE…",
    after_help = "\
Examples:
  rbuild index create h.example.org/app:1 h.example.org/app@sha256:… h.example.org/app@sha256:…
                                  of two that were pushed with push-by-digest=true
  rbuild index create --append h.example.org/app:1 h.example.org/app:1-riscv64
  rbuild index create -t h.example.org/app:latest h.example.org/app:1"
)]
struct CreateArgs {
    /// The images: names, digests of the same repository, or descriptors as JSON. Without -t the first is the name of the index
    #[arg(value_name = "NAME|SOURCE")]
    words: Vec<String>,

    /// The name of the index; may be repeated
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<String>,

    /// A file with the descriptor of a source, as JSON; may be repeated
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,

    /// Keep what the (first) name has already
    #[arg(long)]
    append: bool,

    /// Add an annotation to the index, or with `manifest-descriptor[OS/ARCH]:` to its entries; may be repeated
    #[arg(long, value_name = "[LEVEL:]KEY=VALUE")]
    annotation: Vec<String>,

    /// Only these platforms
    #[arg(short, long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<Platform>,

    /// Whether a single image becomes an index of one
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = switch)]
    prefer_index: bool,

    /// Print the index, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Write descriptor and names to a file, as JSON with buildx's keys
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,

    /// There is one builder, and little to show
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,
    #[arg(long, value_name = "MODE", hide = true)]
    progress: Option<String>,

    #[command(flatten)]
    registries: RegistryArgs,
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// What to look at
    #[arg(value_name = "NAME")]
    name: String,

    /// Print the document as it is
    #[arg(long, conflicts_with = "format")]
    raw: bool,

    /// A template, such as '{{json .Manifest}}'; fields are Name, Manifest and Image
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,

    #[command(flatten)]
    registries: RegistryArgs,
}

/// Does it.
pub(crate) fn run(args: &IndexArgs) -> Result<(), Failure> {
    match &args.action {
        Action::Create(create) => self::create(create),
        Action::Inspect(inspect) => {
            let client = client(&inspect.registries)?;
            show(&client, &inspect.name, inspect.raw, inspect.format.as_deref())
        }
    }
}

fn client(args: &RegistryArgs) -> Result<Client, Failure> {
    Ok(Client::new(Configuration::load()?.registries(args)?))
}

fn create(args: &CreateArgs) -> Result<(), Failure> {
    let (names, words) = match args.words.split_first() {
        Some((first, rest)) if args.tag.is_empty() => (all(std::slice::from_ref(first), "NAME", tag)?, rest),
        _ => (all(&args.tag, "--tag", tag)?, args.words.as_slice()),
    };
    let sources = sources(args, &names, words)?;
    if sources.is_empty() {
        let error = Diagnostic::error("the index has no sources");
        return Err(Failure::usage(
            error.help("`rbuild index create NAME SOURCE…`: the images that it is made of"),
        ));
    }
    let annotations = all(&args.annotation, "--annotation", for_index)?.into_iter().flatten().collect();
    let platforms = args.platform.iter().cloned().map(Platform::normalised).collect();
    let request = IndexRequest { sources, annotations, platforms, prefer_index: args.prefer_index };
    let client = client(&args.registries)?;
    let combined = index::combine(&client, &request).map_err(|error| explain(&error))?;
    if args.dry_run {
        return print(&(String::from_utf8_lossy(&combined.bytes).into_owned() + "\n"));
    }
    index::publish(&client, &combined, &names).map_err(|error| explain(&error))?;
    if let Some(path) = &args.metadata_file {
        metadata::write(path, &metadata_of(&combined, &names))?;
    }
    let digest = combined.descriptor.digest;
    print(&names.iter().map(|name| format!("{name}\n  {digest}\n")).collect::<String>())
}

fn metadata_of(combined: &Combined, names: &[Reference]) -> Map<String, Value> {
    let names: Vec<String> = names.iter().map(Reference::full).collect();
    let mut object = Map::new();
    object.insert("containerimage.descriptor".to_owned(), json!(combined.descriptor));
    object.insert("containerimage.digest".to_owned(), json!(combined.descriptor.digest));
    object.insert("image.name".to_owned(), json!(names.join(",")));
    object
}

/// Without a level it is for the index, which is the only document that is made.
fn for_index(text: &str) -> Result<Vec<Annotation>, String> {
    let has_level = text.split('=').next().is_some_and(|key| key.contains(':'));
    if has_level { Annotation::parse(text) } else { Annotation::parse(&format!("index:{text}")) }
}

/// What the words and files name; what is only a digest is of the repository of what has a name.
fn sources(args: &CreateArgs, names: &[Reference], words: &[String]) -> Result<Vec<Source>, Failure> {
    let mut texts: Vec<String> = Vec::new();
    for file in &args.file {
        let read = std::fs::read_to_string(file);
        texts.push(read.map_err(|e| Failure::message(format!("cannot read `{}`: {e}", file.display())))?);
    }
    texts.extend(words.iter().cloned());
    let is_name = |text: &&String| !text.trim_start().starts_with('{') && text.parse::<Digest>().is_err();
    let named = texts.iter().find(is_name).and_then(|text| text.parse::<Reference>().ok());
    let home = named.as_ref().or(names.first());
    let kept = names.first().filter(|_| args.append).cloned();
    let kept = kept.map(|reference| Source { reference, platform: None, annotations: Default::default() });
    let parsed =
        texts.iter().map(|text| source(text, home).map_err(|reason| bad("SOURCE", text.trim(), &reason)));
    kept.into_iter().map(Ok).chain(parsed).collect()
}

fn source(text: &str, home: Option<&Reference>) -> Result<Source, String> {
    let at = |digest: Digest| {
        let home = home.ok_or("it names no repository, and neither does anything else")?;
        Ok::<_, String>(home.pinned(digest))
    };
    let text = text.trim();
    if text.starts_with('{') {
        let described: Descriptor =
            serde_json::from_str(text).map_err(|e| format!("it is no descriptor: {e}"))?;
        let Descriptor { digest, platform, annotations, .. } = described;
        return Ok(Source { reference: at(digest)?, platform, annotations });
    }
    let reference = match text.parse::<Digest>() {
        Ok(digest) => at(digest)?,
        Err(_) => text.parse::<Reference>().map_err(|e| e.reason.to_owned())?.with_default_tag(),
    };
    Ok(Source { reference, platform: None, annotations: Default::default() })
}

fn explain(error: &IndexError) -> Failure {
    let diagnostic = Diagnostic::error(error.to_string());
    Failure::build(vec![match error {
        IndexError::Registry(error) => error.diagnose(),
        IndexError::Missing(_) => diagnostic.help("push it first; the index is made of what registries have"),
        IndexError::Elsewhere { from, to } => diagnostic.help(format!(
            "`rbuild copy --all docker://{from} docker://{to}` moves images between registries"
        )),
        IndexError::NoPlatform(_) => diagnostic.help("`rbuild index inspect NAME` shows what one is for"),
        _ => diagnostic,
    }])
}

/// Shows what a registry has under a name.
pub(crate) fn show(client: &Client, name: &str, raw: bool, format: Option<&str>) -> Result<(), Failure> {
    let template = format.map(Template::parse).transpose().map_err(bad_template)?;
    let reference = name.parse::<Reference>().map_err(|e| bad("NAME", name, e.reason))?.with_default_tag();
    let missing = || explain(&IndexError::Missing(reference.clone()));
    let bytes = client.manifest(&reference).map_err(|e| explain(&e.into()))?.ok_or_else(missing)?;
    if raw {
        return print(&String::from_utf8_lossy(&bytes));
    }
    let wrong = |fault| explain(&IndexError::Wrong { reference: reference.clone(), fault });
    let found = document::parse(&bytes, None).map_err(wrong)?;
    match template {
        Some(template) => {
            let value = value(client, &reference, &found)?;
            print(&(template.render(&value).map_err(bad_template)? + "\n"))
        }
        None => print(&text(&reference, &found)),
    }
}

/// As `docker buildx imagetools inspect` shows it.
fn text(reference: &Reference, found: &document::Document) -> String {
    let Descriptor { media_type, digest, .. } = &found.descriptor;
    let mut text = format!("Name:      {}\nMediaType: {media_type}\nDigest:    {digest}\n", reference.full());
    let Content::Index(index) = &found.content else { return text };
    text.push_str("\nManifests:\n");
    for entry in &index.manifests {
        text.push_str(&format!("  Name:        {}\n", reference.pinned(entry.digest).full()));
        text.push_str(&format!("  MediaType:   {}\n", entry.media_type));
        if let Some(platform) = &entry.platform {
            text.push_str(&format!("  Platform:    {platform}\n"));
        }
        let mut title = "Annotations:";
        for (key, value) in &entry.annotations {
            text.push_str(&format!("  {title:12} {key}: {value}\n"));
            title = "";
        }
        text.push('\n');
    }
    text
}

fn value(client: &Client, reference: &Reference, found: &document::Document) -> Result<Value, Failure> {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": found.descriptor.media_type, "digest": found.descriptor.digest,
        "size": found.descriptor.size,
    });
    let configuration = |reference: &Reference, config: &Descriptor| -> Result<Value, Failure> {
        let bytes = client.read_blob(reference, config).map_err(|e| explain(&e.into()))?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    };
    let image = match &found.content {
        Content::Manifest(image) => {
            manifest["config"] = json!(image.config);
            manifest["layers"] = json!(image.layers);
            configuration(reference, &image.config)?
        }
        Content::Index(index) => {
            manifest["manifests"] = json!(index.manifests);
            let mut images = Map::new();
            for entry in &index.manifests {
                let platform = entry.platform.as_ref().filter(|platform| platform.os != "unknown");
                let Some(platform) = platform else { continue };
                let pinned = reference.pinned(entry.digest);
                let bytes = client.manifest(&pinned).map_err(|e| explain(&e.into()))?;
                let inner = bytes.and_then(|bytes| document::parse(&bytes, None).ok());
                if let Some(document::Document { content: Content::Manifest(image), .. }) = inner {
                    images.insert(platform.to_string(), configuration(&pinned, &image.config)?);
                }
            }
            Value::Object(images)
        }
    };
    let value = json!({"Name": reference.full(), "Manifest": manifest, "Image": image});
    serde_json::from_str(&harmless_json(value.to_string()))
        .map_err(|error| Failure::message(format!("what the registry has cannot be shown: {error}")))
}
