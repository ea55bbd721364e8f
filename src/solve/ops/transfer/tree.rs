//! The files that COPY and ADD take from, and that they land among: a context on disk, or a stack of layers.

use std::io;
use std::sync::Arc;

use super::error::{Error, shown};
use crate::context::scan::{Kind as DiskKind, Meta, Node};
use crate::context::{Context, FileDigest, path};
use crate::layer::entry::{Content, DiskFile};
use crate::layer::view::{Kind as LayerKind, RootView, ViewEntry};
use crate::oci::Seconds;

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
    /// Owner.
    pub uid: u32,
    /// Group.
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
    /// On disk, in the file that looked like this.
    Disk(Meta),
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

    /// What is at `path`, no symlink followed.
    pub fn entry(&self, path: &[u8]) -> Result<Option<Item>, Error> {
        Ok(match self {
            Self::Context(context) => context.entry(path)?.map(disk_item),
            Self::Layers(layers) => layers.view.entry(path).map(layer_item),
        })
    }

    /// What is in the directory at `path`, sorted by name; nothing if there is none.
    pub fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Item)>, Error> {
        Ok(match self {
            Self::Context(context) => {
                let Some(dir) = context.entry(path)? else { return Ok(Vec::new()) };
                let entries = context.list(dir, path)?;
                entries.iter().map(|entry| (entry.name().to_vec(), disk_item(entry))).collect()
            }
            Self::Layers(layers) => {
                layers.view.list(path).map(|entry| (entry.name().to_vec(), layer_item(entry))).collect()
            }
        })
    }

    /// Calls `visit` with the name and the item of everything in the directory at `path`, sorted by name.
    pub(super) fn visit(
        &self,
        path: &[u8],
        mut visit: impl FnMut(&[u8], Item) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Self::Context(context) => {
                let Some(dir) = context.entry(path)? else { return Ok(()) };
                let entries = context.list(dir, path)?;
                entries.iter().try_for_each(|entry| visit(entry.name(), disk_item(entry)))
            }
            Self::Layers(layers) => {
                layers.view.list(path).try_for_each(|entry| visit(entry.name(), layer_item(entry)))
            }
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
            context.load(dir, path);
        }
        Ok(())
    }

    /// Digests of regular files, in the order given: best that of a walk.
    pub(super) fn digests<P: AsRef<[u8]>>(&self, files: &[(P, &Item)]) -> Result<Vec<FileDigest>, Error> {
        match self {
            Self::Context(context) => {
                let files: Vec<(&[u8], &Meta)> = files
                    .iter()
                    .filter_map(|(path, item)| match &item.kind {
                        ItemKind::File(Bytes::Disk(meta)) => Some((path.as_ref(), meta)),
                        _ => None,
                    })
                    .collect();
                Ok(context.digests(&files)?)
            }
            Self::Layers(layers) => {
                let digests =
                    layers.bytes.digests(&layers.view, &ranges(files.iter().map(|(_, item)| *item)));
                let contents = digests.map_err(Error::Layers)?.into_iter();
                let digest = |(content, (_, item)): ([u8; 32], &(P, &Item))| FileDigest {
                    content,
                    capability: item.capability.clone(),
                };
                Ok(contents.zip(files).map(digest).collect())
            }
        }
    }

    /// The bytes of regular files, in the order given. Of files on disk each is described only when its turn comes, and
    /// opened when it is written.
    pub(super) fn contents<'c, P: AsRef<[u8]> + 'c>(
        &'c self,
        files: Vec<(P, &'c Item)>,
    ) -> Result<Box<dyn Iterator<Item = Content> + 'c>, Error> {
        match self {
            Self::Context(context) => {
                Ok(Box::new(files.into_iter().filter_map(|(path, item)| match &item.kind {
                    ItemKind::File(Bytes::Disk(meta)) => Some(disk_content(context, path.as_ref(), meta)),
                    _ => None,
                })))
            }
            Self::Layers(layers) => {
                let wanted = ranges(files.iter().map(|(_, item)| *item));
                Ok(Box::new(layers.bytes.contents(&wanted).map_err(Error::Layers)?.into_iter()))
            }
        }
    }
}

fn ranges<'i>(items: impl Iterator<Item = &'i Item>) -> Vec<Range> {
    items
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

fn disk_item(node: &Node) -> Item {
    let meta = node.meta();
    let kind = match node.kind() {
        DiskKind::Directory(_) => ItemKind::Directory,
        DiskKind::File => ItemKind::File(Bytes::Disk(*meta)),
        DiskKind::Symlink(target) => ItemKind::Symlink(target.clone()),
        DiskKind::Fifo => ItemKind::Fifo,
        DiskKind::CharDevice(major, minor) => ItemKind::CharDevice(*major, *minor),
        DiskKind::BlockDevice(major, minor) => ItemKind::BlockDevice(*major, *minor),
    };
    let is_linked = meta.links > 1 && matches!(kind, ItemKind::File(_));
    let link = is_linked.then_some((meta.device, meta.inode));
    Item { kind, mode: meta.mode, uid: 0, gid: 0, mtime: meta.mtime.0, link, capability: None }
}

fn layer_item(entry: ViewEntry<'_>) -> Item {
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

fn disk_content(context: &Context, path: &[u8], meta: &Meta) -> Content {
    Content::Disk(DiskFile {
        root: Arc::clone(context.root().fd()),
        path: std::path::PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path)),
        size: meta.size,
        inode: meta.inode,
        device: meta.device,
        mtime: meta.mtime,
        ctime: meta.ctime,
        digest: None,
    })
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
