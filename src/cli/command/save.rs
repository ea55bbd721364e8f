//! `rbuild save`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::attest;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::local;
use crate::cli::show::moving::{MovingArgs, explain_copy};
use crate::export::{self, Call, SaveTo, Saved, Sink};
use crate::oci::{Descriptor, Platform, Reference};
use crate::report::Diagnostic;
use crate::store::Store;
use crate::transport;

/// Write images to an archive or a layout
///
/// Every format is an OCI layout; both archives also hold what `docker load` and `podman load` read. Layers are compressed, as
/// they are in the store. Layers that only a registry has, as after `rbuild --push` of what was cached elsewhere, are fetched first.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The images: names, or beginnings of digests
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// The file or folder [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "docker-archive")]
    format: SaveFormat,
    /// Only this platform of images that have several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Write what is kept beside the images, too: SBOMs, provenance; into an OCI layout
    #[arg(long)]
    with_attestations: bool,
    #[command(flatten)]
    moving: MovingArgs,
}

/// What `save` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SaveFormat {
    /// One platform of each image, for `docker load`
    DockerArchive,
    /// All platforms of each image
    OciArchive,
    /// A folder; images are added to one that is there
    OciDir,
}

/// Writes them.
pub(crate) fn run(global: &Global, args: &SaveArgs) -> Result<(), Failure> {
    let output = args.output.clone().filter(|path| path.as_os_str() != "-");
    let sink = || output.clone().map_or(Sink::Stdout, Sink::File);
    let to = match (args.format, &output) {
        (SaveFormat::DockerArchive, _) => SaveTo::DockerArchive(sink()),
        (SaveFormat::OciArchive, _) => SaveTo::OciArchive(sink()),
        (SaveFormat::OciDir, Some(path)) => SaveTo::OciDirectory(path.clone()),
        (SaveFormat::OciDir, None) => {
            return Err(Failure::usage(Diagnostic::error("`--format oci-dir` needs `-o DIR`")));
        }
    };
    let store = local::open_store(global)?;
    let find = |text: &String| Ok((text.clone(), local::find_target(&store, text)?));
    let images: Vec<(String, Descriptor)> = args.images.iter().map(find).collect::<Result<_, Failure>>()?;
    args.moving.complete(&store, &images)?;
    let mut saved: Vec<Saved> = Vec::new();
    for (text, target) in &images {
        let target = match &args.platform {
            Some(platform) => transport::one_platform(&store, text, target.clone(), platform)
                .map_err(|e| Failure::build(vec![explain_copy(&e)]))?,
            None => target.clone(),
        };
        // By its digest it has no name there.
        let name = text.parse::<Reference>().ok().map(Reference::with_default_tag);
        let is_name = |name: &Reference| store.tag(name).is_ok_and(|found| found.is_some());
        let name = name.filter(is_name);
        match saved.iter_mut().find(|image| image.target.digest == target.digest) {
            Some(Saved { call: Call::Names(names), .. }) => names.extend(name),
            _ => {
                let referrers = beside(&store, &target, args)?;
                saved.push(Saved { target, call: Call::Names(name.into_iter().collect()), referrers });
            }
        }
    }
    export::save(&store, &saved, &to).map_err(|error| {
        if matches!(error, export::Error::Terminal) {
            let diagnostic = Diagnostic::error("an archive is not written to a terminal");
            return Failure::usage(diagnostic.help("name a file with `-o FILE`, or redirect the output"));
        }
        let diagnostic = Diagnostic::error(error.to_string());
        Failure::build(vec![match error {
            export::Error::SeveralPlatforms { .. } => diagnostic
                .help("choose one with `--platform`, or save all of them with `--format oci-archive`"),
            _ => diagnostic,
        }])
    })
}

/// What goes along with an image.
fn beside(store: &Store, target: &Descriptor, args: &SaveArgs) -> Result<Vec<Descriptor>, Failure> {
    if !args.with_attestations {
        return Ok(Vec::new());
    }
    let failed = |error: transport::Error| Failure::build(vec![explain_copy(&error)]);
    let found = transport::beside(store, target).map_err(failed)?;
    if args.format == SaveFormat::DockerArchive && !found.artifacts.is_empty() {
        let error = transport::Error::NoReferrers { count: found.artifacts.len() };
        return Err(Failure::build(vec![
            explain_copy(&error).help("`--format oci-archive` and `oci-dir` have one"),
        ]));
    }
    attest::entries(store, &found).map_err(|error| failed(error.into()))
}
