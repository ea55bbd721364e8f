//! Where the members of an archive go, as docker's unpacker has it.

use std::collections::HashMap;

use super::Error;
use super::archive::{Data, Unpacked};
use super::copy_into::Transfer;
use super::error::shown;
use super::overlaid::{Attributes, Existing, Placed, PlacedKind, Seen};
use super::tree::{CAPABILITY, ItemKind, Step, follow};
use crate::context::path;
use crate::layer::archive::{self, Kind as MemberKind, Limits, Member, PATH_LIMIT};

/// Where the directories of an archive are, by their names in it; all of them exist. Without it each entry would cost
/// as much as the square of its name's length.
type Known = HashMap<Vec<u8>, Vec<u8>>;

/// An archive on its way to `root`.
struct Unpacking<'u> {
    root: &'u [u8],
    named: &'u [u8],
    bytes: &'u Data,
    known: Known,
}

impl Transfer<'_> {
    /// Unpacks into the destination, which always is a directory. `--chmod` has no effect.
    pub(super) fn archive(&mut self, named: &[u8], unpacked: Unpacked) -> Result<(), Error> {
        let root = self.files.resolve(&path::below_root(self.to))?;
        let made = self.attributes(0o755, 0, 0);
        self.files.make_directories(&root, &made)?;
        let Unpacked { members, bytes } = unpacked;
        let mut archive = Unpacking { root: &root, named, bytes: &bytes, known: Known::new() };
        // Each is dropped when it is in place, so that no name is in memory twice.
        for member in members {
            self.member(&mut archive, member)?;
            // With the directories that no archive names: an entry stands for as many as its name has components.
            let (entries, path_bytes) = self.files.held();
            let held = Limits::default().check(entries, path_bytes);
            held.map_err(|source| Error::Archive { path: shown(named), source })?;
        }
        Ok(())
    }

    /// As docker's unpacker does: only a directory on a directory is merged, everything else replaces what is
    /// there; symlinks on the way are followed as if the destination were `/`.
    fn member(&mut self, archive: &mut Unpacking<'_>, member: Member) -> Result<(), Error> {
        // Of the image's root nothing is in a layer.
        if member.path.is_empty() && archive.root.is_empty() {
            return Ok(());
        }
        let at = match member.path.is_empty() {
            true => archive.root.to_vec(),
            false => self.place(archive, &member)?,
        };
        let mut attributes = self.attributes(member.mode, member.uid, member.gid);
        attributes.mtime = Some(member.mtime);
        attributes.capability = member.xattrs.get(CAPABILITY).map(|value| value.as_slice().into());
        let is_directory = member.kind == MemberKind::Directory;
        match self.files.look(&at)? {
            // Ways may lead through what goes now.
            Seen::Directory(_) if !is_directory => archive.known = Known::new(),
            Seen::Symlink(_) => archive.known = Known::new(),
            Seen::Directory(_) | Seen::Nothing | Seen::Other(_) => {}
        }
        if is_directory {
            return self.member_directory(&at, attributes);
        }
        // A link to what goes now leads nowhere, or to another name of the same file.
        self.files.clear(&at)?;
        let kind = match member.kind {
            MemberKind::File { size } => PlacedKind::File(archive.bytes.content(member.offset, size)),
            MemberKind::Symlink(target) => PlacedKind::Symlink(target),
            MemberKind::HardLink(target) => {
                let to = self.member_path(archive, &target)?;
                let linked = self.hard_link(&to)?.ok_or_else(|| Error::DanglingHardLink {
                    archive: shown(archive.named),
                    link: shown(&at),
                    target: shown(&to),
                })?;
                attributes = linked.attributes;
                linked.kind
            }
            MemberKind::Fifo => PlacedKind::Fifo,
            MemberKind::CharDevice { major, minor } => PlacedKind::CharDevice(major, minor),
            MemberKind::BlockDevice { major, minor } => PlacedKind::BlockDevice(major, minor),
            // Read with literal names, no member is a mark; directories were handled above.
            MemberKind::Directory | MemberKind::Whiteout | MemberKind::Opaque => return Ok(()),
        };
        self.files.put(&at, kind, attributes)
    }

    /// Where a member goes. Parents that the archive does not name are made; they belong to root, whatever --chown says.
    fn place(&mut self, archive: &mut Unpacking<'_>, member: &Member) -> Result<Vec<u8>, Error> {
        let at = self.member_path(archive, &member.path)?;
        // Symlinks make names longer.
        if at.len() > PATH_LIMIT {
            let source = archive::Error::too_long(&member.path, member.offset, at.len());
            return Err(Error::Archive { path: shown(archive.named), source });
        }
        let named = path::split(&member.path).0;
        if !archive.known.contains_key(named) {
            let dir = path::split(&at).0;
            self.files.make_directories(dir, &Attributes::made(0o755, 0, 0))?;
            archive.known.insert(named.to_vec(), dir.to_vec());
        }
        Ok(at)
    }

    /// Where a path of an archive is when `root` is `/`: its last component is not followed.
    fn member_path(&self, archive: &Unpacking<'_>, member: &[u8]) -> Result<Vec<u8>, Error> {
        let (dir, name) = path::split(member);
        if let Some(dir) = archive.known.get(dir) {
            return Ok(path::join(dir, name));
        }
        let root = archive.root;
        let dir = follow(dir, |at| {
            Ok(match self.files.look(&path::join(root, at))? {
                Seen::Nothing => Step::Nothing,
                Seen::Symlink(target) => Step::Symlink(target),
                Seen::Directory(_) | Seen::Other(_) => Step::Other,
            })
        })?;
        Ok(path::join(&path::join(root, &dir), name))
    }

    /// Merged with a directory that is there, in place of anything else.
    fn member_directory(&mut self, at: &[u8], attributes: Attributes) -> Result<(), Error> {
        match self.files.look(at)? {
            Seen::Directory(_) | Seen::Nothing => {
                self.files.put_directory(at, attributes, Existing::Overwrite)
            }
            Seen::Symlink(_) | Seen::Other(_) => {
                self.files.clear(at)?;
                self.files.put_fresh_directory(at, attributes);
                Ok(())
            }
        }
    }

    /// A link to a file that this step brought stays one; one to a file of a lower layer becomes a copy, since a
    /// layer cannot link into another. Either way it is the same file, with the target's metadata. `None`: there
    /// is nothing that could be linked to.
    fn hard_link(&self, to: &[u8]) -> Result<Option<Placed>, Error> {
        if let Some(placed) = self.files.placed(to) {
            let kind = match &placed.kind {
                PlacedKind::File(_) => PlacedKind::HardLink(to.to_vec()),
                PlacedKind::Directory { .. } => return Ok(None),
                other => other.clone(),
            };
            return Ok(Some(Placed { kind, ..placed }));
        }
        let item = match self.files.look(to)? {
            Seen::Nothing | Seen::Directory(_) => None,
            Seen::Symlink(_) | Seen::Other(_) => self.parent.entry(to)?,
        };
        let Some(item) = item else { return Ok(None) };
        let kind = match &item.kind {
            ItemKind::File(_) => match self.parent.content(&item, None)? {
                Some(content) => PlacedKind::File(content),
                None => return Ok(None),
            },
            ItemKind::Symlink(target) => PlacedKind::Symlink(target.to_vec()),
            ItemKind::Fifo => PlacedKind::Fifo,
            ItemKind::CharDevice(major, minor) => PlacedKind::CharDevice(*major, *minor),
            ItemKind::BlockDevice(major, minor) => PlacedKind::BlockDevice(*major, *minor),
            ItemKind::Directory => return Ok(None),
        };
        let mut attributes = Attributes::made(item.mode, item.uid, item.gid);
        attributes.mtime = Some(item.mtime);
        attributes.capability = item.capability;
        Ok(Some(Placed { kind, attributes }))
    }
}
