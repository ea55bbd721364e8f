//! `rbuild images`

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::filter::Filters;
use crate::cli::show::listing::Format;
use crate::image::{Image, StoredPlatform};
use crate::oci::{Digest, Reference};
use crate::store::Store;
use crate::text::size::bytes;
use crate::upkeep::Inventory;

/// List the images in the local store
///
/// SIZE is what the image's layers take up, compressed, each counted once, for all of its platforms that are here; SHARED is
/// the part of it that other images have, too. NOT HERE, where there is something to say, is what only a registry has of an image
/// that was pushed to it: it is fetched when it is needed.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ImagesArgs {
    /// Only images of this name, with or without a tag; `*`, `?` and `[…]` match within a part of a name
    name: Option<String>,
    /// Also images that no name points at
    #[arg(short, long)]
    all: bool,
    /// Only images that fit: `reference=PATTERN`, `label=KEY[=VALUE]`, `before=IMAGE`, `since=IMAGE`, `until=TIME`,
    /// `dangling=true` for those without a name; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// `table`, `json` (an object on each line), or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print only the digests
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Print whole digests
    #[arg(long, alias = "digests")]
    no_trunc: bool,
}

const AFTER_HELP: &str = "\
Fields of templates: ID, Repository, Tag, Digest, CreatedAt, CreatedSince, Size, SharedSize, UniqueSize, Platforms,
Labels, Promised.";

const COLUMNS: [(&str, &str); 6] = [
    ("NAME", "Repository"),
    ("TAG", "Tag"),
    ("DIGEST", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("SHARED", "SharedSize"),
];

/// Where a pushed image has layers that are not here.
const NOT_HERE: (&str, &str) = ("NOT HERE", "Promised");

/// Prints the list.
pub(crate) fn run(global: &Global, args: &ImagesArgs) -> Result<(), Failure> {
    let format = Format::parse(args.format.as_deref())?;
    let mut filters =
        Filters::parse(&args.filter, &["reference", "label", "before", "since", "until", "dangling"])?;
    if let Some(name) = &args.name {
        filters.add_reference(name)?;
    }
    let Some(store) = local::open_existing(global)? else {
        return print(&if args.quiet { String::new() } else { format.render(&COLUMNS, &[])? });
    };
    let listed = Listed::read(&store, args.all || filters.wants_unnamed())?;
    let mut rows: Vec<Row<'_>> = listed.rows().collect();
    filters.apply(&store, &mut rows)?;
    rows.sort_by_cached_key(|row| (row.repository(), row.tag(), row.image.target.digest));
    if args.quiet {
        return print(&rows.iter().map(|row| row.id(args.no_trunc) + "\n").collect::<String>());
    }
    let values: Vec<Value> = rows.iter().map(|row| row.value(&listed, args.no_trunc)).collect();
    let mut columns = COLUMNS.to_vec();
    if values.iter().any(|value| value["Promised"] != "") {
        columns.push(NOT_HERE);
    }
    print(&format.render(&columns, &values)?)
}

/// The images to choose from.
struct Listed {
    named: Vec<(Reference, Digest)>,
    images: BTreeMap<Digest, Image>,
    unnamed: Vec<Digest>,
    /// Names of images some of whose layers may be in a registry only.
    remote: Vec<Reference>,
    /// How many images have each blob.
    shares: BTreeMap<Digest, usize>,
}

impl Listed {
    /// Those without a name are looked for only if they are wanted: that opens many blobs.
    fn read(store: &Store, with_unnamed: bool) -> Result<Self, Failure> {
        let mut images = BTreeMap::new();
        let mut unnamed = Vec::new();
        if with_unnamed {
            let inventory = Inventory::take(store)?;
            // A base is not dangling: it is what builds fetched.
            for image in inventory.unnamed.into_iter().filter(Image::is_complete) {
                unnamed.push(image.target.digest);
                images.insert(image.target.digest, image);
            }
        }
        let (mut named, mut remote) = (Vec::new(), Vec::new());
        // What is kept beside images is no image.
        let names = store.tags()?.into_iter().filter(|(name, _)| with_unnamed || !name.is_of_referrers());
        for (reference, target) in names {
            if let Entry::Vacant(place) = images.entry(target.digest) {
                place.insert(Image::read(store, &target)?);
            }
            if store.is_remote_tag(&reference)? {
                remote.push(reference.clone());
            }
            named.push((reference, target.digest));
        }
        let mut shares: BTreeMap<Digest, usize> = BTreeMap::new();
        for digest in images.values().flat_map(|image| image.blobs.keys()) {
            *shares.entry(*digest).or_default() += 1;
        }
        Ok(Self { named, images, unnamed, remote, shares })
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let named = self.named.iter().map(|(name, digest)| (Some(name), digest));
        let unnamed = self.unnamed.iter().map(|digest| (None, digest));
        named.chain(unnamed).filter_map(|(name, digest)| Some(Row { name, image: self.images.get(digest)? }))
    }

    /// How much of `layers` other images have, too.
    fn shared_bytes(&self, layers: &BTreeMap<Digest, u64>) -> u64 {
        let is_shared = |digest: &Digest| self.shares.get(digest).is_some_and(|count| *count > 1);
        layers.iter().filter(|(digest, _)| is_shared(digest)).map(|(_, bytes)| bytes).sum()
    }
}

/// One line: a name, and the image behind it.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Row<'l> {
    pub(in crate::cli) name: Option<&'l Reference>,
    pub(in crate::cli) image: &'l Image,
}

