//! Which inodes an image has: what the unpacker would make a tree of, told from indexes.

use std::collections::{BTreeMap, HashMap};

use super::Unfit;
use crate::layer::archive::split;
use crate::layer::index::{self, Index, Node, What};
use crate::layer::view::{Change, RootView, ViewEntry, changes, hides_something};
use crate::oci::Seconds;

/// The mark of a directory that hides the lower ones of its name.
const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// Something in an image.
#[derive(Debug)]
pub(super) struct Inode<'p> {
    pub(super) kind: Kind<'p>,
    /// Permission bits, `0o7777`.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Seconds,
    /// How many names it has; for a directory those in itself and below count, too.
    pub(super) links: u32,
    pub(super) xattrs: Vec<(&'p [u8], &'p [u8])>,
}

/// What an [`Inode`] is.
#[derive(Debug)]
pub(super) enum Kind<'p> {
    /// Its parent's place among the inodes, and what is in it, sorted by name.
    Directory {
        parent: usize,
        children: Vec<(&'p [u8], usize)>,
    },
    /// A file whose data begin at `offset` in the tar.
    File {
        size: u64,
        offset: u64,
    },
    Symlink(&'p [u8]),
    Fifo,
    /// Its number as the kernel writes it down.
    Device {
        is_block: bool,
        number: u32,
    },
}

impl Kind<'_> {
    /// The type bits of a mode.
    pub(super) fn file_type(&self) -> u32 {
        match self {
            Kind::Directory { .. } => 0o040_000,
            Kind::File { .. } => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
            Kind::Fifo => 0o010_000,
            Kind::Device { is_block: true, .. } => 0o060_000,
            Kind::Device { is_block: false, .. } => 0o020_000,
        }
    }

    /// The type as directories write it down (`FT_*` of `linux/fs_types.h`).
    pub(super) fn entry_type(&self) -> u8 {
        match self {
            Kind::File { .. } => 1,
            Kind::Directory { .. } => 2,
            Kind::Device { is_block: false, .. } => 3,
            Kind::Device { is_block: true, .. } => 4,
            Kind::Fifo => 5,
            Kind::Symlink(_) => 7,
        }
    }
}

/// What is at a path of the tree.
#[derive(Clone, Copy)]
enum Found<'p> {
    Node(Node<'p>, Mark),
    Whiteout,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Opaque,
}

/// The inodes of `layer` on `below`, the root first; `merged` is what both make together.
pub(super) fn inodes<'p>(
    below: &RootView,
    layer: &'p Index,
    merged: &'p RootView,
) -> Result<Vec<Inode<'p>>, Unfit> {
    let mut found = BTreeMap::new();
    let changes = changes(below, layer);
    let opaque: Vec<&[u8]> =
        changes.iter().filter(|change| change.is_opaque).map(|change| &*change.path).collect();
    for change in &changes {
        if change.is_moved {
            return Err(Unfit::MovedBelow);
        }
        let path = layer.path(change.record as usize);
        if let Some(here) = at(below, merged, change, &opaque)? {
            imply_parents(&mut found, merged, path)?;
            found.insert(path, here);
        }
    }
    Numbering::new(directory(merged, b"")?).all(found)
}

/// What a change puts into the tree.
fn at<'p>(
    below: &RootView,
    merged: &'p RootView,
    change: &Change<'p>,
    opaque: &[&[u8]],
) -> Result<Option<Found<'p>>, Unfit> {
    let mark = match change.is_opaque && below.entry(&change.path).is_some_and(|entry| entry.is_dir()) {
        true => Mark::Opaque,
        false => Mark::None,
    };
    Ok(match change.what {
        _ if change.path.is_empty() => return Err(Unfit::OpaqueRoot),
        What::LowerLink(_) => return Err(Unfit::LowerLink),
        What::Whiteout => hides_something(below, change, opaque).then_some(Found::Whiteout),
        What::Implied => Some(Found::Node(directory(merged, &change.path)?, mark)),
        What::Node(node) if node.kind == index::Kind::Directory => Some(Found::Node(node, mark)),
        What::Node(node) => Some(Found::Node(node, Mark::None)),
    })
}

/// A directory that the layer does not name looks as it does below.
fn directory<'p>(merged: &'p RootView, path: &[u8]) -> Result<Node<'p>, Unfit> {
    let entry = merged.entry(path).filter(ViewEntry::is_dir);
    entry.map(|entry| entry.node).ok_or(Unfit::NoParent)
}

