//! What a build is to attest of its images.

use std::collections::BTreeMap;

use crate::record::provenance::Terms;

/// All of it; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Which packages are in them.
    pub sbom: Option<Sbom>,
    /// How they came about.
    pub provenance: Option<Provenance>,
}

impl Wanted {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.sbom.is_none() && self.provenance.is_none()
    }
}

/// Where documents are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Beside the image, as its referrers; the image stays as it is.
    #[default]
    Referrers,
    /// In the index that names the image, as BuildKit does it.
    BuildKit,
}

/// An SBOM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sbom {
    /// Where it is kept.
    pub layout: Layout,
    /// Who makes it; rbuild itself if nobody else.
    pub generator: Option<Generator>,
}

/// An image that makes SBOMs by BuildKit's protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generator {
    /// Its name.
    pub image: String,
    /// What it gets as `BUILDKIT_SCAN_NAME`.
    pub parameters: BTreeMap<String, String>,
}

/// Provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Where it is kept.
    pub layout: Layout,
    /// What is said.
    pub terms: Terms,
    /// What it is called beside files.
    pub filename: String,
    /// Beside files it is not wanted.
    pub is_inline_only: bool,
    /// A build whose materials are not all known fails.
    pub wants_all_materials: bool,
}
