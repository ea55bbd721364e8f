//! Options that `podman build` and `buildah build` have, and docker has not. Each has its meaning, or nothing to say here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::docker::switch;
use super::request::{bad, variable};
use crate::cli::Failure;
use crate::oci::{Platform, Reference};
use crate::pipeline::Squash;
use crate::registry::{Login, Settings};

/// Those of all commands that take a build's line.
#[derive(Debug, Args)]
pub(crate) struct PodmanArgs {
    /// Make one layer of those that the build adds to its base
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Result")]
    pub(crate) squash: bool,

    /// Make one layer of all, those of the base included
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Result")]
    pub(crate) squash_all: bool,

    /// Put the image into the index NAME of the local store, beside the platforms that it has
    #[arg(long, value_name = "NAME", help_heading = "Result")]
    pub(crate) manifest: Option<String>,

    /// Give the image, its history and all new files this time, in seconds since 1970; as SOURCE_DATE_EPOCH with
    /// --rewrite-timestamp
    #[arg(
        long,
        value_name = "SECONDS",
        allow_hyphen_values = true,
        conflicts_with = "source_date_epoch",
        help_heading = "Result"
    )]
    timestamp: Option<i64>,

    /// SOURCE_DATE_EPOCH, in place of that of the environment
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, help_heading = "Result")]
    source_date_epoch: Option<i64>,

    /// Set times of new files that are after SOURCE_DATE_EPOCH to it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Result")]
    rewrite_timestamp: bool,

    /// Build for every platform that all base images are for
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, conflicts_with_all = ["platform", "arch", "os", "variant"], help_heading = "Input")]
    pub(crate) all_platforms: bool,

    /// The file of patterns in place of .dockerignore
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub(crate) ignorefile: Option<PathBuf>,

    /// Logins for registries, in place of those of docker and podman
    #[arg(long, value_name = "FILE", help_heading = "Registries")]
    authfile: Option<PathBuf>,

    #[arg(long, value_name = "USER:PASSWORD", hide = true)]
    creds: Option<String>,

    /// Ask a registry so many times more when it does not answer [default: 4]
    #[arg(long, value_name = "N", help_heading = "Registries")]
    retry: Option<u32>,

    /// Wait so long before the first of these times, twice as long before the next
    #[arg(long, value_name = "DURATION", help_heading = "Registries")]
    retry_delay: Option<String>,

    #[arg(long, value_name = "ARCH", hide = true)]
    arch: Option<String>,

    #[arg(long, value_name = "OS", hide = true)]
    os: Option<String>,

    #[arg(long, value_name = "VARIANT", hide = true)]
    variant: Option<String>,

    // Whether steps are remembered, how the context is sent, and where standard input of a RUN comes from, are no questions here.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    layers: Option<bool>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    stdin: Option<bool>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    disable_compression: Option<bool>,
}

/// Those of `rbuild build` alone; other commands have options of these names.
#[derive(Debug, Args)]
pub(crate) struct BuildOnlyArgs {
    /// Mount a file or folder of this machine in every RUN; may be repeated
    #[arg(short, long, value_name = "HERE:THERE[:ro]", help_heading = "Steps")]
    pub(crate) volume: Vec<String>,

    /// Whose media types manifests have: `oci` or `docker`
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true,
        default_value = "oci",
        help_heading = "Result"
    )]
    pub(crate) format: Format,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Oci,
    Docker,
}

impl PodmanArgs {
    /// Which layers become one.
    pub(crate) fn squashed(&self) -> Squash {
        match (self.squash, self.squash_all) {
            (_, true) => Squash::All,
            (true, false) => Squash::New,
            (false, false) => Squash::None,
        }
    }

    /// SOURCE_DATE_EPOCH.
    pub(crate) fn epoch(&self) -> Option<String> {
        let given = self.timestamp.or(self.source_date_epoch);
        given.map(|seconds| seconds.to_string()).or_else(|| variable("SOURCE_DATE_EPOCH"))
    }

    /// The first option that was given of those that a record of a build has the answer to.
    pub(crate) fn recorded(&self) -> Option<&'static str> {
        let given = [
            ("--squash", self.squash),
            ("--squash-all", self.squash_all),
            ("--timestamp", self.timestamp.is_some()),
            ("--source-date-epoch", self.source_date_epoch.is_some()),
            ("--rewrite-timestamp", self.rewrite_timestamp),
        ];
        given.iter().find_map(|(name, given)| given.then_some(*name))
    }

    /// Whether newer times become it.
    pub(crate) fn rewrites(&self) -> bool {
        self.rewrite_timestamp || self.timestamp.is_some()
    }

    /// The index that the image is put into.
    pub(crate) fn list(&self) -> Result<Option<Reference>, Failure> {
        let read =
            |name: &String| super::request::tag(name).map_err(|reason| bad("--manifest", name, &reason));
        self.manifest.as_ref().filter(|name| !name.is_empty()).map(read).transpose()
    }

    /// The platform that `--os`, `--arch` and `--variant` name together.
    pub(crate) fn platform(&self) -> Option<Platform> {
        if self.arch.is_none() && self.os.is_none() && self.variant.is_none() {
            return None;
        }
        let host = Platform::host();
        let architecture = self.arch.as_deref().unwrap_or(&host.architecture);
        let mut platform = Platform::new(self.os.as_deref().unwrap_or(&host.os), architecture);
        platform.variant.clone_from(&self.variant);
        Some(platform.normalised())
    }

    /// How registries are talked to.
    pub(crate) fn apply(&self, mut settings: Settings) -> Result<Settings, Failure> {
        if let Some(file) = &self.authfile {
            if !file.is_file() {
                return Err(bad("--authfile", &file.display().to_string(), "there is no such file"));
            }
            settings.http.environment = settings.http.environment.with("REGISTRY_AUTH_FILE", file);
        }
        if let Some(text) = &self.creds {
            let login = text.split_once(':').map(|(user, password)| Login::new(user, password));
            // What was written may be a password.
            let login = login.ok_or_else(|| bad("--creds", "…", "write it as USER:PASSWORD"))?;
            settings.login = Some(login);
        }
        if let Some(more) = self.retry {
            settings.http.attempts = more.saturating_add(1);
        }
        if let Some(text) = &self.retry_delay {
            let seconds = crate::text::duration::parse_age(text).and_then(|age| u64::try_from(age).ok());
            let seconds = seconds.ok_or_else(|| bad("--retry-delay", text, "write it as 2s or 1m"))?;
            settings.http.backoff = Duration::from_secs(seconds);
        }
        Ok(settings)
    }
}
