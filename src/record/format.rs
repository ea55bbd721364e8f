//! A record as it is written: JSON. Members that a reader does not know are passed over, so that new ones can come; what changes its
//! meaning gets another [`VERSION`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::layer::Compression;
use crate::report::{FileCounts, Traffic};

/// What the member `format` says.
pub const FORMAT: &str = "rbuild.build-record";
/// What the member `version` says.
pub const VERSION: u32 = 1;

/// One run of a build, or of several targets as one graph.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`]
    pub format: String,
    /// [`VERSION`]
    pub version: u32,
    /// What it is called; the logs have the same.
    pub id: String,
    /// The version of rbuild.
    pub rbuild: String,
    /// What it ran on.
    pub machine: Machine,
    /// Milliseconds since 1970. Other times are milliseconds since then, by a clock that does not jump.
    pub started_ms: u64,
    /// How long it took; none of one that has not ended, or was killed.
    pub took_ms: Option<u64>,
    /// How it ended.
    pub status: Status,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Message>,
    /// As whom commands ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_as: Option<String>,
    /// So many steps could be under way at once.
    pub jobs: usize,
    /// What was asked for.
    pub targets: Vec<Target>,
    /// What was taken from elsewhere.
    #[serde(default)]
    pub materials: Vec<Material>,
    /// Every line of the display.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What was found about the Dockerfiles and the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Message>,
    /// What was neither a warning nor an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It has not, as far as is known.
    #[default]
    Running,
    /// All is there.
    Completed,
    /// It failed.
    Failed,
    /// Somebody stopped it.
    Canceled,
    /// Its process ended without a word.
    Killed,
}

/// The machine, without its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Such as `linux/amd64`.
    pub platform: String,
    /// The kernel's release.
    pub kernel: String,
    /// Processors that the build could use.
    pub processors: usize,
    /// All memory.
    pub memory_bytes: u64,
}

/// One of the builds that were run together; mostly the only one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// What the bake file calls it; empty of a build alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What COPY and ADD read.
    pub context: Context,
    /// What was built by.
    pub dockerfile: Dockerfile,
    /// The stage; the last one if nothing was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// What for.
    pub platforms: Vec<String>,
    /// Build arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Argument>,
    /// Labels that were asked for beside the Dockerfile's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Pair>,
    /// Named contexts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<Pair>,
    /// The ids of the secrets that were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The ids of the ssh agents that were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<String>,
    /// What else was asked for, by the names that BuildKit has for it (`force-network-mode`, `no-cache`, `memory`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// How the image was to be written.
    #[serde(default, skip_serializing_if = "Form::is_usual")]
    pub form: Form,
    /// Names that the image was to get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Where it went beside the store: `push`, `docker`, `oci` and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
}

/// What was said of an image's times, layers and documents: with the rest of a target it is all that its bytes depend on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// SOURCE_DATE_EPOCH that was no build argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// What an output said as its `source-date-epoch=`: seconds, or nothing for an image without an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_epoch: Option<String>,
    /// `--reproducible`
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_reproducible: bool,
    /// Times that are newer than the epoch became it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rewrites_times: bool,
    /// Which layers became one: `new` or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub squash: Option<String>,
    /// How layers were to be compressed, if anything was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Those of the base, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forces_compression: bool,
    /// Manifests say Docker's media types.
    #[serde(default, skip_serializing_if = "is_false")]
    pub has_dockers_types: bool,
    /// Each as `--annotation` takes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
}

impl Form {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

fn is_false(is: &bool) -> bool {
    !is
}

/// Where the files of a build came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// What it is.
    pub kind: ContextKind,
    /// An absolute path, or a URL without its password.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// The commit, of a repository that was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The repository that a folder lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
}

/// What a context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContextKind {
    /// A folder of the machine.
    #[default]
    Folder,
    /// Standard input.
    Stdin,
    /// A tar of the machine.
    Archive,
    /// A git repository.
    Git,
    /// Something behind a URL.
    Url,
}

/// A checkout of git.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Where it was cloned from, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// What is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The path of the context in it; empty for all of it.
    pub path: String,
}

/// A Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dockerfile {
    /// What messages call it.
    pub name: String,
    /// Its absolute path, if it is a file of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of its text: `sha256:…`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Its text, unless it is very long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value, if values were to be recorded, and it is no proxy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A name with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Something from elsewhere that the build stood on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Material {
    /// What it is.
    pub kind: MaterialKind,
    /// The full name of an image, a URL without its password; of a repository with `#REF`.
    pub name: String,
    /// `sha256:…` of an image's manifest or index, and of a file; `sha1:…` of a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What an image was taken for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// What a material is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaterialKind {
    /// An image of a registry.
    Image,
    /// An image of a layout or an engine of the machine.
    LocalImage,
    /// A git repository.
    Git,
    /// A file of a web server.
    Http,
}

