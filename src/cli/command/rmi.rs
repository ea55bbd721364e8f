//! `rbuild rmi`

use std::io::Write as _;

use clap::Args;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::image::Image;
use crate::oci::{Descriptor, Reference};
use crate::report::Diagnostic;
use crate::store::Store;
use crate::upkeep::{self, Collected};

/// Take names away from images, and remove images that have no name any more
///
/// Blobs go when nothing needs them: no name, no cached step, no base that a build has fetched. Beside a running build only
/// the name goes, and `rbuild prune` removes the rest later.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// The images: names, or beginnings of digests
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Also an image that has several names, when its digest is given; and it is no error when there is no such image
    #[arg(short, long)]
    force: bool,
}

/// Removes one after the other; one that fails does not keep the others from going.
pub(crate) fn run(global: &Global, args: &RmiArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let mut diagnostics = Vec::new();
    let mut is_left = false;
    for image in &args.images {
        match remove(&store, image, args.force) {
            Ok(collected) => is_left |= matches!(collected, Collected::Later),
            Err(failure) => diagnostics.extend(failure.diagnostics),
        }
    }
    if is_left {
        let note = "note: another rbuild uses the store, so the blobs stay until `rbuild prune`\n";
        let _ = std::io::stderr().write_all(note.as_bytes());
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(Failure::build(diagnostics)) }
}

fn remove(store: &Store, text: &str, force: bool) -> Result<Collected, Failure> {
    let target = match local::find_target(store, text) {
        Ok(target) => target,
        Err(_) if force => return Ok(Collected::Gone(Vec::new())),
        Err(failure) => return Err(failure),
    };
    let names = local::names_of(store, &target.digest)?;
    let named = text.parse::<Reference>().ok().map(Reference::with_default_tag);
    let going: Vec<&Reference> = match named.and_then(|named| names.iter().find(|name| **name == named)) {
        Some(name) => vec![name],
        None if names.len() > 1 && !force => return Err(several(text, &names)),
        None => names.iter().collect(),
    };
    for name in &going {
        store.remove_tag(name)?;
        print(&format!("Untagged: {name}\n"))?;
    }
    if going.len() < names.len() {
        return Ok(Collected::Gone(Vec::new()));
    }
    collect(store, &target)
}

fn collect(store: &Store, target: &Descriptor) -> Result<Collected, Failure> {
    let image = Image::read(store, target)?;
    let collected = upkeep::collect(store, target)?;
    if let Collected::Gone(digests) = &collected {
        print(&digests.iter().map(|digest| format!("Deleted: {digest}\n")).collect::<String>())?;
        let subjects =
            image.platforms.iter().map(|platform| platform.descriptor.digest).chain([target.digest]);
        for subject in subjects.filter(|subject| store.has_blob(subject).is_none()) {
            collect_referrers(store, &subject.referrers_tag())?;
        }
    }
    Ok(collected)
}

/// What was kept beside an image goes with it.
fn collect_referrers(store: &Store, tag: &str) -> Result<(), Failure> {
    for (name, index) in store.tags()?.into_iter().filter(|(name, _)| name.tag() == Some(tag)) {
        store.remove_tag(&name)?;
        upkeep::collect(store, &index)?;
    }
    Ok(())
}

fn several(text: &str, names: &[Reference]) -> Failure {
    let names: Vec<String> = names.iter().map(Reference::to_string).collect();
    let diagnostic = Diagnostic::error(format!("the image `{text}` has several names: {}", names.join(", ")));
    Failure::build(vec![diagnostic.help("name one of them, or remove all with `-f`")])
}
