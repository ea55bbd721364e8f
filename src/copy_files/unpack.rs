//! Where the members of an archive land, as docker's unpacker has it.

use super::Error;
use super::archive::Unpacked;
use super::error::shown;
use super::land::Transfer;
use super::landing::{Attributes, Existing, Landed, LandedKind, Seen};
use super::tree::{CAPABILITY, ItemKind, Step, follow};
use crate::context::path;
use crate::layer::archive::{Kind as MemberKind, Member};

impl Transfer<'_> {
    /// Unpacks into the destination, which always is a directory. `--chmod` has no effect.
    pub(super) fn archive(&mut self, named: &[u8], unpacked: &Unpacked) -> Result<(), Error> {
        let root = self.landing.resolve(&path::below_root(self.to))?;
        let made = self.attributes(0o755, 0, 0);
        self.landing.make_directories(&root, &made)?;
        for member in &unpacked.members {
            self.member(&root, named, member, unpacked)?;
        }
        Ok(())
    }

    /// As docker's unpacker does: only a directory on a directory is merged, everything else replaces what is
    /// there; symlinks on the way are followed as if the destination were `/`.
    fn member(
        &mut self,
        root: &[u8],
        named: &[u8],
        member: &Member,
        unpacked: &Unpacked,
    ) -> Result<(), Error> {
        if member.path.is_empty() {
            return Ok(());
        }
        let at = self.member_path(root, &member.path)?;
        // Parents that the archive does not name belong to root, whatever --chown says.
        self.landing.make_directories(path::split(&at).0, &Attributes::made(0o755, 0, 0))?;
        let mut attributes = self.attributes(member.mode, member.uid, member.gid);
        attributes.mtime = Some(member.mtime);
        attributes.capability = member.xattrs.get(CAPABILITY).map(|value| value.as_slice().into());
        if member.kind == MemberKind::Directory {
            return self.member_directory(&at, attributes);
        }
        let kind = match &member.kind {
            MemberKind::File { size } => LandedKind::File(unpacked.content(member, *size)),
            MemberKind::Symlink(target) => LandedKind::Symlink(target.clone()),
            MemberKind::HardLink(target) => {
                let to = self.member_path(root, target)?;
                let linked = self.hard_link(&to)?.ok_or_else(|| Error::DanglingHardLink {
                    archive: shown(named),
                    link: shown(&at),
                    target: shown(&to),
                })?;
                attributes = linked.attributes;
                linked.kind
            }
            MemberKind::Fifo => LandedKind::Fifo,
            MemberKind::CharDevice { major, minor } => LandedKind::CharDevice(*major, *minor),
            MemberKind::BlockDevice { major, minor } => LandedKind::BlockDevice(*major, *minor),
            // Read with literal names, no member is one of these; directories were handled above.
            MemberKind::Directory | MemberKind::Whiteout | MemberKind::Opaque => return Ok(()),
        };
        self.landing.clear(&at)?;
        self.landing.put(&at, kind, attributes)
    }

    /// Where a path of an archive is when `root` is `/`: its last component is not followed.
    fn member_path(&self, root: &[u8], member: &[u8]) -> Result<Vec<u8>, Error> {
        let (dir, name) = path::split(member);
        let dir = follow(dir, |at| {
            Ok(match self.landing.look(&path::join(root, at))? {
                Seen::Nothing => Step::Nothing,
                Seen::Symlink(target) => Step::Symlink(target),
                Seen::Directory(_) | Seen::Other(_) => Step::Other,
            })
        })?;
        Ok(path::join(&path::join(root, &dir), name))
    }

    /// Merged with a directory that is there, in place of anything else.
    fn member_directory(&mut self, at: &[u8], attributes: Attributes) -> Result<(), Error> {
        match self.landing.look(at)? {
            Seen::Directory(_) | Seen::Nothing => {
                self.landing.put_directory(at, attributes, Existing::Overwrite)
            }
            Seen::Symlink(_) | Seen::Other(_) => {
                self.landing.clear(at)?;
                self.landing.put_fresh_directory(at, attributes);
                Ok(())
            }
        }
    }

    /// A link to a file that this step brought stays one; one to a file of a lower layer becomes a copy, since a
    /// layer cannot link into another. Either way it is the same file, with the target's metadata. `None`: there
    /// is nothing that could be linked to.
    fn hard_link(&self, to: &[u8]) -> Result<Option<Landed>, Error> {
        if let Some(landed) = self.landing.landed(to) {
            let kind = match &landed.kind {
                LandedKind::File(_) => LandedKind::HardLink(to.to_vec()),
                LandedKind::Directory { .. } => return Ok(None),
                other => other.clone(),
            };
            return Ok(Some(Landed { kind, ..landed }));
        }
        let item = match self.landing.look(to)? {
            Seen::Nothing | Seen::Directory(_) => None,
            Seen::Symlink(_) | Seen::Other(_) => self.parent.entry(to)?,
        };
        let Some(item) = item else { return Ok(None) };
        let kind = match &item.kind {
            ItemKind::File(_) => match self.parent.content(&item, None)? {
                Some(content) => LandedKind::File(content),
                None => return Ok(None),
            },
            ItemKind::Symlink(target) => LandedKind::Symlink(target.to_vec()),
            ItemKind::Fifo => LandedKind::Fifo,
            ItemKind::CharDevice(major, minor) => LandedKind::CharDevice(*major, *minor),
            ItemKind::BlockDevice(major, minor) => LandedKind::BlockDevice(*major, *minor),
            ItemKind::Directory => return Ok(None),
        };
        let mut attributes = Attributes::made(item.mode, item.uid, item.gid);
        attributes.mtime = Some(item.mtime);
        attributes.capability = item.capability;
        Ok(Some(Landed { kind, attributes }))
    }
}