impl Row<'_> {
    fn repository(&self) -> String {
        self.name.map_or_else(|| "<none>".to_owned(), local::repository)
    }

    fn tag(&self) -> String {
        self.name.and_then(Reference::tag).unwrap_or("<none>").to_owned()
    }

    fn id(&self, whole: bool) -> String {
        let digest = self.image.target.digest;
        if whole { digest.to_string() } else { digest.short() }
    }

    /// Seconds since 1970, if the configuration tells.
    pub(in crate::cli) fn created(&self) -> Option<i64> {
        let config = self.image.for_this_machine()?.config.as_ref()?;
        crate::oci::parse_rfc3339(config.created.as_deref()?)
    }

    pub(in crate::cli) fn labels(&self) -> BTreeMap<String, String> {
        let config = self.image.for_this_machine().and_then(|platform| platform.config.as_ref());
        config.map(|config| config.config.labels.clone()).unwrap_or_default()
    }

    /// What of it only the registry has that it was pushed to; empty when that is nothing.
    fn promised(&self, listed: &Listed) -> String {
        let is_remote = self.name.is_some_and(|name| listed.remote.contains(name));
        let absent = self.image.absent_layers();
        match is_remote && !absent.is_empty() {
            true => bytes(absent.values().map(|layer| layer.size).sum()),
            false => String::new(),
        }
    }

    /// One image that cannot be read must not hide the others.
    fn value(&self, listed: &Listed, whole: bool) -> Value {
        let image = self.image;
        let config = image.for_this_machine().and_then(|platform| platform.config.as_ref());
        let created = config.and_then(|config| config.created.as_deref());
        let layers = image.layers();
        let (size, shared) = (layers.values().sum::<u64>(), listed.shared_bytes(&layers));
        let readable = config.is_some();
        let sized = |count: u64| if readable { bytes(count) } else { "-".to_owned() };
        let platforms: Vec<String> =
            image.platforms.iter().filter_map(StoredPlatform::platform).map(|p| p.to_string()).collect();
        let labels: Vec<String> = self.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
        json!({
            "ID": self.id(whole),
            "Repository": self.repository(),
            "Tag": self.tag(),
            "Digest": image.target.digest,
            "CreatedAt": created.unwrap_or(""),
            "CreatedSince": if readable { local::age(created) } else { "unreadable".to_owned() },
            "Size": sized(size),
            "SharedSize": sized(shared),
            "UniqueSize": sized(size - shared),
            "Platforms": platforms.join(","),
            "Labels": labels.join(","),
            "Promised": self.promised(listed),
        })
    }
}
