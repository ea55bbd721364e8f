//! The files that COPY and ADD take from, and that they are put among: a context on disk, or a stack of layers.

use std::io;
use std::sync::Arc;

use super::error::{Error, shown};
use super::gather::{Gathered, Picked};
use crate::context::scan::as_path;
use crate::context::{Context, Digests, Entry, FileDigest, Kind as DiskKind, Listed, Listing, path};
use crate::layer::entry::{Content, DiskFile, DiskFiles, OnDisk};
use crate::layer::view::{Kind as LayerKind, RootView, ViewEntry};
use crate::layer::{self};
use crate::oci::Seconds;
use crate::report::FileCounts;

/// As many symlinks as one path may pass (containerd's limit, which BuildKit uses).
const SYMLINK_LIMIT: usize = 255;

/// A root directory with files. Paths in it are relative, clean bytes; the root's own is empty. Cheap to clone.
#[derive(Clone)]
pub enum FileTree {
    /// A folder of the host, behind its ignore rules. Every file belongs to root.
    Context(Arc<Context>),
    /// The root that some layers make together.
    Layers(LayerTree),
}

/// See [`FileTree::Layers`].
#[derive(Clone)]
pub struct LayerTree {
    /// What is where.
    pub view: RootView,
    /// How to get at the bytes.
    pub bytes: Arc<dyn LayerBytes>,
}

/// Gives what files of layers hold. Both ways stream blobs, so they are asked for many files at once.
pub trait LayerBytes: Send + Sync {
    /// BLAKE3 of each range, in the order asked for. Remembered between builds where possible.
    fn digests(&self, view: &RootView, wanted: &[Range]) -> io::Result<Vec<[u8; 32]>>;
    /// The bytes of each range, in the order asked for.
    fn contents(&self, wanted: &[Range]) -> io::Result<Vec<Content>>;
}

/// The bytes of one file in the uncompressed tar of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The layer's number, the lowest being 0.
    pub layer: usize,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// One thing in a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// `0o7777`
    pub mode: u32,
    /// The id of its owner.
    pub uid: u32,
    /// The id of its group.
    pub gid: u32,
    /// In whole seconds.
    pub mtime: Seconds,
    /// Equal for names of one file; `None` for what has only one name.
    pub link: Option<(u64, u64)>,
    /// `security.capability`; known only of files in layers (of those on disk it comes with the digest).
    pub capability: Option<Box<[u8]>>,
}

/// What an [`Item`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Bytes),
    /// A symlink and its target.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq)]
pub enum Bytes {
    /// On disk, in a file of a context.
    Disk(Listed),
    /// In a layer.
    Layer(Range),
}

impl Item {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == ItemKind::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, ItemKind::File(_))
    }
}

impl FileTree {
    /// The root without any file.
    pub fn empty() -> Self {
        Self::Layers(LayerTree { view: RootView::default(), bytes: Arc::new(NoBytes) })
    }

    /// How many files of it a layer with these entries changes.
    pub fn count(&self, entries: &[layer::entry::Entry]) -> FileCounts {
        match self {
            // No layer stands on a context.
            Self::Context(_) => layer::count(entries, &RootView::default()),
            Self::Layers(layers) => layer::count(entries, &layers.view),
        }
    }

    /// What is at `path`, no symlink followed.
    pub fn entry(&self, path: &[u8]) -> Result<Option<Item>, Error> {
        Ok(match self {
            Self::Context(context) => context.entry(path)?.map(disk_item),
            Self::Layers(layers) => layers.view.entry(path).map(layer_item),
        })
    }

