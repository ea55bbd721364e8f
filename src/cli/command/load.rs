//! `rbuild load`

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;

use crate::attest;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::Configuration;
use crate::cli::show::notes::note;
use crate::import::{Archive, Source};
use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::pipeline;
use crate::report::Diagnostic;
use crate::store::Store;
use crate::transport;

/// Take images from an archive or a layout into the local store
///
/// Reads what docker, podman, skopeo, buildx and rbuild write: OCI layouts as folders and archives, and docker's archives,
/// compressed or not. Images keep the names that they have there; one without a name can be named with `rbuild tag`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive or folder [default: standard input]
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Only this platform of images that have several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Take what a layout has beside its images, too: SBOMs, provenance, and what others keep there
    #[arg(long)]
    with_attestations: bool,
    /// Print only the digests
    #[arg(short, long)]
    quiet: bool,
}

/// Takes them all; names are set when everything is there.
pub(crate) fn run(global: &Global, args: &LoadArgs) -> Result<(), Failure> {
    let store = local::open_to_write(global, &Configuration::load()?)?;
    let failed = |error: crate::import::Error| Failure::message(error.to_string());
    let source = match args.input.as_deref().filter(|path| path.as_os_str() != "-") {
        Some(path) => Source::open(&store, path).map_err(failed)?,
        None if std::io::stdin().is_terminal() => {
            let diagnostic = Diagnostic::error("an archive is not read from a terminal");
            return Err(Failure::usage(diagnostic.help("name it with `-i FILE`, or redirect the input")));
        }
        None => {
            Source::Archive(Archive::read(&store, std::io::stdin().lock(), "standard input").map_err(failed)?)
        }
    };
    let mut loaded = Vec::new();
    // An index may list one image thousands of times.
    let mut taken: HashMap<Digest, Descriptor> = HashMap::new();
    for image in source.images().map_err(failed)? {
        let known = image.target.as_ref().and_then(|target| taken.get(&target.digest));
        let target = match known {
            Some(target) => target.clone(),
            None => source.take(&store, &image, args.platform.as_ref()).map_err(failed)?,
        };
        if let Some(named) = &image.target {
            taken.insert(named.digest, target.clone());
        }
        loaded.push((target, image.names));
    }
    store.set_tags(loaded.iter().flat_map(|(target, names)| names.iter().map(move |name| (name, target))))?;
    if args.with_attestations {
        keep(&store, &source, &loaded)?;
    }
    let mut text = String::new();
    for (target, names) in loaded {
        let shown = names.iter().map(|name| format!("Loaded image: {name}\n"));
        match (args.quiet, names.is_empty()) {
            (true, _) => text.push_str(&format!("{}\n", target.digest)),
            (false, true) => text.push_str(&format!("Loaded image ID: {}\n", target.digest)),
            (false, false) => text.extend(shown),
        }
    }
    drop(source);
    pipeline::empty_trash(&store);
    print(&text)
}

/// Keeps what lies beside the images under their names.
fn keep(store: &Store, source: &Source, loaded: &[(Descriptor, Vec<Reference>)]) -> Result<(), Failure> {
    for (target, names) in loaded {
        let failed = |error: String| {
            let diagnostic =
                Diagnostic::error(format!("what lies beside {} cannot be taken: {error}", target.digest));
            Failure::build(vec![diagnostic.note("the images themselves were loaded")])
        };
        let found = transport::from_layout(store, source, target, &|text| note(&text));
        let found = found.map_err(|error| failed(error.to_string()))?;
        if names.is_empty() && !found.artifacts.is_empty() {
            return Err(failed("nothing is kept beside an image without a name".to_owned()));
        }
        attest::keep_all(store, names, &found).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}
