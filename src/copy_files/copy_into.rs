//! Phase B: where the selected files go, and what else has to be made for them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Error;
use super::accounts::{Accounts, OwnerText};
use super::archive::{Scratch, unpack};
use super::chmod::ModeChange;
use super::error::shown;
use super::gather::{Gathered, Picked};
use super::overlaid::{Attributes, Existing, Overlaid, PlacedKind, Seen};
use super::select::{Pick, Selected, What};
use super::tree::{FileTree, Item, ItemKind};
use crate::context::{FileDigest, path};
use crate::layer::entry::{Content, Entry};
use crate::oci::Seconds;
use crate::plan::graph::CopyOp;

/// What a step copies into.
pub struct Destination<'a> {
    /// The files that the step starts from; not looked at under `--link`.
    pub parent: &'a FileTree,
    /// The time of the parent step.
    pub parent_time: Seconds,
    /// The parent's account files.
    pub accounts: &'a Accounts<'a>,
    /// Where the data of archives is kept until the layer is written.
    pub scratch: &'a Scratch<'a>,
}

/// What a step adds to its parent.
#[derive(Debug)]
pub struct Outcome {
    /// The layer's entries, sorted by path; no directory that stays as it is.
    pub entries: Vec<Entry>,
    /// The step's time: SOURCE_DATE_EPOCH if given, else the newest of the parent's time and the mtimes of the
    /// files that were brought.
    pub time: Seconds,
    /// What was not as the instruction says, in words.
    pub warnings: Vec<String>,
}

/// Whether `op` really is independent of its parent: `--chmod` switches `--link` off, as in BuildKit.
pub fn is_linked<R>(op: &CopyOp<R>) -> bool {
    op.link && op.chmod.is_none()
}

/// Puts what was selected into the destination.
pub fn copy_into<R>(
    selected: &Selected,
    op: &CopyOp<R>,
    destination: &Destination<'_>,
) -> Result<Outcome, Error> {
    let empty = FileTree::empty();
    let parent = if is_linked(op) { &empty } else { destination.parent };
    let mut transfer = Transfer {
        files: Overlaid::new(parent),
        parent,
        to: op.destination.as_bytes(),
        owner: owner(op, destination.accounts)?,
        mode: Selected::mode_change(op)?,
        inodes: HashMap::new(),
    };
    for pick in &selected.picks {
        transfer.pick(pick, destination.scratch)?;
    }
    let time = op.epoch.unwrap_or_else(|| transfer.files.time(destination.parent_time));
    let warnings = unknown_owner(op, destination.accounts)?;
    Ok(Outcome { entries: transfer.files.finish(time, op.epoch), time, warnings })
}

fn unknown_owner<R>(op: &CopyOp<R>, accounts: &Accounts<'_>) -> Result<Vec<String>, Error> {
    let Some(written) = &op.chown else { return Ok(Vec::new()) };
    let unknown = OwnerText::new(written).unknown(accounts);
    unknown.map_err(|source| Error::Accounts { owner: written.clone(), source })
}

fn owner<R>(op: &CopyOp<R>, accounts: &Accounts<'_>) -> Result<Option<(u32, u32)>, Error> {
    let Some(written) = &op.chown else { return Ok(None) };
    let owner = OwnerText::new(written);
    if is_linked(op) && owner.has_names() {
        return Err(Error::LinkOwner(written.clone()));
    }
    let resolved = owner.resolve(accounts);
    resolved.map(Some).map_err(|source| Error::Accounts { owner: written.clone(), source })
}

pub(super) struct Transfer<'t> {
    pub(super) files: Overlaid<'t>,
    pub(super) parent: &'t FileTree,
    /// The destination as in the op.
    pub(super) to: &'t [u8],
    owner: Option<(u32, u32)>,
    mode: ModeChange,
    /// Where the first name of each hard-linked file of the current pick went.
    inodes: HashMap<(u64, u64), Vec<u8>>,
}

