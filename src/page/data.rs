//! What is to be seen, as values: the page has them as JSON. Steps and layers are called by their numbers, from 0.

use serde::Serialize;

use crate::insight::waste::{Hidden, Wasted};
use crate::record::{Message, Record};

/// Everything that is told of a build or an image.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// What it is about: the folder and stage of a build, the name of an image.
    pub title: String,
    /// The version of rbuild that wrote it.
    pub rbuild: String,
    /// The record of the build, as it is kept; none of an image that was built elsewhere.
    pub record: Option<Record>,
    /// When steps ran.
    pub timeline: Timeline,
    /// Why steps ran again.
    pub misses: Vec<Miss>,
    /// What is told of each target; of an image that was built elsewhere, of that alone. There is one at least.
    pub views: Vec<View>,
    /// Which of these is shown first.
    pub shown: usize,
}

/// What is told of one target of a build.
#[derive(Debug, Clone, Default, Serialize)]
pub struct View {
    /// Which of the record's targets it is.
    pub target: usize,
    /// Its image.
    pub image: Option<Image>,
    /// Why nothing is told of an image.
    pub no_image: Option<String>,
    /// What stands out.
    pub findings: Vec<Finding>,
    /// The build that this one is compared with.
    pub last: Option<Last>,
    /// Builds of the same place before this one, the oldest first.
    pub earlier: Vec<Earlier>,
}

/// An image of one platform.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Image {
    /// Of its manifest.
    pub digest: String,
    /// What it runs on.
    pub platform: String,
    /// Platforms that the page does not tell of.
    pub other_platforms: Vec<String>,
    /// What it is called.
    pub names: Vec<String>,
    /// When it was made.
    pub created: Option<String>,
    /// Bytes of the blobs of its layers.
    pub blob_bytes: u64,
    /// Bytes of all files in its layers.
    pub bytes: u64,
    /// Of these, those that nothing hides.
    pub visible_bytes: u64,
    /// How many files are left in the end.
    pub visible_files: u64,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// What it ships twice, as dive counts.
    pub efficiency: Efficiency,
    /// Which layer hides what of which.
    pub hidden: Vec<Hidden>,
    /// What each layer did to packages.
    pub packages: Vec<Packages>,
    /// Why nothing is told of packages.
    pub no_packages: Option<String>,
    /// Entries of its history that made no layer: number of layers below, and text.
    pub empty_steps: Vec<(usize, String)>,
}

/// A layer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Layer {
    pub digest: String,
    pub diff_id: String,
    /// Bytes of its blob.
    pub blob_bytes: u64,
    /// Bytes of its files.
    pub bytes: u64,
    pub files: u64,
    pub step: Option<usize>,
    pub lines: Option<(usize, usize)>,
    pub instruction: String,
    pub is_base: Option<bool>,
    pub took_ms: Option<u64>,
    /// Why its files are not known.
    pub absent: Option<String>,
    /// Names of other images that have it; none where it is the base's or only here.
    pub shared_with: Vec<String>,
    /// Whether no other image with a name has it, nor the base.
    pub is_unique: bool,
    /// Of its bytes, those that later layers hide.
    pub hidden: u64,
    /// Its share of what dive calls wasted.
    pub wasted: u64,
    /// Its files by folder.
    pub tree: Option<Node>,
}

/// A folder, a file, or several small ones: name, bytes, files, hidden bytes, what it is, what is in it.
#[derive(Debug, Clone, Serialize)]
pub struct Node(pub String, pub u64, pub u64, pub u64, pub Kind, pub Vec<Node>);

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    #[serde(rename = "d")]
    Folder,
    #[serde(rename = "f")]
    File,
    /// All that is smaller.
    #[serde(rename = "r")]
    Rest,
}

/// As dive has it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Efficiency {
    pub score: f64,
    pub wasted_bytes: u64,
    /// The paths that cost most.
    pub paths: Vec<Wasted>,
}

/// What a layer did to packages.
#[derive(Debug, Clone, Serialize)]
pub struct Packages {
    pub layer: usize,
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
    /// A sign, a name, a version, what it was, a type.
    pub events: Vec<(char, String, String, Option<String>, String)>,
}

/// What stands out.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub kind: &'static str,
    pub what: String,
    pub advice: Option<String>,
    pub step: Option<usize>,
    pub layer: Option<usize>,
}

/// When steps ran.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Timeline {
    pub total_ms: u64,
    /// Step, ready, start, work, end.
    pub bars: Vec<(usize, u64, u64, u64, u64)>,
    pub critical: Vec<Link>,
    pub critical_ms: u64,
    /// Moment, and how many steps were under way from then on.
    pub under_way: Vec<(u64, usize)>,
}

/// A step of the critical path.
#[derive(Debug, Clone, Serialize)]
pub struct Link {
    pub step: usize,
    pub waited_ms: u64,
    pub took_ms: u64,
    pub saves_ms: u64,
}

/// A step that ran although there had been a build before.
#[derive(Debug, Clone, Serialize)]
pub struct Miss {
    pub step: usize,
    pub why: String,
    /// What, before, after.
    pub fields: Vec<(String, Option<String>, Option<String>)>,
    pub more: usize,
    pub cause: Option<usize>,
    pub took_ms: u64,
    pub then: Vec<usize>,
    pub then_ms: u64,
}

/// The build before.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Last {
    pub id: String,
    pub started_ms: u64,
    pub took_ms: Option<u64>,
    pub ran: usize,
    pub cached: usize,
    pub blob_bytes: Option<u64>,
    pub digest: Option<String>,
    /// What grew and shrank.
    pub growth: Vec<Growth>,
    /// Bytes that nothing hides, before and now.
    pub visible_bytes: Option<(u64, u64)>,
    /// Why nothing is told of its files.
    pub no_growth: Option<String>,
    /// Step, and how long it took before, where both ran.
    pub steps: Vec<(usize, u64)>,
}

/// A folder or file that differs in size.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    pub path: String,
    pub is_folder: bool,
    pub before: u64,
    pub after: u64,
    pub layer: Option<usize>,
}

/// A build of the same place.
#[derive(Debug, Clone, Serialize)]
pub struct Earlier {
    pub id: String,
    pub started_ms: u64,
    pub took_ms: u64,
    pub blob_bytes: Option<u64>,
    pub ran: usize,
}

impl Report {
    /// Warnings of the build.
    pub fn warnings(&self) -> &[Message] {
        self.record.as_ref().map_or(&[], |record| &record.warnings)
    }
}
