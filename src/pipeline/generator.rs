//! SBOMs by an image that scans: BuildKit's generator protocol (moby/buildkit, `docs/attestations/sbom-protocol.md`).
//!
//! The scan is a build of its own: a RUN of the image's command, with what is to be scanned mounted, whose layer has the documents. So it is
//! remembered like any other step, and an image that has not changed is not scanned again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{ContextFrom, DockerfileFrom, PullPolicy, Recording, Request, Squash, diagnose_store};
use crate::attest::{Document, Generator, SPDX_PREDICATE, Sbom, Wanted};
use crate::exec::Stop;
use crate::export::{self, LocalMode, Output};
use crate::image::Image;
use crate::oci::{Descriptor, Platform};
use crate::plan::{ContextSource, Scanned};
use crate::report::{Diagnostic, Event, Events};
use crate::rootfs::{Root, Symlinks};
use crate::solve::{Services, Tripwire};
use crate::store::{ScratchDir, Store};

/// Longer documents are not taken, as in BuildKit.
const LIMIT: u64 = 40 << 20;
/// What their names end with.
const ENDING: &str = ".spdx.json";
/// The folder that gets the documents; with its last slash, as BuildKit has it.
const OUT: &str = "/run/out/";
/// The image, and everything else.
const CORE: &str = "/run/src/core/sbom";
const EXTRAS: &str = "/run/src/extras/";

/// What is scanned.
pub(super) struct Scan<'r> {
    pub(super) request: &'r Request,
    pub(super) services: &'r Services,
    pub(super) wanted: &'r Sbom,
    pub(super) generator: &'r Generator,
    /// The image, complete in the store.
    pub(super) image: &'r Descriptor,
    pub(super) platform: &'r Platform,
    pub(super) scanned: &'r Scanned,
}

