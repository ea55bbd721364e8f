//! The options of a build, which all commands take that build, or look at what a build would do.

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};

use super::budget::BudgetArgs;
use super::configuration::RegistryArgs;
use super::docker::{DockerArgs, switch};
use super::limits::LimitArgs;
use super::podman::PodmanArgs;
use crate::cli::args::ProgressMode;

/// The options of a build.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// What COPY and ADD read: a folder, a git URL (`https://…/x.git#REF:SUBDIR`), the URL of a tar or a
    /// Dockerfile, or `-` for either on standard input
    #[arg(
        value_name = "CONTEXT",
        required = false,
        required_unless_present_any = ["check", "call", "at"],
        default_value_ifs = [
            ("check", ArgPredicate::IsPresent, Some(".")),
            ("call", ArgPredicate::IsPresent, Some(".")),
            ("at", ArgPredicate::IsPresent, Some(".")),
        ]
    )]
    pub(crate) context: String,

    /// Name the image `NAME[:TAG]`; may be repeated
    #[arg(short, long, value_name = "NAME[:TAG]", help_heading = "Result")]
    pub(crate) tag: Vec<String>,

    /// Also write the image somewhere: `type=oci,dest=FILE`, `type=oci,dest=DIR,tar=false`,
    /// `type=docker,dest=FILE`, `type=tar,dest=FILE`, `type=local,dest=DIR` or just DIR for the plain
    /// files; `-` as FILE is standard output; may be repeated
    #[arg(short, long, value_name = "WHAT", help_heading = "Result")]
    pub(crate) output: Vec<String>,

    /// Push the image to the registries that its names begin with
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Result")]
    pub(crate) push: bool,

    /// Put the image into an engine that runs it: `docker`, `podman`, `containerd` or `containerd:NAMESPACE`, several with
    /// commas; without a value, into the first of these that is there. What it has is not sent
    #[arg(long, value_name = "ENGINE", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Result")]
    pub(crate) load: Option<String>,

    /// Write the image's id to a file: its digest, or of what is written for docker the digest of its configuration
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Add a label to the image; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Result")]
    pub(crate) label: Vec<String>,

    /// Add an annotation to the image's manifest, or to what LEVEL says: `manifest`, `index`, `manifest-descriptor`,
    /// `index-descriptor`, several with commas, and `[OS/ARCH]` behind one for that platform alone; may be repeated
    #[arg(long, value_name = "[LEVEL:]KEY=VALUE", help_heading = "Result")]
    pub(crate) annotation: Vec<String>,

    /// The Dockerfile; `-` reads it from standard input, a URL is fetched; in a context that is no folder,
    /// a path in the context [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    pub(crate) file: Option<String>,

    /// Build this stage instead of the last one
    #[arg(long, value_name = "STAGE", help_heading = "Input")]
    pub(crate) target: Option<String>,

    /// Set a build argument; without a value it is taken from the environment; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Input")]
    pub(crate) build_arg: Vec<String>,

    /// Give a folder, a git or http URL, `docker-image://REF`, `oci-layout://DIR[:TAG|@DIGEST]` or `target:STAGE` a name for
    /// FROM, COPY --from and mounts; may be repeated
    #[arg(long, value_name = "NAME=WHERE", help_heading = "Input")]
    pub(crate) build_context: Vec<String>,

    /// Offer a secret to RUN --mount=type=secret: `id=ID,src=FILE` or `id=ID,env=NAME`; may be repeated
    #[arg(long, value_name = "SECRET", help_heading = "Input")]
    pub(crate) secret: Vec<String>,

    /// What becomes of a secret that is found in a layer or in the configuration: `stop` (usual), `warn` (usual behind docker),
    /// or `off`; `--secret …,tripwire=off` lets one go [env: RBUILD_TRIPWIRE]
    #[arg(long, value_name = "WHAT", help_heading = "Input")]
    pub(crate) tripwire: Option<String>,

    /// Offer an ssh agent to RUN --mount=type=ssh: `default` or `ID` for that of $SSH_AUTH_SOCK, `ID=SOCKET`, or
    /// `ID=KEY[,KEY]` for private keys without passphrase; may be repeated
    #[arg(long, value_name = "ID[=PATH[,PATH]]", help_heading = "Input")]
    pub(crate) ssh: Vec<String>,

    /// Build for this platform, such as linux/arm64; several make one image for all of them
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', help_heading = "Input")]
    pub(crate) platform: Vec<String>,

    /// Ask registries for images: `always`, also for names that the local store has (so without a value); `missing`, only
    /// for what was never fetched; `never`. Without this option, whenever no name of the local store is meant
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        help_heading = "Input"
    )]
    pub(crate) pull: Option<String>,

    /// Fetch nothing: only what is in the local store counts, and URLs are refused. RUN has its own `--network none`
    #[arg(long, conflicts_with_all = ["pull", "push"], help_heading = "Input")]
    pub(crate) offline: bool,
    /// Write what comes from elsewhere (base images, URLs, git references) into CONTEXT/rbuild.lock, as far as it is not
    /// there yet. A lock file that is there always holds
    #[arg(long, help_heading = "Input")]
    pub(crate) lock: bool,

    /// Fail when something that comes from elsewhere is not in CONTEXT/rbuild.lock
    #[arg(long, conflicts_with = "lock", help_heading = "Input")]
    pub(crate) locked: bool,

    #[command(flatten)]
    pub(crate) registries: RegistryArgs,

    /// Also take layers from a cache of other machines: `type=registry,ref=NAME` or just NAME (also an image that carries
    /// records), `type=local,src=DIR`, `type=http,url=URL`, `type=reapi,endpoint=URL`, `type=s3,bucket=NAME`, `type=gha`; may be
    /// repeated [env: RBUILD_CACHE_FROM]
    #[arg(long, value_name = "CACHE", help_heading = "Steps")]
    pub(crate) cache_from: Vec<String>,

    /// Leave layers in a cache for other machines: `type=registry,ref=NAME[,mode=min]`, `type=local,dest=DIR`,
    /// `type=http,url=URL`, `type=reapi,endpoint=URL`, `type=s3,bucket=NAME`, `type=gha`; or have the image carry records of its own layers:
    /// `type=inline`; may be repeated [env: RBUILD_CACHE_TO]
    #[arg(long, value_name = "CACHE", help_heading = "Steps")]
    pub(crate) cache_to: Vec<String>,

    /// Whether what is in cache mounts goes with those caches: `rw` (usual with `--cache-to`; said, also mounts that a step with
    /// secrets wrote to), `ro`, or `off` [env: RBUILD_CACHE_MOUNTS]
    #[arg(long, value_name = "WHAT", help_heading = "Steps")]
    pub(crate) cache_mounts: Option<String>,

    /// Have a build engine do it: `kubernetes://[CONTEXT/]NAMESPACE` with `,image=NAME`, `,template=NAME`, `,start=10m`, `,key=TEXT`;
    /// `reapi://HOST:PORT`, or `reapis://HOST[:PORT]` over TLS, with `,instance=NAME`, `,platform.NAME=VALUE`, and `ca`,
    /// `cert`, `key`, `token`, `header`, `header-env`, `header-file` as for caches. For both `,timeout=1h`, `,fallback=local`, `,grain=build`, `target` or
    /// `platform`
    #[arg(long, value_name = "ENGINE", help_heading = "Steps")]
    pub(crate) on: Option<String>,

    /// Run every step again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Steps")]
    pub(crate) no_cache: bool,

    /// Make the same bytes of the same commit, wherever and whenever: newer times in new layers become SOURCE_DATE_EPOCH, which is the time
    /// of the context's commit if nobody says another; RUN has it in its environment [env: RBUILD_REPRODUCIBLE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = "Steps")]
    pub(crate) reproducible: Option<bool>,

    /// Run every step of this stage again; may be repeated
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Steps")]
    pub(crate) no_cache_filter: Vec<String>,

    /// What becomes of a step that fails: `keep` it for `rbuild shell`, enter it with a `shell` at once, or `remove` it
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value = "keep",
        hide_possible_values = true,
        help_heading = "Steps"
    )]
    pub(crate) on_fail: OnFail,

    /// Where to open the shell: `N` before the N-th instruction, as `[N/7]` counts; `STAGE:N` as `[STAGE N/7]`; `STAGE` at
    /// its end; else an image
    #[arg(long, value_name = "PLACE", hide = true, help_heading = "Input")]
    pub(crate) at: Option<String>,

    /// Have at most so many steps under way at once; 0 is no limit [default: 16, or the number of
    /// processors when that is more]
    #[arg(long, value_name = "N", env = "RBUILD_JOBS", hide_env_values = true, help_heading = "Steps")]
    pub(crate) jobs: Option<Jobs>,

    /// Allow `network.host` or `security.insecure` to the Dockerfile; may be repeated
    #[arg(long, value_name = "ENTITLEMENT", help_heading = "Steps")]
    pub(crate) allow: Vec<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Check the Dockerfile and build nothing; short for --call=check
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, conflicts_with = "call", help_heading = "Look, don't build")]
    pub(crate) check: bool,

    /// Look at the Dockerfile and build nothing: `check` for faults and bad habits, `outline` for the
    /// arguments and secrets of a target, `targets` for its stages. `,format=json` makes any of them JSON,
    /// `check,format=sarif` a report that CI shows beside the lines, `check,error=true` lets findings fail
    #[arg(long, value_name = "WHAT", help_heading = "Look, don't build")]
    pub(crate) call: Option<String>,

    /// How to show progress [default: auto]
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = false, help_heading = "Output")]
    pub(crate) progress: Option<ProgressMode>,

    /// Print nothing but the image's id, see --iidfile
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Write what the build did when into a file, as trace events that Perfetto opens, also of a build that fails: steps, what they waited
    /// for, transfers, and which thread hashed and compressed
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) trace: Option<PathBuf>,

    /// Write a page into a file that shows where time and bytes went, and why, also of a build that fails; see `rbuild report`
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,

    /// Keep the values of build arguments in the record of the build, see `rbuild history`; without this, their names
    #[arg(long, help_heading = "Output")]
    pub(crate) record_build_args: bool,

    /// Say in the end, in three lines at most, what made the build slow or the image large [env: RBUILD_ADVICE] [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = "Output")]
    pub(crate) advice: Option<bool>,

    #[command(flatten)]
    pub(crate) budget: BudgetArgs,

    #[command(flatten)]
    pub(crate) docker: DockerArgs,

    #[command(flatten)]
    pub(crate) podman: PodmanArgs,
}

/// `--on-fail`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFail {
    Keep,
    Shell,
    Remove,
}

/// So many steps at once, or as many as usual: an empty `$RBUILD_JOBS` says nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jobs(pub(crate) Option<usize>);

impl std::str::FromStr for Jobs {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|jobs| Self(Some(jobs))) }
    }
}
