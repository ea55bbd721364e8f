//! Puts entries into the tree as they come: everything but whiteouts and the metadata of directories, which
//! follow when the whole layer is known.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};

use super::tree::{Metadata, Spot, as_path, failed, is_device, set_device, set_metadata};
use super::{Note, OpenLower, Owners, UnpackError, UnpackOptions};
use crate::layer::archive::{self, Kind, Member, Problem, Reader, join, split};
use crate::layer::index::{self, Builder, Link, Placement};
use crate::layer::view::{ResolvedPath, RootView, ViewEntry};
use crate::rootfs::{RecordedDevice, Root, Symlinks};

const COPY_BUFFER_BYTES: usize = 128 * 1024;

pub(super) struct Unpacker<'u> {
    pub(super) dest: &'u Root,
    pub(super) below: &'u RootView,
    pub(super) options: UnpackOptions,
    pub(super) notes: Vec<Note>,
    pub(super) hidden: Vec<Vec<u8>>,
    /// Directories made so far, by their paths in the tree.
    pub(super) made: BTreeSet<Vec<u8>>,
    /// The bytes of all paths that were ever in `made`: through symlinks of lower layers there may be more than the names
    /// of the layer stand for.
    made_bytes: u64,
    /// Where devices would be that may not be made here.
    unmade: HashSet<Vec<u8>>,
    /// Where directories of the layer land in the tree.
    placements: HashMap<Vec<u8>, Vec<u8>>,
    /// The directory of the last entry: its path in the tree, open.
    parent: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'u> Unpacker<'u> {
    pub(super) fn new(dest: &'u Root, below: &'u RootView, options: UnpackOptions) -> Self {
        Self {
            dest,
            below,
            options,
            notes: Vec::new(),
            hidden: Vec::new(),
            made: BTreeSet::new(),
            made_bytes: 0,
            unmade: HashSet::new(),
            placements: HashMap::new(),
            parent: None,
            buffer: vec![0; COPY_BUFFER_BYTES],
        }
    }

    /// Puts one entry into the tree; `placement` is what `builder` made of it.
    pub(super) fn apply(
        &mut self,
        member: &Member,
        placement: &Placement,
        builder: &Builder,
        reader: &mut Reader<impl Read>,
        open_lower: &mut OpenLower<'_>,
    ) -> Result<(), UnpackError> {
        if matches!(member.kind, Kind::Whiteout | Kind::Opaque) {
            return Ok(());
        }
        let path = self.place(&placement.path, builder);
        if member.kind == Kind::Directory {
            return self.make_directory(&path, &placement.path);
        }
        self.forget_below(&path);
        if !matches!(&placement.link, Some(Link::Here(target)) if *target == placement.path) {
            self.unmade.remove(&path);
        }
        match (&member.kind, &placement.link) {
            (Kind::HardLink(_), Some(Link::Here(target))) => {
                let target = self.place(target, builder);
                self.link(&path, &target, member)
            }
            (Kind::HardLink(_), Some(Link::Lower(target))) => {
                self.copy_lower(&path, target, member, open_lower)
            }
            (Kind::File { .. }, _) => self.file(&path, member, reader),
            (kind, _) => self.special(&path, kind, &metadata(member)),
        }
    }

    fn file(
        &mut self,
        path: &[u8],
        member: &Member,
        reader: &mut Reader<impl Read>,
    ) -> Result<(), UnpackError> {
        let root = self.dest;
        let mut file = File::from(self.spot(path)?.create_file(root)?);
        let mut data = reader.data();
        loop {
            let count = match data.read(&mut self.buffer) {
                Ok(count) => count,
                Err(source) => return Err(archive::Error::Read { offset: member.offset, source }.into()),
            };
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count]).map_err(failed("write", path))?;
        }
        set_metadata(&file, path, &metadata(member), self.options.owners, &mut self.notes)
    }

    /// A symlink, pipe or device.
    fn special(&mut self, path: &[u8], kind: &Kind, metadata: &Metadata<'_>) -> Result<(), UnpackError> {
        let (root, owners) = (self.dest, self.options.owners);
        let spot = self.spot(path)?;
        let (file_type, dev) = match kind {
            Kind::Symlink(target) => {
                spot.symlink(root, target)?;
                (FileType::Symlink, (0, 0))
            }
            Kind::CharDevice { major, minor } => (FileType::CharacterDevice, (*major, *minor)),
            Kind::BlockDevice { major, minor } => (FileType::BlockDevice, (*major, *minor)),
            _ => (FileType::Fifo, (0, 0)),
        };
        let is_symlink = file_type == FileType::Symlink;
        if !is_symlink && !spot.node(root, file_type, dev)? {
            if owners == Owners::Record {
                let is_block = file_type == FileType::BlockDevice;
                let device = RecordedDevice { is_block, major: dev.0, minor: dev.1 };
                let file = spot.create_file(root)?;
                return set_device(&file, path, metadata, device, &mut self.notes);
            }
            self.leave_out(path);
            return Ok(());
        }
        let mut notes = Vec::new();
        spot.set_metadata(metadata, is_symlink, owners, &mut notes)?;
        self.notes.append(&mut notes);
        Ok(())
    }

    fn leave_out(&mut self, device: &[u8]) {
        self.unmade.insert(device.to_vec());
        self.notes.push(Note::Device { path: device.to_vec() });
    }

    /// Another name of a file of this layer. The header's metadata are the file's from now on.
    fn link(&mut self, path: &[u8], target: &[u8], member: &Member) -> Result<(), UnpackError> {
        if path == target {
            return Ok(());
        }
        if self.unmade.contains(target) {
            self.leave_out(path);
            return Ok(());
        }
        let (root, owners) = (self.dest, self.options.owners);
        let target_parent = self.open_parent(split(target).0)?;
        let target = Spot { parent: &target_parent, path: target };
        let spot = self.spot(path)?;
        spot.link(root, &target)?;
        if !spot.is(FileType::RegularFile) {
            // A symlink or device: nothing but its owner and time could differ, and opening it may do harm.
            return Ok(());
        }
        let file = root.open_file(as_path(path)).map_err(failed("open", path))?;
        if owners == Owners::Record && is_device(&file) {
            return Ok(());
        }
        set_metadata(&file, path, &metadata(member), owners, &mut self.notes)
    }

    /// A hard link to a file of a lower layer becomes a copy of it: a tree cannot link into another.
    fn copy_lower(
        &mut self,
        path: &[u8],
        target: &[u8],
        member: &Member,
        open_lower: &mut OpenLower<'_>,
    ) -> Result<(), UnpackError> {
        let real = self.below.resolve(target, false).ok().filter(ResolvedPath::exists);
        let entry = real.as_ref().and_then(|found| self.below.entry(&found.existing));
        let Some(entry) = entry.filter(|entry| !entry.is_dir()) else {
            return Err(dangling(member, target).into());
        };
        let metadata = entry_metadata(&entry);
        match entry.node.kind {
            index::Kind::File { .. } => self.copy_file(path, &entry, &metadata, open_lower),
            index::Kind::Symlink(target) => self.special(path, &Kind::Symlink(target.to_vec()), &metadata),
            index::Kind::CharDevice { major, minor } => {
                self.special(path, &Kind::CharDevice { major, minor }, &metadata)
            }
            index::Kind::BlockDevice { major, minor } => {
                self.special(path, &Kind::BlockDevice { major, minor }, &metadata)
            }
            index::Kind::Fifo | index::Kind::Directory => self.special(path, &Kind::Fifo, &metadata),
        }
    }

    fn copy_file(
        &mut self,
        path: &[u8],
        entry: &ViewEntry<'_>,
        metadata: &Metadata<'_>,
        open_lower: &mut OpenLower<'_>,
    ) -> Result<(), UnpackError> {
        let root = self.dest;
        let mut lower = open_lower(entry).map_err(failed("open the lower file", entry.path))?;
        let mut file = File::from(self.spot(path)?.create_file(root)?);
        io::copy(&mut lower, &mut file).map_err(failed("copy a lower file to", path))?;
        set_metadata(&file, path, metadata, self.options.owners, &mut self.notes)
    }

    fn make_directory(&mut self, path: &[u8], layer_path: &[u8]) -> Result<(), UnpackError> {
        if self.made.insert(path.to_vec()) {
            let root = self.dest;
            self.spot(path)?.directory(root)?;
        }
        // It replaces a lower symlink, through which earlier lookups may have gone.
        let below = self.below.entry(path).map(|entry| entry.node.kind);
        if matches!(below, Some(index::Kind::Symlink(_))) || self.placements.contains_key(layer_path) {
            self.placements.clear();
        }
        Ok(())
    }

    /// Where something of the layer lands in the tree: its parent may be reached through a lower symlink.
    fn place(&mut self, path: &[u8], builder: &Builder) -> Vec<u8> {
        let (parent, name) = split(path);
        join(&self.placement(parent, builder), name)
    }

    fn placement(&mut self, dir: &[u8], builder: &Builder) -> Vec<u8> {
        if dir.is_empty() {
            return Vec::new();
        }
        if let Some(known) = self.placements.get(dir) {
            return known.clone();
        }
        let at = self.place(dir, builder);
        let lower = if builder.replaces_lower(dir) { None } else { self.below.entry(&at) };
        let found = match lower.map(|entry| entry.node.kind) {
            Some(index::Kind::Symlink(_)) => {
                self.below.resolve(&at, true).map_or(at, |resolved| resolved.path())
            }
            _ => at,
        };
        self.placements.insert(dir.to_vec(), found.clone());
        found
    }

    /// A name in its directory, which is made if need be.
    fn spot<'s>(&'s mut self, path: &'s [u8]) -> Result<Spot<'s>, UnpackError> {
        let parent = split(path).0;
        if self.parent.as_ref().is_none_or(|(open, _)| open != parent) {
            let fd = self.open_parent(parent)?;
            self.parent = Some((parent.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("was just set");
        Ok(Spot { parent: fd, path })
    }

    /// Opens a directory of the tree, made with all its parents if need be.
    pub(super) fn open_parent(&mut self, dir: &[u8]) -> Result<OwnedFd, UnpackError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut end = 0;
        while end < dir.len() {
            end = dir[end + 1..].iter().position(|byte| *byte == b'/').map_or(dir.len(), |at| end + 1 + at);
            let path = &dir[..end];
            if self.made.contains(path) {
                continue;
            }
            let opened = self.dest.open_at(as_path(split(path).0), flags, 0, Symlinks::Refuse);
            let parent = opened.map_err(failed("open", path))?;
            Spot { parent: &parent, path }.implied_directory()?;
            self.made.insert(path.to_vec());
            self.made_bytes += path.len() as u64;
            self.options.limits.check(self.made.len() as u64, self.made_bytes)?;
        }
        self.dest.open_at(as_path(dir), flags, 0, Symlinks::Refuse).map_err(failed("open", dir))
    }

    /// What is no directory replaces a directory that was here before.
    fn forget_below(&mut self, path: &[u8]) {
        if !self.made.remove(path) {
            return;
        }
        let start = [path, b"/"].concat();
        while let Some(below) =
            self.made.range(start.clone()..).next().filter(|below| below.starts_with(&start))
        {
            let below = below.clone();
            self.made.remove(&below);
        }
        self.parent = None;
        self.placements.clear();
    }
}

fn metadata(member: &Member) -> Metadata<'_> {
    Metadata {
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        mtime: member.mtime,
        xattrs: member.xattrs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect(),
    }
}

pub(super) fn entry_metadata<'m>(entry: &ViewEntry<'m>) -> Metadata<'m> {
    let node = entry.node;
    Metadata {
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs: node.xattrs.iter().collect(),
    }
}

fn dangling(member: &Member, target: &[u8]) -> archive::Error {
    index::fail(
        &member.path,
        member.offset,
        Problem::LinkTarget(String::from_utf8_lossy(target).into_owned()),
    )
}