impl Scan<'_> {
    /// The documents that the generator writes, that about the image first.
    pub(super) fn run(&self) -> Result<Vec<Document>, Vec<Diagnostic>> {
        let Self { services, generator, .. } = self;
        let name = &generator.image;
        services.events.send(Event::Note(format!("[{}] generating sbom using {name}", self.platform)));
        let about = |told: Vec<Diagnostic>| {
            let of = |told: Diagnostic| {
                told.note(format!("the SBOM generator `{name}` was to look into the image"))
            };
            told.into_iter().map(of).collect::<Vec<_>>()
        };
        self.documents().map_err(about)
    }

    fn documents(&self) -> Result<Vec<Document>, Vec<Diagnostic>> {
        let store = &self.services.store;
        let scratch = store.scratch_dir().map_err(|e| vec![diagnose_store(&e)])?;
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            vec![Diagnostic::error(format!("cannot {what}: {error}"))]
        };
        let folder = |name: &str| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).map(|()| path).map_err(|error| failed("make a folder", &error))
        };
        let command = self.command(&folder("empty")?)?;
        let mut mounts =
            vec![("sbom-core".to_owned(), CORE.to_owned(), layout(store, &scratch, "core", self.image)?)];
        for (number, name) in &self.scanned.stages {
            let image = self.stage(*number)?;
            let layout = layout(store, &scratch, &format!("stage-{number}"), &image)?;
            mounts.push((format!("sbom-stage-{number}"), format!("{EXTRAS}sbom-{name}"), layout));
        }
        let has_context = self.scanned.context && matches!(self.request.context, ContextFrom::Directory(_));
        if self.scanned.context && !has_context {
            let note = "the context is no folder of this machine, so the SBOM generator does not see it";
            self.services.events.send(Event::Note(note.to_owned()));
        }
        let mut options: Vec<String> = mounts
            .iter()
            .map(|(from, target, _)| format!("--mount=type=bind,from={from},target={target}"))
            .collect();
        options.extend(has_context.then(|| format!("--mount=type=bind,target={EXTRAS}sbom-context")));
        options.push("--mount=type=tmpfs,target=/tmp".to_owned());
        let has_extras = mounts.len() > 1 || has_context;
        let text = command
            .dockerfile(self.generator, &options, has_extras)
            .map_err(|why| vec![Diagnostic::error(why)])?;
        let out = folder("out")?;
        let context = match has_context {
            true => self.request.context.clone(),
            false => ContextFrom::Directory(scratch.path().join("empty")),
        };
        let mut request = Request { context, ..self.plain(&text, &scratch.path().join("empty")) };
        request.ignore_file = self.request.ignore_file.clone().filter(|_| has_context);
        let layouts = mounts.into_iter().map(|(from, _, path)| {
            let path = path.display().to_string();
            (from, ContextSource::Layout { path, selector: String::new() })
        });
        request.options.contexts.extend(layouts);
        let target = export::Target::LocalDirectory { dest: out.clone(), mode: LocalMode::Copy, split: None };
        request.outputs.push(Output::new(target));
        self.build(&request)?;
        let mut documents = self.read(&out)?;
        // The image's own is called after what was scanned.
        documents.sort_by_key(|document| document.title.is_some());
        match documents.is_empty() {
            true => Err(vec![Diagnostic::error(format!("it wrote nothing into {OUT}"))]),
            false => Ok(documents),
        }
    }

    /// A build that makes no more than a layer.
    fn plain(&self, text: &str, empty: &Path) -> Request {
        let Self { request, .. } = self;
        let mut plain = Request::new(request.store_root.clone(), empty.to_owned());
        plain.dockerfile =
            DockerfileFrom::Inline { name: "sbom generator".to_owned(), text: text.to_owned() };
        plain.other_stores.clone_from(&request.other_stores);
        plain.registries = request.registries.clone();
        plain.policies.clone_from(&request.policies);
        plain.lock.clone_from(&request.lock);
        plain.limits = request.limits.clone();
        plain.dns = request.dns.clone();
        plain.options.network = request.options.network;
        plain.options.proxy_env.clone_from(&request.options.proxy_env);
        (plain.offline, plain.jobs, plain.pull) = (request.offline, request.jobs, request.pull);
        // The document is searched for secrets, and it is what tells of keys in the image.
        plain.tripwire = Tripwire::Off;
        plain.recording = Recording::Off;
        plain.keep_failed = false;
        plain
    }

    /// What the generator's image runs.
    fn command(&self, empty: &Path) -> Result<Command, Vec<Diagnostic>> {
        let Generator { image, .. } = self.generator;
        let built = self.build(&self.plain(&format!("FROM --platform=$BUILDPLATFORM {image}\n"), empty))?;
        let image = Image::read(&self.services.store, &built).map_err(|e| vec![diagnose_store(&e)])?;
        let config = image.platforms.first().and_then(|platform| platform.config.as_deref());
        let config = config.map(|config| config.config.clone()).unwrap_or_default();
        let words: Vec<String> =
            config.entrypoint.into_iter().flatten().chain(config.cmd.into_iter().flatten()).collect();
        match words.is_empty() {
            true => Err(vec![Diagnostic::error("it has neither an entrypoint nor a command")]),
            false => Ok(Command { words, folder: config.working_dir }),
        }
    }

    /// The image of a stage, as the build made it.
    fn stage(&self, number: usize) -> Result<Descriptor, Vec<Diagnostic>> {
        let mut request = Request {
            tags: Vec::new(),
            outputs: Vec::new(),
            push: false,
            iidfile: None,
            list: None,
            notes: Vec::new(),
            attestations: Wanted::default(),
            annotations: Vec::new(),
            cache_to: Vec::new(),
            store_quota: None,
            platforms: vec![self.platform.clone()],
            // What was made just now.
            no_cache: false,
            no_cache_stages: Vec::new(),
            pull: PullPolicy::Missing,
            squash: Squash::None,
            recording: Recording::Off,
            keep_failed: false,
            on: None,
            ..self.request.clone()
        };
        request.options.target = None;
        request.options.target_number = Some(number);
        self.build(&request)
    }

    fn build(&self, request: &Request) -> Result<Descriptor, Vec<Diagnostic>> {
        let built = super::run(request, &Events::silent(), &Stop::default());
        built.map(|built| built.descriptor).map_err(|failed| failed.diagnostics)
    }

    /// The documents in the folder; whatever else is there is refused.
    fn read(&self, out: &Path) -> Result<Vec<Document>, Vec<Diagnostic>> {
        let bad = |name: &str, why: String| vec![Diagnostic::error(format!("`{OUT}{name}` {why}"))];
        let folder = Root::open(out).and_then(|root| root.folder(Path::new(""), Symlinks::Refuse));
        let folder = folder.map_err(|error| bad("", error.to_string()))?;
        let mut names = folder.names().map_err(|error| bad("", error.to_string()))?;
        names.sort();
        let mut documents = Vec::new();
        for file in names {
            let name = file.to_string_lossy().into_owned();
            if !name.ends_with(ENDING) {
                return Err(bad(&name, format!("is not called NAME{ENDING}")));
            }
            let unreadable = |error: io::Error| bad(&name, format!("cannot be read: {error}"));
            // A link would lead to files of this machine.
            let file = folder.open_file(&file).map_err(unreadable)?;
            if !file.metadata().map_err(unreadable)?.is_file() {
                return Err(bad(&name, "is no regular file".to_owned()));
            }
            let mut bytes = Vec::new();
            file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            if bytes.len() as u64 > LIMIT {
                return Err(bad(&name, format!("has more than {LIMIT} bytes")));
            }
            let statement: Statement = serde_json::from_slice(&bytes)
                .map_err(|error| bad(&name, format!("is no statement of in-toto: {error}")))?;
            if statement.predicate_type != SPDX_PREDICATE {
                return Err(bad(
                    &name,
                    format!("says `{}`, and only SPDX is taken", statement.predicate_type),
                ));
            }
            let is_of_image = name.split('.').next() == Some("sbom");
            documents.push(Document {
                predicate_type: SPDX_PREDICATE.to_owned(),
                predicate: statement.predicate.to_string().into_bytes(),
                title: (!is_of_image).then(|| name.clone()),
                filename: name,
                layout: self.wanted.layout,
                is_inline_only: false,
            });
        }
        Ok(documents)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    predicate: Value,
}