impl Transfer<'_> {
    fn pick(&mut self, pick: &Pick, scratch: &Scratch<'_>) -> Result<(), Error> {
        self.inodes.clear();
        if let (What::Archive(item, digest), Some(tree)) = (&pick.what, &pick.tree) {
            let unpacked = unpack(tree, &pick.base, (item, digest), scratch)?;
            return self.archive(&pick.named, unpacked);
        }
        let made = self.made_directory();
        let to = path::below_root(self.to);
        // A destination written with a slash is made as a directory first, any other only its parent.
        let first = if self.to.ends_with(b"/") { to.as_slice() } else { path::split(&to).0 };
        let first = self.files.resolve(first)?;
        self.files.make_directories(&first, &made)?;
        let target = self.files.resolve(&to)?;
        match &pick.what {
            What::Directory { own, entries } => self.directory(pick, own.as_ref(), entries, &target),
            What::File(item, digest) => self.single(pick, item, digest.as_ref(), target),
            What::Inline(bytes) => {
                let attributes = self.attributes(self.mode.apply(0o644, false), 0, 0);
                let target = self.file_target(target, &pick.name)?;
                self.files.put(&target, PlacedKind::File(Content::Bytes(bytes.clone())), attributes)
            }
            // Handled above: an archive always has a tree.
            What::Archive(..) => Ok(()),
        }
    }

    /// A file onto `target`, or into it if it is a directory.
    fn single(
        &mut self,
        pick: &Pick,
        item: &Item,
        digest: Option<&FileDigest>,
        target: Vec<u8>,
    ) -> Result<(), Error> {
        let target = self.file_target(target, &pick.name)?;
        let content = match &pick.tree {
            Some(tree) => tree.content(item, digest)?,
            None => None,
        };
        self.item(&target, item, digest, content)
    }

    fn file_target(&mut self, target: Vec<u8>, name: &[u8]) -> Result<Vec<u8>, Error> {
        let target = match self.files.look(&target)? {
            Seen::Directory(_) => path::join(&target, name),
            Seen::Nothing | Seen::Symlink(_) | Seen::Other(_) => target,
        };
        let made = self.made_directory();
        self.files.make_directories(path::split(&target).0, &made)?;
        Ok(target)
    }

    /// What a directory holds, into `target`.
    fn directory(
        &mut self,
        pick: &Pick,
        own: Option<&Item>,
        entries: &Arc<Gathered>,
        target: &[u8],
    ) -> Result<(), Error> {
        let made = self.made_directory();
        match (self.files.look(target)?, own) {
            (Seen::Directory(_), _) => {}
            (Seen::Other(is), _) => return Err(Error::NotADirectory { path: shown(target), is }),
            (Seen::Nothing | Seen::Symlink(_), None) => self.files.make_directories(target, &made)?,
            (Seen::Nothing | Seen::Symlink(_), Some(own)) => {
                self.files.make_directories(path::split(target).0, &made)?;
                let attributes = self.attributes(self.mode.apply(own.mode, true), own.uid, own.gid);
                self.files.put_directory(target, attributes, Existing::Overwrite)?;
            }
        }
        let Some(tree) = &pick.tree else { return Ok(()) };
        let mut contents = tree.contents(entries)?;
        for picked in entries.iter() {
            let at = path::join(target, &picked.path());
            let content = if picked.is_file() { contents.next() } else { None };
            if picked.is_dir() {
                self.subdirectory(&at, picked)?;
            } else {
                self.item(&at, &picked.item(), picked.digest().as_ref(), content)?;
            }
        }
        Ok(())
    }

    /// A directory inside a copied one brings its mode and owner, also to a directory that is there; one that
    /// is only passed through brings its mode.
    fn subdirectory(&mut self, at: &[u8], picked: Picked<'_>) -> Result<(), Error> {
        let Item { mode, uid, gid, .. } = picked.item();
        let exists = matches!(self.files.look(at)?, Seen::Directory(_));
        if picked.is_only_as_parent() && exists {
            let attributes = Attributes::made(mode, uid, gid);
            return self.files.put_directory(at, attributes, Existing::OverwriteMode);
        }
        let attributes = self.attributes(self.mode.apply(mode, true), uid, gid);
        self.files.put_directory(at, attributes, Existing::Overwrite)
    }

    /// Anything but a directory at exactly `at`.
    fn item(
        &mut self,
        at: &[u8],
        item: &Item,
        digest: Option<&FileDigest>,
        content: Option<Content>,
    ) -> Result<(), Error> {
        let kind = match (&item.kind, content) {
            (ItemKind::File(_), Some(content)) => self.link_or(at, item, PlacedKind::File(content)),
            (ItemKind::Symlink(target), _) => PlacedKind::Symlink(target.to_vec()),
            (ItemKind::Fifo, _) => PlacedKind::Fifo,
            (ItemKind::CharDevice(major, minor), _) => PlacedKind::CharDevice(*major, *minor),
            (ItemKind::BlockDevice(major, minor), _) => PlacedKind::BlockDevice(*major, *minor),
            // Directories go elsewhere, and every regular file comes with its content.
            (ItemKind::Directory | ItemKind::File(_), _) => return Ok(()),
        };
        let is_symlink = matches!(kind, PlacedKind::Symlink(_));
        let mode = if is_symlink { 0o777 } else { self.mode.apply(item.mode, false) };
        let mut attributes = self.attributes(mode, item.uid, item.gid);
        attributes.mtime = Some(item.mtime);
        attributes.capability = digest.and_then(|digest| digest.capability.clone());
        self.files.put(at, kind, attributes)
    }

    /// A second name of a file that this pick brought already is a hard link to the first.
    fn link_or(&mut self, at: &[u8], item: &Item, kind: PlacedKind) -> PlacedKind {
        let Some(inode) = item.link else { return kind };
        match self.inodes.get(&inode) {
            Some(first) if first != at => PlacedKind::HardLink(first.clone()),
            _ => {
                self.inodes.insert(inode, at.to_vec());
                kind
            }
        }
    }

    /// `--chown` overrides the owner.
    pub(super) fn attributes(&self, mode: u32, uid: u32, gid: u32) -> Attributes {
        let (uid, gid) = self.owner.unwrap_or((uid, gid));
        Attributes::made(mode, uid, gid)
    }

    fn made_directory(&self) -> Attributes {
        self.attributes(self.mode.made_directory(), 0, 0)
    }
}
