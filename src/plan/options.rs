//! What the user asked for beside the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::graph::{EngineImage, Network};
use crate::oci::{Platform, Reference};

/// Everything that a plan depends on beside the Dockerfile and the bases' configurations.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--build-arg`, in order, later ones win. The value of `--build-arg NAME` was looked up in the
    /// environment; `None` means that it was not there, and the argument counts as not given.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--target`; the last stage when absent.
    pub target: Option<String>,
    /// The target's number in the file, 0 being the first stage, for one without a name; goes before `target`.
    pub target_number: Option<usize>,
    /// Stop before this instruction of the target, FROM being the first: the plan is that of the instructions before it,
    /// and [`super::graph::Goal::next`] tells what would come.
    pub stop: Option<usize>,
    /// What to build for.
    pub platform: Platform,
    /// What this machine is.
    pub build_platform: Platform,
    /// Whether the user named `platform`; only then it overrides what the base's configuration says.
    pub explicit_platform: bool,
    /// `--label`, in order; not in the history.
    pub labels: Vec<(String, String)>,
    /// `--network`: the network of every RUN that names none.
    pub network: Network,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `--shm-size` in bytes; 0 is the default.
    pub shm_size_bytes: u64,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// The host name in RUN; the build argument BUILDKIT_SANDBOX_HOSTNAME counts when absent.
    pub hostname: Option<String>,
    /// `--build-context NAME=…`; a name may end in `::os/arch` to count for one platform only.
    pub contexts: Vec<(String, ContextSource)>,
    /// SOURCE_DATE_EPOCH of rbuild's own environment. It counts as a build argument (as with buildx), so an
    /// ARG can declare it; one that is given goes before it.
    pub epoch: Option<String>,
    /// The time that [`super::epoch_source`] stands for, once it was looked up; what has none leaves SOURCE_DATE_EPOCH unset.
    pub epoch_of_source: Option<i64>,
    /// SOURCE_DATE_EPOCH where neither an argument nor the Dockerfile says one.
    pub fallback_epoch: Option<i64>,
    /// Every RUN finds SOURCE_DATE_EPOCH in its environment, declared or not.
    pub epoch_in_run: bool,
    /// `--allow`.
    pub entitlements: BTreeSet<Entitlement>,
    /// Nothing is to be built, the file is only looked at: without a target all stages are lowered, everything is allowed,
    /// and findings of checks come beside faults. As in BuildKit.
    pub lint: bool,
    /// Proxy variables that count as if they were build arguments, below those given.
    pub proxy_env: Vec<(String, String)>,
}

impl Default for Options {
    /// No wishes, for the machine that this runs on.
    fn default() -> Self {
        Self {
            build_args: Vec::new(),
            target: None,
            target_number: None,
            stop: None,
            platform: Platform::host(),
            build_platform: Platform::host(),
            explicit_platform: false,
            labels: Vec::new(),
            network: Network::Default,
            extra_hosts: Vec::new(),
            shm_size_bytes: 0,
            ulimits: Vec::new(),
            hostname: None,
            contexts: Vec::new(),
            epoch: None,
            epoch_of_source: None,
            fallback_epoch: None,
            epoch_in_run: false,
            entitlements: BTreeSet::new(),
            lint: false,
            proxy_env: Vec::new(),
        }
    }
}

impl Options {
    /// Whether `entitlement` was given.
    pub(super) fn allows(&self, entitlement: Entitlement) -> bool {
        self.lint || self.entitlements.contains(&entitlement)
    }

    /// The build arguments by name, with the proxies and the epoch that come from elsewhere.
    pub(super) fn arguments(&self) -> BTreeMap<String, String> {
        let mut arguments: BTreeMap<String, String> = self.proxy_env.iter().cloned().collect();
        if let Some(epoch) = &self.epoch {
            arguments.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string());
        }
        for (name, value) in &self.build_args {
            if let Some(value) = value {
                arguments.insert(name.clone(), value.clone());
            }
        }
        arguments
    }
}

/// What `--build-context` takes, for people.
pub const CONTEXTS: &str = "--build-context takes NAME=WHERE, and WHERE is a folder, the URL of a git repository or of an \
     archive, `docker-image://IMAGE`, `oci-layout://DIR[:TAG]`, `docker-daemon:IMAGE`, `containers-storage:IMAGE` or `target:STAGE`";

/// What `--build-context` puts in the place of a stage or an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A folder.
    Dir(PathBuf),
    /// `docker-image://…`
    Image(Reference),
    /// `oci-layout://…`
    Layout {
        /// The folder.
        path: String,
        /// Tag or digest; empty for the only image.
        selector: String,
    },
    /// `docker-daemon:…` and `containers-storage:…`
    Engine(EngineImage),
    /// A git repository.
    Git(String),
    /// A file or archive behind http(s); it appears as the file `context`.
    Url(String),
    /// `target:…`: another stage of the same Dockerfile.
    Target(String),
    /// What another target of the same run makes, by that target's name.
    Linked(String),
}

/// What `--allow` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entitlement {
    /// `RUN --network=host`
    NetworkHost,
    /// `RUN --security=insecure`
    SecurityInsecure,
}