/// A layout of one image, whose blobs are the store's.
fn layout(
    store: &Store,
    scratch: &ScratchDir,
    name: &str,
    image: &Descriptor,
) -> Result<PathBuf, Vec<Diagnostic>> {
    let path = scratch.path().join(name);
    let entry = Descriptor { annotations: BTreeMap::new(), ..image.clone() };
    let index = export::index(vec![entry], BTreeMap::new());
    let made = fs::create_dir(&path)
        .and_then(|()| fs::write(path.join("oci-layout"), export::LAYOUT))
        .and_then(|()| fs::write(path.join("index.json"), index))
        .and_then(|()| std::os::unix::fs::symlink(store.root().join("blobs"), path.join("blobs")));
    made.map_err(|error| vec![Diagnostic::error(format!("cannot write `{}`: {error}", path.display()))])?;
    Ok(path)
}

/// What is run, and where.
struct Command {
    words: Vec<String>,
    folder: String,
}

impl Command {
    /// As a Dockerfile. The image's own user and variables are as in BuildKit: root, and those of the image.
    ///
    /// # Errors
    /// What cannot be said in one, in words.
    fn dockerfile(
        &self,
        generator: &Generator,
        options: &[String],
        has_extras: bool,
    ) -> Result<String, String> {
        let mut variables = vec![
            ("BUILDKIT_SCAN_DESTINATION".to_owned(), OUT.to_owned()),
            ("BUILDKIT_SCAN_SOURCE".to_owned(), CORE.to_owned()),
        ];
        variables.extend(has_extras.then(|| ("BUILDKIT_SCAN_SOURCE_EXTRAS".to_owned(), EXTRAS.to_owned())));
        let given = generator.parameters.iter();
        variables.extend(given.map(|(name, value)| (format!("BUILDKIT_SCAN_{name}"), value.clone())));
        let variable = |(name, value): &(String, String)| {
            let what = format!("its parameter {name:?}");
            match name.contains(|c: char| c.is_control() || c.is_whitespace()) {
                true => Err(format!("{what} is no name of a variable")),
                false => Ok(format!("ENV {name}={}\n", quoted(&what, value)?)),
            }
        };
        let variables: Vec<String> = variables.iter().map(variable).collect::<Result<_, _>>()?;
        let folder = if self.folder.is_empty() { "/" } else { &self.folder };
        Ok(format!(
            "FROM --platform=$BUILDPLATFORM {} AS scanner\nUSER 0\nWORKDIR {OUT}\nWORKDIR {}\n{}RUN {} {}\nFROM scratch\nCOPY --from=scanner {OUT} /\n",
            generator.image,
            quoted("its working directory", folder)?,
            variables.concat(),
            options.join(" "),
            serde_json::json!(self.words),
        ))
    }
}