/// One line of the display: an instruction, something that is fetched, a push.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// From 1.
    pub number: usize,
    /// Which of the targets, from 1; the first that has it.
    pub target: usize,
    /// Such as `[build 2/5]`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// The instruction on one line.
    pub title: String,
    /// The name, as among the materials, of the image that it takes, where the title has a build argument in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its first and last line in the Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<(usize, usize)>,
    /// What its commands ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The numbers of the steps whose results it needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<usize>,
    /// How it ended; none of one that did not, or was never begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it was not in the cache; in a first build nothing can be, and nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
    /// When it began, in milliseconds since the build did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// How long its own work took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// How long it took when it ran, if the cache had it and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_then_ms: Option<u64>,
    /// What it waited for although all that it needed was done.
    #[serde(default, skip_serializing_if = "Waits::is_none")]
    pub waited: Waits,
    /// What it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// What the cache knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The chain ids of the roots that it read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// What its command used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How many files its layer changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileCounts>,
    /// What was moved for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<Transfer>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran.
    Ran,
    /// The cache had its layer.
    Cached,
    /// It changes the configuration only.
    ConfigOnly,
    /// It failed.
    Failed,
    /// It ended with the build.
    Cancelled,
}

/// What a step waited for, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Until fewer others were under way.
    pub slot_ms: u64,
    /// Until others had let go of its cache mounts.
    pub lock_ms: u64,
    /// Until what it stands on was fetched and unpacked.
    pub transfer_ms: u64,
}

impl Waits {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Of its blob.
    pub digest: String,
    /// Of its tar.
    pub diff_id: String,
    /// Bytes of its blob.
    pub size: u64,
}

/// What a command used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in its own code.
    pub user_ms: u64,
    /// Processor time in the kernel.
    pub system_ms: u64,
    /// Bytes of memory that it had at once.
    pub peak_memory: u64,
    /// Bytes that had to be read from disks.
    pub read: u64,
    /// Bytes that were written for disks.
    pub written: u64,
    /// Bytes that went over its network, if it had one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Traffic>,
}

/// Something that was moved: a layer that was fetched, unpacked, pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Such as a short digest.
    pub what: String,
    /// Bytes that came.
    pub bytes: u64,
    /// When the first was told of, in milliseconds since the build began.
    pub started_ms: u64,
    /// When the last was.
    pub ended_ms: u64,
}

/// What a target came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Of the manifest, or of the index over several platforms.
    pub digest: String,
    /// What that is.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
    /// What `-q` prints.
    pub id: String,
    /// Names that it got.
    #[serde(default)]
    pub names: Vec<String>,
    /// Bytes of all layers, each counted once.
    pub layers_size: u64,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that the cache had.
    pub cached: usize,
    /// The image of each platform.
    #[serde(default)]
    pub images: Vec<Image>,
}

/// The image of a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it runs on.
    pub platform: String,
    /// Of its manifest.
    pub manifest: String,
    /// What that is.
    pub media_type: String,
    /// Bytes of the manifest.
    pub size: u64,
    /// Of its configuration.
    pub config: String,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A warning or an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The build check that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is wrong.
    pub text: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What explains it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How to go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
}

/// A place in a file, lines and columns from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What messages call the file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// The last line.
    pub end_line: usize,
    /// One past the last column.
    pub end_column: usize,
}

impl Step {
    /// Place and title: `[build 2/5] RUN make`.
    pub fn name(&self) -> String {
        format!("{} {}", self.place, self.title).trim().to_owned()
    }

    /// The image that it takes, as it is named there; none where nobody knows which.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref().or_else(|| image(&self.title).filter(|name| !is_open(name)))
    }

    /// Whether it was done, or there was nothing to do.
    pub fn is_done(&self) -> bool {
        match self.outcome {
            Some(Outcome::Ran | Outcome::Cached | Outcome::ConfigOnly) => true,
            Some(Outcome::Failed | Outcome::Cancelled) | None => false,
        }
    }
}

impl Record {
    /// What an image was made of that target `at` is: all steps that its last step stands on, and itself. Numbers are indexes.
    pub fn steps_of(&self, target: usize) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.target == target + 1)
    }

    /// Where a target is among those of the record, by its address.
    pub(super) fn target_number(&self, target: &Target) -> usize {
        self.targets.iter().position(|known| std::ptr::eq(known, target)).unwrap_or_default()
    }

    /// The first error in one line; of one that failed.
    pub fn error(&self) -> Option<&str> {
        self.errors.first().map(|error| error.text.as_str())
    }
}

/// What follows the name of an instruction in the title of a step, which may be written in small letters.
pub fn instruction<'t>(title: &'t str, name: &str) -> Option<&'t str> {
    let (word, rest) = title.split_once(char::is_whitespace)?;
    word.eq_ignore_ascii_case(name).then_some(rest)
}

/// The image in a title: `FROM --platform=P NAME AS STAGE`, `image NAME`.
pub fn image(title: &str) -> Option<&str> {
    let named = instruction(title, "FROM").or_else(|| title.strip_prefix("image "))?;
    named.split_whitespace().find(|word| !word.starts_with("--"))
}

/// Whether a word of a title has an argument in it whose value is not told.
pub(super) fn is_open(word: &str) -> bool {
    word.contains(['$', '…'])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A step `RUN NUMBER` that ran, from when to when, and how long its own work took.
    pub(crate) fn step(number: usize, needs: &[usize], (from, to, took): (u64, u64, u64)) -> Step {
        Step {
            number,
            target: 1,
            title: format!("RUN {number}"),
            needs: needs.to_vec(),
            outcome: Some(Outcome::Ran),
            started_ms: Some(from),
            ended_ms: Some(to),
            took_ms: Some(took),
            ..Step::default()
        }
    }
}
