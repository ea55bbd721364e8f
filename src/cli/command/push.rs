//! `rbuild push`

use clap::Args;

use crate::attest;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::Configuration;
use crate::cli::show::moving::{MovingArgs, explain_copy};
use crate::oci::{Descriptor, Platform, Reference};
use crate::registry::Client;
use crate::report::Diagnostic;
use crate::store::Store;
use crate::transport;

/// Send images to the registries that their names begin with
///
/// Blobs that the registry has are not sent again. Prints name and digest of each image. `rbuild copy` sends an image under
/// another name.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The images, by name
    #[arg(value_name = "NAME[:TAG]", required = true)]
    names: Vec<String>,
    /// Push every tag that the store has of each name
    #[arg(short, long)]
    all_tags: bool,
    /// Push only this platform of an image that has several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Push what is kept beside the images, too: SBOMs, provenance, and what others keep there
    #[arg(long)]
    with_attestations: bool,
    #[command(flatten)]
    moving: MovingArgs,
}

/// An image under all its names that are pushed.
struct Group {
    /// What the names stand for.
    whole: Descriptor,
    /// What of it is pushed.
    target: Descriptor,
    names: Vec<Reference>,
}

/// Sends them; names of one image go together, so that its blobs are looked at once.
pub(crate) fn run(global: &Global, args: &PushArgs) -> Result<(), Failure> {
    let configuration = Configuration::load()?;
    let store = local::open_store(global)?;
    let mut groups: Vec<Group> = Vec::new();
    for (name, whole) in wanted(&store, args)? {
        let target = match &args.platform {
            Some(platform) => transport::one_platform(&store, &name.to_string(), whole.clone(), platform)
                .map_err(|e| Failure::build(vec![explain_copy(&e)]))?,
            None => whole.clone(),
        };
        let is_same = |group: &&mut Group| group.whole.digest == whole.digest;
        match groups.iter_mut().find(is_same) {
            Some(group) => group.names.push(name),
            None => groups.push(Group { whole, target, names: vec![name] }),
        }
    }
    let client = args.moving.client(&configuration)?;
    let shown = |names: &[Reference]| names.iter().map(Reference::to_string).collect::<Vec<_>>().join(", ");
    let titles: Vec<String> = groups.iter().map(|group| format!("push {}", shown(&group.names))).collect();
    args.moving.each(client, &titles, |client, at, bytes| {
        let Group { whole, target, names } = &groups[at];
        transport::push(&store, client, whole, target, names, bytes).map_err(|e| explain_copy(&e))
    })?;
    if args.with_attestations {
        let client = args.moving.client(&configuration)?;
        for Group { target, names, .. } in &groups {
            push_attestations(&store, &client, target, names)?;
        }
    }
    let lines = groups
        .iter()
        .flat_map(|Group { target, names, .. }| names.iter().map(|n| format!("{n} {}\n", target.digest)));
    print(&lines.collect::<String>())
}

/// Sends what is kept beside an image and its platforms.
fn push_attestations(
    store: &Store,
    client: &Client,
    target: &Descriptor,
    names: &[Reference],
) -> Result<(), Failure> {
    let fail = |error: attest::Error| {
        let diagnostic =
            Diagnostic::error(format!("what is kept beside the image cannot be pushed: {error}"));
        Failure::build(vec![diagnostic.note("the image itself was pushed")])
    };
    let found =
        transport::beside(store, target).map_err(|error| Failure::build(vec![explain_copy(&error)]))?;
    names.iter().try_for_each(|name| attest::push(client, name, &found.artifacts).map(drop).map_err(fail))
}

/// The names to push and what they point at, each once.
fn wanted(store: &Store, args: &PushArgs) -> Result<Vec<(Reference, Descriptor)>, Failure> {
    let mut wanted: Vec<(Reference, Descriptor)> = Vec::new();
    for text in &args.names {
        let name = local::new_name(text)?;
        let found = match args.all_tags {
            true => all_tags(store, text, &name)?,
            false => vec![(name.clone(), local::find_target(store, &name.to_string())?)],
        };
        for entry in found {
            if !wanted.iter().any(|(known, _)| *known == entry.0) {
                wanted.push(entry);
            }
        }
    }
    Ok(wanted)
}

fn all_tags(store: &Store, text: &str, name: &Reference) -> Result<Vec<(Reference, Descriptor)>, Failure> {
    let has_tag = text.parse::<Reference>().is_ok_and(|typed| typed.tag().is_some());
    if has_tag {
        let diagnostic =
            Diagnostic::error(format!("`{text}` has a tag, and `--all-tags` wants a name without one"));
        return Err(Failure::usage(diagnostic));
    }
    let is_same = |known: &Reference| {
        (known.registry(), known.repository()) == (name.registry(), name.repository())
            && known.digest().is_none()
    };
    let found: Vec<_> = store.tags()?.into_iter().filter(|(known, _)| is_same(known)).collect();
    match found.is_empty() {
        true => Err(Failure::message(format!("the local store has no tag of `{text}`"))),
        false => Ok(found),
    }
}
