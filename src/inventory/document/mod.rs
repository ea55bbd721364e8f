//! An image's packages as documents: SPDX, CycloneDX, and rbuild's own JSON.
//!
//! The same image gives the same bytes: times are the image's, identifiers follow from its digest and from what they name.

mod cyclonedx;
mod licence;
mod own;
mod spdx;

use std::collections::HashMap;

use serde::Serialize;

use super::merge::Component;
use super::origin::{Origins, Source, Stage};
use super::steps::{Change, Event, History};
use super::unowned::Unowned;
use crate::oci::{Digest, Layer};
use crate::text::url::without_passwords;

/// Which document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// SPDX 2.3.
    Spdx,
    /// CycloneDX 1.6.
    CycloneDx,
    /// rbuild's own: what the others have no place for, too.
    Own,
}

/// What a document is about.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The image's name, or its digest.
    pub name: String,
    /// Its manifest.
    pub digest: Digest,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// When it was made, in RFC 3339 with seconds and `Z`.
    pub created: String,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// What made each layer.
    pub steps: Vec<Step>,
    /// What it stands on, as far as that is known.
    pub base: Option<Base>,
    /// Its packages.
    pub history: &'a History<'a>,
    /// Files of no package.
    pub unowned: &'a [Unowned],
    /// Files that could not be read, and why.
    pub unread: Vec<(String, String)>,
    /// Whether the document says which step brought what.
    pub by_step: bool,
    /// What the image is made of.
    pub origins: &'a Origins,
    /// What stages have that were copied from, if that was looked into.
    pub stages: &'a [StagePackages<'a>],
    /// Whether packages of stages that are not in the image are told, too.
    pub with_stages: bool,
}

/// What a stage has.
#[derive(Debug)]
pub struct StagePackages<'a> {
    /// Its place in [`Origins::sources`].
    pub source: usize,
    /// What made its layers.
    pub steps: &'a [Step],
    /// Its packages.
    pub history: History<'a>,
    /// Why some are not known.
    pub absent: Option<&'a str>,
}

/// Where a copied package was before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied<'a> {
    /// The stage.
    pub(super) stage: &'a Stage,
    /// Its place in [`Subject::stages`].
    pub(super) number: usize,
    /// The package there.
    pub(super) component: &'a Component<'a>,
    /// What brought it there.
    pub(super) step: Option<&'a Step>,
}

impl Copied<'_> {
    /// In a clause.
    fn words(&self) -> String {
        let brought = self.step.map(|step| format!(", where {} brought it", step.words()));
        format!("copied from stage `{}`{}", self.stage.name, brought.unwrap_or_default())
    }
}

/// What made a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its number in the image's history, from 1.
    pub number: usize,
    /// The instruction, on one line.
    pub instruction: String,
    /// Where it stands in the Dockerfile, if rbuild built the image here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Whether the base brought it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<bool>,
}

impl Step {
    /// In a sentence.
    pub fn words(&self) -> String {
        let Step { number, instruction, line, base } = self;
        let place = line.map_or_else(String::new, |line| format!(" (line {line})"));
        let of_base = if *base == Some(true) { " of the base" } else { "" };
        format!("step {number}{of_base}{place}: {instruction}")
    }
}

/// The image that another stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// Its manifest or index.
    pub digest: Option<String>,
}

impl Base {
    /// Its name, and the beginning of its digest.
    pub fn words(&self) -> String {
        let digest = self.digest.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
        let is_named_by_it = self.name.contains('@');
        let digest = digest.filter(|_| !is_named_by_it).map(|digest| format!(" ({})", digest.short()));
        format!("{}{}", self.name, digest.unwrap_or_default())
    }
}

impl<'a> Subject<'a> {
    /// The document; it ends with a line break. Whatever a package's own files say, no URL in it has a password.
    pub fn document(&self, format: Format) -> String {
        let text = match format {
            Format::Spdx => serde_json::to_string_pretty(&spdx::document(self)),
            Format::CycloneDx => serde_json::to_string_pretty(&cyclonedx::document(self)),
            Format::Own => serde_json::to_string_pretty(&own::document(self)),
        };
        // A URL ends with the quotation mark of its text, and what comes in its place needs none of JSON's escapes.
        without_passwords(&text.unwrap_or_default()).into_owned() + "\n"
    }

    fn step(&self, layer: usize) -> Option<&Step> {
        self.steps.get(layer)
    }

    /// What is said of a package, by what no two share.
    fn brought(&self) -> HashMap<(&'a str, &'a str), &'a Event<'a>> {
        let mut found = HashMap::new();
        for event in self.history.events.iter().filter(|event| event.change != Change::Removed) {
            let component = &event.component;
            found.insert((component.purl.as_str(), component.path), event);
        }
        found
    }

    /// In a sentence, which step made a package what it is.
    fn told(&self, event: &Event<'_>) -> Option<String> {
        let step = self.step(event.layer)?.words();
        let told = match &event.change {
            Change::Added => format!("added by {step}"),
            Change::Changed { from } => format!("changed from {from} by {step}"),
            Change::Removed => format!("removed by {step}"),
        };
        let copied = self.copied(event).map(|copied| format!("; {}", copied.words()));
        Some(told + &copied.unwrap_or_default())
    }

    /// Where a package was that an instruction copied from a stage: of the same name, version and kind. Nothing of what was removed.
    pub(super) fn copied(&self, event: &Event<'_>) -> Option<Copied<'_>> {
        if event.change == Change::Removed {
            return None;
        }
        let taken = self.origins.of_layer.get(event.layer)?;
        let mut of_stage = self.stages.iter().enumerate().filter(|(_, stage)| taken.contains(&stage.source));
        of_stage.find_map(|(number, packages)| {
            let Source::Stage(stage) = self.origins.sources.get(packages.source)? else { return None };
            let mut components = packages.history.state.components.iter();
            let component = components.find(|there| there.purl == event.component.purl)?;
            let brought = packages.history.brought(component);
            let step = brought.and_then(|event| packages.steps.get(event.layer));
            Some(Copied { stage, number, component, step })
        })
    }

    /// A line for people: where it was before.
    pub fn copied_from(&self, event: &Event<'_>) -> Option<String> {
        let Copied { stage, step, .. } = self.copied(event)?;
        let place = match step {
            Some(Step { base: Some(true), .. }) => ", of its base".to_owned(),
            Some(Step { line: Some(line), .. }) => format!(", line {line}"),
            Some(_) | None => String::new(),
        };
        Some(format!("from stage `{}`{place}", stage.name))
    }
}

/// A short name that follows from what it is of.
fn short_hash(component: &Component<'_>) -> String {
    let all = [component.purl.as_bytes(), b"\0", component.path.as_bytes()].concat();
    Digest::of(&all).hex()[..12].to_owned()
}

/// The hash of what a document says, whose own name is empty yet.
fn content_hash(document: &impl Serialize) -> String {
    Digest::of(&serde_json::to_vec(document).unwrap_or_default()).hex()
}

/// The program that writes documents.
const TOOL: &str = concat!("rbuild-", env!("CARGO_PKG_VERSION"));
