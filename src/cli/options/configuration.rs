//! The configuration file, and the options that say the same things for one command.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Failure;
use crate::config::{self, Config, Files, Flags, Foreign, Sources};
use crate::registry::Settings;

/// How registries are talked to. For every command that may ask one.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct RegistryArgs {
    /// Ask this mirror of Docker Hub first; may be repeated, in order
    #[arg(long, value_name = "URL", help_heading = "Registries")]
    registry_mirror: Vec<String>,

    /// Take any certificate of this registry or network, and plain http; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Registries")]
    insecure_registry: Vec<String>,

    /// Whether registries need a valid certificate, whatever the configuration says
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        help_heading = "Registries"
    )]
    tls_verify: Option<bool>,

    /// A folder of certificates for every registry: `*.crt` are trusted, `*.cert` with `*.key` are shown
    #[arg(long, value_name = "DIR", help_heading = "Registries")]
    cert_dir: Option<PathBuf>,
}

/// What rbuild's own file says, and where the other files are.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Configuration {
    /// rbuild's own file.
    pub(in crate::cli) own: Config,
    files: Files,
}

impl Configuration {
    /// Reads rbuild's own file.
    pub(in crate::cli) fn load() -> Result<Self, Failure> {
        let files = Files::from_process();
        let own = Config::load(&files).map_err(|e| Failure::usage(e.diagnose()))?;
        Ok(Self { own, files })
    }

    /// rbuild's own file; empty where there is none.
    pub(in crate::cli) fn own_file(&self) -> String {
        self.files.own.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// What files say of registries, and which files those are: key, value, file.
    pub(in crate::cli) fn origins(&self) -> Result<Vec<(String, String, String)>, Failure> {
        let told = config::told(&self.files, &self.own.registries).map_err(|e| bad(&e))?;
        Ok(told.into_iter().map(|(key, value, file)| (key, value, file.display().to_string())).collect())
    }

    /// How to talk to registries.
    pub(in crate::cli) fn registries(&self, args: &RegistryArgs) -> Result<Settings, Failure> {
        self.registries_with(args, Vec::new())
    }

    /// How to talk to registries; these, too, need no valid certificate.
    pub(in crate::cli) fn registries_with(
        &self,
        args: &RegistryArgs,
        insecure: Vec<String>,
    ) -> Result<Settings, Failure> {
        let RegistryArgs { registry_mirror, insecure_registry, tls_verify, cert_dir } = args;
        if let Some(folder) = cert_dir.as_ref().filter(|folder| !folder.is_dir()) {
            let value = folder.display().to_string();
            let reason = "there is no such folder".to_owned();
            return Err(bad(&config::Error::Flag { option: "--cert-dir", value, reason }));
        }
        let flags = Flags {
            mirrors: registry_mirror.clone(),
            insecure: insecure_registry.iter().cloned().chain(insecure).collect(),
            tls_verify: *tls_verify,
            cert_dir: cert_dir.clone(),
            foreign: Foreign::default(),
        };
        self.flagged(flags)
    }

    /// How to talk to registries, where a command line says this.
    pub(in crate::cli) fn flagged(&self, flags: Flags) -> Result<Settings, Failure> {
        let sources = Sources::new(flags, self.own.registries.clone(), self.files.clone());
        Ok(Settings { registries: sources.map_err(|e| bad(&e))?, ..Settings::from_process() })
    }
}

fn bad(error: &config::Error) -> Failure {
    Failure::usage(error.diagnose())
}