fn imply_parents<'p>(
    found: &mut BTreeMap<&'p [u8], Found<'p>>,
    merged: &'p RootView,
    path: &'p [u8],
) -> Result<(), Unfit> {
    let mut parent = split(path).0;
    while !parent.is_empty() {
        match found.get(parent) {
            Some(Found::Node(node, _)) if node.kind == index::Kind::Directory => return Ok(()),
            Some(_) => return Err(Unfit::NoParent),
            None => found.insert(parent, Found::Node(directory(merged, parent)?, Mark::None)),
        };
        parent = split(parent).0;
    }
    Ok(())
}

/// Gives every inode its place, and every name to its directory.
struct Numbering<'p> {
    inodes: Vec<Inode<'p>>,
    directories: HashMap<&'p [u8], usize>,
    /// Files of several names.
    linked: HashMap<u64, usize>,
}

impl<'p> Numbering<'p> {
    fn new(root: Node<'p>) -> Self {
        let root = inode(&root, Kind::Directory { parent: 0, children: Vec::new() }, 2);
        Self { inodes: vec![root], directories: HashMap::from([(&b""[..], 0)]), linked: HashMap::new() }
    }

    fn all(mut self, found: BTreeMap<&'p [u8], Found<'p>>) -> Result<Vec<Inode<'p>>, Unfit> {
        for (path, found) in found {
            let (parent, name) = split(path);
            // Parents are in the map, and come before what they hold.
            let parent = *self.directories.get(parent).ok_or(Unfit::NoParent)?;
            let own = self.place(path, parent, found)?;
            let is_directory = matches!(self.inodes[own].kind, Kind::Directory { .. });
            let holder = &mut self.inodes[parent];
            holder.links += u32::from(is_directory);
            if let Kind::Directory { children, .. } = &mut holder.kind {
                children.push((name, own));
            }
        }
        Ok(self.inodes)
    }

    /// The place of what is at `path`.
    fn place(&mut self, path: &'p [u8], parent: usize, found: Found<'p>) -> Result<usize, Unfit> {
        let next = self.inodes.len();
        let inode = match found {
            Found::Whiteout => whiteout(),
            Found::Node(node, mark) if node.kind == index::Kind::Directory => {
                self.directories.insert(path, next);
                let mut own = inode(&node, Kind::Directory { parent, children: Vec::new() }, 2);
                own.xattrs = node.xattrs.iter().collect();
                own.xattrs.extend((mark == Mark::Opaque).then_some(OPAQUE));
                own
            }
            Found::Node(node, _) => {
                if node.has_links {
                    let own = *self.linked.entry(node.inode).or_insert(next);
                    if own != next {
                        self.inodes[own].links += 1;
                        return Ok(own);
                    }
                }
                other(&node)?
            }
        };
        self.inodes.push(inode);
        Ok(next)
    }
}

fn inode<'p>(node: &Node<'p>, kind: Kind<'p>, links: u32) -> Inode<'p> {
    let Node { mode, uid, gid, mtime, .. } = *node;
    Inode { kind, mode, uid, gid, mtime, links, xattrs: Vec::new() }
}

fn whiteout<'p>() -> Inode<'p> {
    let kind = Kind::Device { is_block: false, number: 0 };
    Inode { kind, mode: 0o600, uid: 0, gid: 0, mtime: 0, links: 1, xattrs: Vec::new() }
}

/// What is no directory. Only files carry attributes, as in trees.
fn other<'p>(node: &Node<'p>) -> Result<Inode<'p>, Unfit> {
    let kind = match node.kind {
        index::Kind::File { size, offset } => Kind::File { size, offset },
        index::Kind::Symlink(target) => Kind::Symlink(target),
        index::Kind::Fifo | index::Kind::Directory => Kind::Fifo,
        index::Kind::CharDevice { major, minor } => {
            Kind::Device { is_block: false, number: device(major, minor)? }
        }
        index::Kind::BlockDevice { major, minor } => {
            Kind::Device { is_block: true, number: device(major, minor)? }
        }
    };
    let mut own = inode(node, kind, 1);
    match own.kind {
        Kind::File { .. } => own.xattrs = node.xattrs.iter().collect(),
        Kind::Symlink(_) => own.mode = 0o777,
        _ => {}
    }
    Ok(own)
}

/// 12 bits for the major number, 20 for the minor one around them.
fn device(major: u32, minor: u32) -> Result<u32, Unfit> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(Unfit::Device { major, minor });
    }
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}