    /// What is in the directory at `path`, sorted by name; nothing if there is none.
    pub fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Item)>, Error> {
        let folder = self.folder(path)?;
        Ok((0..folder.len()).map(|number| (folder.name(number).to_vec(), folder.item(number))).collect())
    }

    /// What is in the directory at `path`, as it is kept: items are made of it one by one.
    pub(super) fn folder(&self, path: &[u8]) -> Result<Folder, Error> {
        match self {
            Self::Context(context) => match context.entry(path)? {
                Some(dir) => Ok(Folder::Disk(Arc::clone(context.list(dir)?))),
                None => Ok(Folder::Layers(Arc::default())),
            },
            Self::Layers(layers) => Ok(layers.folder(path)),
        }
    }

    /// What is in the directory that is the entry `number` of `folder`, which makes its path `path`.
    pub(super) fn subfolder(&self, folder: &Folder, number: usize, path: &[u8]) -> Result<Folder, Error> {
        match (self, folder) {
            (Self::Context(context), Folder::Disk(listing)) => {
                Ok(Folder::Disk(Arc::clone(context.list(listing.entry(number))?)))
            }
            _ => self.folder(path),
        }
    }

    /// Where `path` leads when every symlink in it is followed inside the root. What does not exist stays as it is.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        follow(path, |at| {
            Ok(match self.entry(at)?.map(|item| item.kind) {
                Some(ItemKind::Symlink(target)) => Step::Symlink(target.into()),
                Some(_) => Step::Other,
                None => Step::Nothing,
            })
        })
    }

    /// Reads everything below `path` from disk, in parallel, ahead of a walk over all of it.
    pub(super) fn preload(&self, path: &[u8]) -> Result<(), Error> {
        if let Self::Context(context) = self
            && let Some(dir) = context.entry(path)?
        {
            context.load(dir);
        }
        Ok(())
    }

    /// Digests of the regular files of `gathered`.
    pub(super) fn digests(&self, gathered: &Gathered) -> Result<Digests, Error> {
        match self {
            Self::Context(context) => {
                let entry =
                    |number| gathered.get(number).place().0.disk_entry(gathered.get(number).place().1);
                Ok(context.digests(gathered.len(), entry)?)
            }
            Self::Layers(layers) => {
                let items: Vec<Item> = gathered.iter().map(|picked| picked.item()).collect();
                let mut contents = layers.digests(&ranges(&items))?.into_iter();
                // Nobody asks for the digest of what is no regular file.
                let none = FileDigest { content: [0; 32], capability: None };
                let digest = |item: Item| match item.is_file().then(|| contents.next()).flatten() {
                    Some(content) => FileDigest { content, capability: item.capability },
                    None => none.clone(),
                };
                Ok(items.into_iter().map(digest).collect())
            }
        }
    }

    /// The digest of one regular file; `None` for anything else.
    pub(super) fn digest(&self, item: &Item) -> Result<Option<FileDigest>, Error> {
        match (self, &item.kind) {
            (Self::Context(context), ItemKind::File(Bytes::Disk(listed))) => {
                Ok(Some(context.digest(listed.entry())?))
            }
            (Self::Layers(layers), ItemKind::File(Bytes::Layer(range))) => {
                let capability = item.capability.clone();
                let content = layers.digests(&[*range])?.pop();
                Ok(content.map(|content| FileDigest { content, capability }))
            }
            _ => Ok(None),
        }
    }

    /// The bytes of the regular files of `gathered`, in their order. Files on disk are opened when they are written.
    pub(super) fn contents<'g>(
        &self,
        gathered: &'g Arc<Gathered>,
    ) -> Result<Box<dyn Iterator<Item = Content> + 'g>, Error> {
        match self {
            Self::Context(_) => {
                let files = gathered.iter().filter(Picked::is_file);
                Ok(Box::new(files.map(|picked| {
                    let (folder, index) = picked.place();
                    let size = folder.disk_entry(index).meta().size;
                    let files: Arc<dyn DiskFiles> = Arc::<Gathered>::clone(gathered);
                    Content::Disk(OnDisk::new(files, picked.number as u32, size))
                })))
            }
            Self::Layers(layers) => {
                let items: Vec<Item> = gathered.iter().map(|picked| picked.item()).collect();
                Ok(Box::new(layers.bytes.contents(&ranges(&items)).map_err(Error::Layers)?.into_iter()))
            }
        }
    }

    /// The bytes of one regular file, of which this digest is known; `None` for anything else.
    pub(super) fn content(&self, item: &Item, digest: Option<&FileDigest>) -> Result<Option<Content>, Error> {
        match (self, &item.kind) {
            (Self::Context(context), ItemKind::File(Bytes::Disk(listed))) => {
                let digest = digest.map(|digest| digest.content);
                let file = DiskFile { digest, ..disk_file(context, listed.entry()) };
                Ok(Some(Content::Disk(file.into())))
            }
            (Self::Layers(layers), ItemKind::File(Bytes::Layer(range))) => {
                let mut contents = layers.bytes.contents(&[*range]).map_err(Error::Layers)?;
                Ok(contents.pop())
            }
            _ => Ok(None),
        }
    }
}

