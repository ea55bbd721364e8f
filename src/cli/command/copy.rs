//! `rbuild copy`

use clap::Args;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::Configuration;
use crate::cli::show::moving::{MovingArgs, explain_copy};
use crate::http::Environment;
use crate::oci::Platform;
use crate::pipeline;
use crate::registry::Which;
use crate::report::Diagnostic;
use crate::transport::{self, Endpoint, EndpointError, Request};

/// Copy an image between the store, registries, engines, layouts and archives
///
/// A place is `docker://NAME` for a registry, `store:NAME` or just a name for the local store, `oci:DIR[:LABEL]`,
/// `oci-archive:FILE[:LABEL]` or `docker-archive:FILE[:NAME]`, `docker-daemon:NAME` for docker's images and `containers-storage:NAME` for
/// podman's. Prints the digest of what arrived.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Where the image is
    #[arg(value_name = "SRC")]
    from: String,
    /// Where it goes
    #[arg(value_name = "DST")]
    to: String,
    /// Copy all platforms
    #[arg(short, long)]
    all: bool,
    /// The platform to copy of an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all")]
    platform: Option<Platform>,
    /// Copy what is kept beside the image, too: SBOMs, provenance, and what others keep there
    #[arg(long)]
    with_attestations: bool,
    #[command(flatten)]
    moving: MovingArgs,
}

/// Copies it.
pub(crate) fn run(global: &Global, args: &CopyArgs) -> Result<(), Failure> {
    let place = |text: &str| {
        text.parse::<Endpoint>().map_err(|e: EndpointError| Failure::usage(Diagnostic::error(e.to_string())))
    };
    let which = match args.all {
        true => Which::All,
        false => Which::One(args.platform.clone().unwrap_or_else(Platform::host)),
    };
    let request = Request {
        from: place(&args.from)?,
        to: place(&args.to)?,
        which,
        environment: Environment::from_process(),
        with_attestations: args.with_attestations,
    };
    if let Endpoint::Store(name) = &request.to {
        local::new_name(name)?;
    }
    let configuration = Configuration::load()?;
    let store = local::open_to_write(global, &configuration)?;
    let client = args.moving.client(&configuration)?;
    let find = |name: &str| local::find_target(&store, name).ok();
    let title = [format!("copy {} to {}", args.from, args.to)];
    let copied = args.moving.each(client, &title, |client, _, bytes| {
        transport::run(&store, client, &request, &find, bytes).map_err(|e| explain_copy(&e))
    })?;
    pipeline::empty_trash(&store);
    print(&copied.iter().map(|target| format!("{}\n", target.digest)).collect::<String>())
}
