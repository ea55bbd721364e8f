//! `rbuild diff A B`: what differs in two images.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::Configuration;
use crate::cli::show::differences;
use crate::cli::show::moving::{MovingArgs, explain_copy};
use crate::compare::{self, Difference, Side};
use crate::http::Environment;
use crate::image::{Image, StoredPlatform};
use crate::oci::{Descriptor, Platform};
use crate::registry::Which;
use crate::report::Diagnostic;
use crate::store::Store;
use crate::transport::{self, Endpoint, EndpointError, Request};

/// Show what differs in two images: documents, layers, files, bytes
///
/// A place is a name in the local store, or as in `rbuild copy`: `docker://NAME` for a registry, `oci:DIR[:LABEL]`, `oci-archive:FILE[:LABEL]`,
/// `docker-archive:FILE[:NAME]`, `docker-daemon:NAME`, `containers-storage:NAME`. Each difference has a kind: content, time, mode, owner, order
/// and so on; at the end stands what to do about them.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 the same, 1 they differ, or one cannot be read, 2 wrong usage.")]
pub(crate) struct DiffArgs {
    /// One image
    #[arg(value_name = "A")]
    first: String,
    /// The other
    #[arg(value_name = "B")]
    second: String,
    /// The platform to compare of images that have several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    shown: ShownArgs,
    #[command(flatten)]
    moving: MovingArgs,
}

/// How differences are shown.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ShownArgs {
    /// `text`, or `json` (an object on each line)
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    format: DiffFormat,
    /// Show every file, not only the first of each kind in a layer
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    Text,
    Json,
}

/// Compares, and prints.
pub(crate) fn run(global: &Global, args: &DiffArgs) -> Result<(), Failure> {
    let configuration = Configuration::load()?;
    let store = local::open_store(global)?;
    let platform = args.platform.clone();
    let which = Which::One(platform.clone().unwrap_or_else(Platform::host));
    let first = brought(&store, &args.first, which.clone(), (&configuration, &args.moving))?;
    let second = brought(&store, &args.second, which, (&configuration, &args.moving))?;
    let of = |target: &Descriptor, name: &str| platform_of(&store, target, name, platform.as_ref());
    let (one, two) = (of(&first, &args.first)?, of(&second, &args.second)?);
    match compared(&store, (&args.first, &one), (&args.second, &two), args.shown)? {
        true => Ok(()),
        false => Err(Failure::told()),
    }
}

/// The image in the store, with all of its platforms; from elsewhere it is fetched as far as is asked, without a name.
pub(crate) fn brought(
    store: &Store,
    place: &str,
    which: Which,
    (configuration, moving): (&Configuration, &MovingArgs),
) -> Result<Descriptor, Failure> {
    let endpoint = place
        .parse::<Endpoint>()
        .map_err(|e: EndpointError| Failure::usage(Diagnostic::error(e.to_string())))?;
    let find = |name: &str| local::find_target(store, name);
    if let Endpoint::Store(name) = &endpoint {
        let target = find(name)?;
        moving.complete(store, &[(name.clone(), target.clone())])?;
        return Ok(target);
    }
    let environment = Environment::from_process();
    // A name that nobody else has, and that goes again: what it named stays until the store is cleaned up.
    let name = format!("rbuild.invalid/compared:{}", std::process::id());
    let request = Request {
        from: endpoint,
        to: Endpoint::Store(name.clone()),
        which,
        environment,
        with_attestations: false,
    };
    let client = moving.client(configuration)?;
    let titles = [format!("fetch {place}")];
    let copied = moving.each(client, &titles, |client, _, bytes| {
        transport::run(store, client, &request, &|name| find(name).ok(), bytes).map_err(|e| explain_copy(&e))
    })?;
    let reference = local::new_name(&name)?;
    store.remove_tag(&reference)?;
    copied.into_iter().next().ok_or_else(|| Failure::message(format!("`{place}` is no image")))
}

/// The image of the platform that is wanted, else of this machine, else the first.
pub(crate) fn platform_of(
    store: &Store,
    target: &Descriptor,
    name: &str,
    wanted: Option<&Platform>,
) -> Result<StoredPlatform, Failure> {
    let image = Image::read(store, target)?;
    let found = match wanted {
        Some(wanted) => image.for_platform(wanted).ok_or_else(|| local::no_platform(name, &image, wanted))?,
        None => image.for_this_machine().ok_or_else(|| local::unreadable(name, &image))?,
    };
    Ok(found.clone())
}

/// Prints what differs, and gives whether nothing does.
pub(crate) fn compared(
    store: &Store,
    (first_name, first): (&str, &StoredPlatform),
    (second_name, second): (&str, &StoredPlatform),
    shown: ShownArgs,
) -> Result<bool, Failure> {
    let mut all: Vec<Difference> = Vec::new();
    let sides = (Side { store, image: first }, Side { store, image: second });
    compare::images(&sides.0, &sides.1, &mut |difference| all.push(difference))
        .map_err(|error| Failure::message(error.to_string()))?;
    let digests = (first.descriptor.digest, second.descriptor.digest);
    match shown.format {
        DiffFormat::Json => {
            let lines = all.iter().map(|difference| format!("{}\n", object(difference)));
            print(&lines.collect::<String>())?;
        }
        DiffFormat::Text => {
            let names = [(first_name, digests.0), (second_name, digests.1)];
            print(&differences::text(&names, &all, shown.all))?;
        }
    }
    Ok(digests.0 == digests.1)
}

/// A difference for programs.
fn object(difference: &Difference) -> Value {
    use compare::Place;
    let Difference { place, path, kind, first, second, excerpt } = difference;
    let mut object = json!({
        "place": match place {
            Place::Manifest => "manifest",
            Place::Config => "config",
            Place::Step(_) => "layer",
        },
        "path": path,
        "kind": kind.word(),
        "first": first,
        "second": second,
    });
    if let Place::Step(step) = place {
        object["layer"] = step.layer.into();
        object["instruction"] = step.instruction.clone().into();
    }
    if let Some(excerpt) = excerpt {
        object["offset"] = excerpt.offset.into();
        object["excerpt"] = json!([excerpt.first, excerpt.second]);
    }
    if let Some(advice) = compare::advice::advice(difference) {
        object["advice"] = advice.into();
    }
    object
}