/// What is in one directory of a tree, sorted by name. Cheap to clone.
#[derive(Clone)]
pub(super) enum Folder {
    /// On disk.
    Disk(Arc<Listing>),
    /// In layers: names, and what there is.
    Layers(Arc<[(Box<[u8]>, Item)]>),
}

impl Folder {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Disk(listing) => listing.len(),
            Self::Layers(items) => items.len(),
        }
    }

    /// The name of the entry with this number.
    pub(super) fn name(&self, number: usize) -> &[u8] {
        match self {
            Self::Disk(listing) => listing.entry(number).name(),
            Self::Layers(items) => &items[number].0,
        }
    }

    /// The entry itself.
    pub(super) fn item(&self, number: usize) -> Item {
        match self {
            Self::Disk(listing) => disk_item(listing.entry(number)),
            Self::Layers(items) => items[number].1.clone(),
        }
    }

    /// Whether the entry is a directory.
    pub(super) fn is_dir(&self, number: usize) -> bool {
        match self {
            Self::Disk(listing) => listing.entry(number).is_dir(),
            Self::Layers(items) => items[number].1.is_dir(),
        }
    }

    /// Whether the entry is a regular file.
    pub(super) fn is_file(&self, number: usize) -> bool {
        match self {
            Self::Disk(listing) => listing.entry(number).is_file(),
            Self::Layers(items) => items[number].1.is_file(),
        }
    }

    /// See [`Item::link`].
    pub(super) fn link(&self, number: usize) -> Option<(u64, u64)> {
        match self {
            Self::Disk(listing) => disk_link(listing.entry(number)),
            Self::Layers(items) => items[number].1.link,
        }
    }

    /// The entry of a context; folders of contexts hold no others.
    fn disk_entry(&self, number: usize) -> Entry<'_> {
        match self {
            Self::Disk(listing) => listing.entry(number),
            Self::Layers(_) => unreachable!("`FileTree::folder` makes folders on disk of contexts"),
        }
    }
}

impl LayerTree {
    /// One digest for each range, or an error: a file without one would be the same as another in a key.
    pub(super) fn digests(&self, wanted: &[Range]) -> Result<Vec<[u8; 32]>, Error> {
        let digests = self.bytes.digests(&self.view, wanted).map_err(Error::Layers)?;
        match digests.len() == wanted.len() {
            true => Ok(digests),
            false => Err(Error::Layers(io::Error::other("a layer gave fewer digests than it has files"))),
        }
    }

    fn folder(&self, path: &[u8]) -> Folder {
        let named = |entry: ViewEntry<'_>| (entry.name().into(), layer_item(entry));
        Folder::Layers(self.view.list(path).map(named).collect())
    }
}

pub(super) fn ranges(items: &[Item]) -> Vec<Range> {
    items
        .iter()
        .filter_map(|item| match item.kind {
            ItemKind::File(Bytes::Layer(range)) => Some(range),
            _ => None,
        })
        .collect()
}

/// Of a root without files nothing can be wanted.
struct NoBytes;