/// One word of a Dockerfile that means itself. A line break would end the instruction, and begin another one that nobody here wrote.
fn quoted(what: &str, text: &str) -> Result<String, String> {
    if text.contains(char::is_control) {
        return Err(format!("{what} has control characters: {text:?}"));
    }
    let mut word = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$') {
            word.push('\\');
        }
        word.push(c);
    }
    Ok(word + "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_is_a_dockerfile() {
        let command =
            Command { words: vec!["/bin/scan".to_owned(), "a \"b\" $c".to_owned()], folder: String::new() };
        let parameters = BTreeMap::from([("FORMAT".to_owned(), "x$y\\".to_owned())]);
        let generator = Generator { image: "syft:1".to_owned(), parameters };
        let text =
            command.dockerfile(&generator, &["--mount=type=tmpfs,target=/tmp".to_owned()], true).unwrap();
        assert_eq!(
            text,
            "FROM --platform=$BUILDPLATFORM syft:1 AS scanner\nUSER 0\nWORKDIR /run/out/\nWORKDIR \"/\"\n\
             ENV BUILDKIT_SCAN_DESTINATION=\"/run/out/\"\nENV BUILDKIT_SCAN_SOURCE=\"/run/src/core/sbom\"\n\
             ENV BUILDKIT_SCAN_SOURCE_EXTRAS=\"/run/src/extras/\"\nENV BUILDKIT_SCAN_FORMAT=\"x\\$y\\\\\"\n\
             RUN --mount=type=tmpfs,target=/tmp [\"/bin/scan\",\"a \\\"b\\\" $c\"]\nFROM scratch\n\
             COPY --from=scanner /run/out/ /\n"
        );
    }

    #[test]
    fn an_image_of_a_stranger_adds_no_instructions() {
        let command = |folder: &str| Command { words: vec!["/scan".to_owned()], folder: folder.to_owned() };
        let generator = |name: &str, value: &str| Generator {
            image: "syft:1".to_owned(),
            parameters: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        };
        for (folder, name, value, expected) in [
            ("/\nRUN x", "A", "b", "its working directory has control characters: \"/\\nRUN x\""),
            ("/\rRUN x", "A", "b", "its working directory has control characters"),
            ("/", "A", "b\nRUN x", "its parameter \"BUILDKIT_SCAN_A\" has control characters"),
            ("/", "A=1\nRUN x", "b", "is no name of a variable"),
        ] {
            let told = command(folder).dockerfile(&generator(name, value), &[], false).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }
}