impl LayerBytes for NoBytes {
    fn digests(&self, _: &RootView, wanted: &[Range]) -> io::Result<Vec<[u8; 32]>> {
        if wanted.is_empty() { Ok(Vec::new()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn contents(&self, wanted: &[Range]) -> io::Result<Vec<Content>> {
        if wanted.is_empty() { Ok(Vec::new()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

fn disk_item(entry: Entry<'_>) -> Item {
    let meta = entry.meta();
    let kind = match entry.kind() {
        DiskKind::Directory => ItemKind::Directory,
        DiskKind::File => ItemKind::File(Bytes::Disk(entry.to_listed())),
        DiskKind::Symlink(target) => ItemKind::Symlink(target.into()),
        DiskKind::Fifo => ItemKind::Fifo,
        DiskKind::CharDevice(major, minor) => ItemKind::CharDevice(major, minor),
        DiskKind::BlockDevice(major, minor) => ItemKind::BlockDevice(major, minor),
    };
    let link = disk_link(entry);
    Item { kind, mode: meta.mode, uid: 0, gid: 0, mtime: meta.mtime.0, link, capability: None }
}

fn disk_link(entry: Entry<'_>) -> Option<(u64, u64)> {
    let meta = entry.meta();
    (meta.links > 1 && entry.is_file()).then_some((meta.device, meta.inode))
}

pub(super) fn layer_item(entry: ViewEntry<'_>) -> Item {
    let node = entry.node;
    let layer = entry.layer.unwrap_or(0);
    let kind = match node.kind {
        LayerKind::Directory => ItemKind::Directory,
        LayerKind::File { size, offset } => ItemKind::File(Bytes::Layer(Range { layer, offset, len: size })),
        LayerKind::Symlink(target) => ItemKind::Symlink(target.into()),
        LayerKind::Fifo => ItemKind::Fifo,
        LayerKind::CharDevice { major, minor } => ItemKind::CharDevice(major, minor),
        LayerKind::BlockDevice { major, minor } => ItemKind::BlockDevice(major, minor),
    };
    let is_linked = node.has_links && matches!(kind, ItemKind::File(_));
    let link = is_linked.then_some((layer as u64, node.inode));
    let mut attributes = node.xattrs.iter();
    let capability = attributes.find(|(name, _)| *name == CAPABILITY).map(|(_, value)| value.into());
    Item { kind, mode: node.mode, uid: node.uid, gid: node.gid, mtime: node.mtime, link, capability }
}

/// The one extended attribute that travels; BuildKit's differ drops all others.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// A file of `context`, and what it looked like when it was listed.
pub(super) fn disk_file(context: &Context, entry: Entry<'_>) -> DiskFile {
    let meta = entry.meta();
    DiskFile {
        root: Arc::clone(context.root().fd()),
        path: as_path(&entry.path()).to_owned(),
        size: meta.size,
        inode: meta.inode,
        device: meta.device,
        mtime: meta.mtime,
        ctime: meta.ctime,
        digest: None,
    }
}

/// What one step of [`follow`] meets.
pub(super) enum Step {
    Nothing,
    Symlink(Vec<u8>),
    Other,
}

/// Follows the symlinks of `path` inside a root; `look` tells what is at a path whose parents were seen before.
/// `..`, also in link targets, stops at the root.
pub(super) fn follow(
    path: &[u8],
    mut look: impl FnMut(&[u8]) -> Result<Step, Error>,
) -> Result<Vec<u8>, Error> {
    let mut left: Vec<Vec<u8>> = path::components(path).rev().map(<[u8]>::to_vec).collect();
    let mut at: Vec<u8> = Vec::new();
    // How many trailing components of `at` do not exist, so nothing below them needs to be looked at.
    let mut missing = 0_usize;
    let mut links = 0;
    while let Some(component) = left.pop() {
        if component == b"." {
            continue;
        }
        if component == b".." {
            at.truncate(path::split(&at).0.len());
            missing = missing.saturating_sub(1);
            continue;
        }
        let next = path::join(&at, &component);
        if missing > 0 {
            (at, missing) = (next, missing + 1);
            continue;
        }
        match look(&next)? {
            Step::Other => at = next,
            Step::Nothing => (at, missing) = (next, 1),
            Step::Symlink(target) => {
                links += 1;
                if links > SYMLINK_LIMIT {
                    return Err(Error::LinkLoop(shown(path)));
                }
                if target.starts_with(b"/") {
                    at.clear();
                }
                left.extend(path::components(&target).rev().map(<[u8]>::to_vec));
            }
        }
    }
    Ok(at)
}
