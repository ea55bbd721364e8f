//! Applies the entries of a layer one after the other, as a snapshotter would, and keeps the outcome.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::{Flat, Index, Span, Tag};
use crate::layer::archive::{Error, Kind, Limits, Member, PATH_LIMIT, Problem, join, split};
use crate::layer::entry::{Entry, EntryKind};
use crate::oci::Seconds;

/// As many symlinks as one path may pass; the limit of containerd and of [`crate::layer::view`].
const SYMLINK_LIMIT: usize = 255;

/// Collects entries in the order of the archive.
#[derive(Debug)]
pub struct Builder {
    slots: BTreeMap<Vec<u8>, Slot>,
    inodes: Vec<Inode>,
    limits: Limits,
    path_bytes: u64,
    /// Where parent directories led. Without it each entry would cost as much as the square of its name's length.
    parents: HashMap<Vec<u8>, Vec<u8>>,
    /// Directories above entries that no entry is about so far.
    implied: HashSet<Vec<u8>>,
}

/// What is known of one path.
#[derive(Debug, Default)]
struct Slot {
    target: Target,
    is_whiteout: bool,
    is_opaque: bool,
}

#[derive(Debug, Default)]
enum Target {
    #[default]
    Nothing,
    Inode(usize),
    LowerLink(Vec<u8>),
}

#[derive(Debug)]
struct Inode {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Seconds,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    offset: u64,
    names: u32,
}

/// Where an entry landed; the unpacker follows this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Its path after the symlinks of this layer: parents only, the last component is never followed.
    pub path: Vec<u8>,
    /// For hard links: where the linked file is, and whether this layer has it.
    pub link: Option<Link>,
}

/// What a hard link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A file of the same layer.
    Here(Vec<u8>),
    /// Something that only a lower layer can have.
    Lower(Vec<u8>),
}

/// The [`Member`] that reading `entry` back from a tar would give.
pub(super) fn member(entry: &Entry, offset: u64) -> Member {
    Member {
        path: entry.path.clone(),
        kind: member_kind(&entry.kind),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
        offset,
    }
}

fn member_kind(kind: &EntryKind) -> Kind {
    match kind {
        EntryKind::Directory => Kind::Directory,
        EntryKind::File(content) => Kind::File { size: content.len() },
        EntryKind::Symlink(target) => Kind::Symlink(target.clone()),
        EntryKind::HardLink(target) => Kind::HardLink(target.clone()),
        EntryKind::Fifo => Kind::Fifo,
        &EntryKind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
        &EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        EntryKind::Whiteout => Kind::Whiteout,
        EntryKind::OpaqueWhiteout => Kind::Opaque,
    }
}

impl Builder {
    /// A builder that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            slots: BTreeMap::new(),
            inodes: Vec::new(),
            limits,
            path_bytes: 0,
            parents: HashMap::new(),
            implied: HashSet::new(),
        }
    }

    /// Applies one entry.
    pub fn add(&mut self, member: Member) -> Result<Placement, Error> {
        let offset = member.offset;
        let path = match self.landing_path(&member.path, &member.kind) {
            Ok(path) => path,
            Err(problem) => return Err(fail(&member.path, offset, problem)),
        };
        self.path_bytes += path.len() as u64;
        self.imply_above(&path);
        let link = match &member.kind {
            Kind::Whiteout => {
                self.slots.entry(path.clone()).or_default().is_whiteout = true;
                None
            }
            Kind::Opaque => {
                self.slots.entry(path.clone()).or_default().is_opaque = true;
                None
            }
            Kind::HardLink(target) => {
                let problem = |problem| fail(&member.path, offset, problem);
                Some(self.add_link(&path, target, &member).map_err(problem)?)
            }
            _ => {
                self.add_inode(&path, member);
                None
            }
        };
        self.limits.check((self.slots.len() + self.implied.len()) as u64, self.path_bytes)?;
        Ok(Placement { path, link })
    }

    /// Where `path` leads through the symlinks of this layer, its last component not followed.
    fn landing_path(&mut self, path: &[u8], kind: &Kind) -> Result<Vec<u8>, Problem> {
        if *kind == Kind::Opaque {
            // The mark lies *in* the directory, so the directory itself is the parent to resolve.
            return self.resolve_parent(path);
        }
        let (parent, name) = split(path);
        Ok(join(&self.resolve_parent(parent)?, name))
    }

    fn resolve_parent(&mut self, parent: &[u8]) -> Result<Vec<u8>, Problem> {
        if let Some(found) = self.parents.get(parent) {
            return Ok(found.clone());
        }
        let found = self.walk(parent)?;
        self.parents.insert(parent.to_vec(), found.clone());
        Ok(found)
    }

    /// Counts the directories above `path` that no entry is about: a name stands for as many as it has components.
    fn imply_above(&mut self, path: &[u8]) {
        let mut dir = split(path).0;
        // Those above one that is known are known.
        while !dir.is_empty() && !self.slots.contains_key(dir) && self.implied.insert(dir.to_vec()) {
            self.path_bytes += dir.len() as u64;
            dir = split(dir).0;
        }
    }

    fn walk(&self, parent: &[u8]) -> Result<Vec<u8>, Problem> {
        let mut left: VecDeque<Vec<u8>> = components(parent).collect();
        let mut at = Vec::new();
        let mut hops = 0;
        while let Some(component) = left.pop_front() {
            if component == b".." {
                at.truncate(split(&at).0.len());
                continue;
            }
            let next = join(&at, &component);
            match self.kind_at(&next) {
                None | Some(Kind::Directory) => at = next,
                Some(Kind::Symlink(target)) => {
                    hops += 1;
                    if hops > SYMLINK_LIMIT {
                        return Err(Problem::SymlinkLoop);
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    for component in components(target).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(component);
                    }
                }
                Some(_) => return Err(Problem::ParentNoDirectory(lossy(&next))),
            }
        }
        if at.len() > PATH_LIMIT {
            return Err(Problem::TooLong { what: "path", len: at.len() as u64, limit: PATH_LIMIT as u64 });
        }
        Ok(at)
    }

    /// Whether an entry so far put something at `path`, or a whiteout: lower layers have no say there.
    pub(in crate::layer) fn replaces_lower(&self, path: &[u8]) -> bool {
        self.slots.get(path).is_some_and(|slot| slot.is_whiteout || !matches!(slot.target, Target::Nothing))
    }

    fn kind_at(&self, path: &[u8]) -> Option<&Kind> {
        match self.slots.get(path)?.target {
            Target::Inode(inode) => Some(&self.inodes[inode].kind),
            // What a lower layer's hard link leads to is a file for all that can be known here.
            Target::LowerLink(_) => Some(&Kind::Fifo),
            Target::Nothing => None,
        }
    }

    /// A later entry replaces an earlier one; only a directory meets a directory, and takes over its metadata.
    fn add_inode(&mut self, path: &[u8], member: Member) {
        let was_directory = matches!(self.kind_at(path), Some(Kind::Directory));
        let was_other = !was_directory && self.kind_at(path).is_some();
        let is_directory = member.kind == Kind::Directory;
        if !is_directory {
            self.replace(path);
        } else if was_other {
            self.parents = HashMap::new();
        }
        self.inodes.push(Inode {
            kind: member.kind,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs: member.xattrs,
            offset: member.offset,
            names: 0,
        });
        self.set_target(path, Target::Inode(self.inodes.len() - 1));
        if is_directory && was_other {
            // What stood here before had removed the directory of the lower layers.
            self.slots.entry(path.to_vec()).or_default().is_opaque = true;
        }
    }

    fn add_link(&mut self, path: &[u8], target: &[u8], member: &Member) -> Result<Link, Problem> {
        let (parent, name) = split(target);
        let target = join(&self.walk(parent)?, name);
        let slot = self.slots.get(&target);
        let (found, link) = match slot.map(|slot| &slot.target) {
            Some(Target::Inode(inode)) => {
                if self.inodes[*inode].kind == Kind::Directory {
                    return Err(Problem::LinkTarget(lossy(&target)));
                }
                (Target::Inode(*inode), Link::Here(target.clone()))
            }
            Some(Target::LowerLink(lower)) => (Target::LowerLink(lower.clone()), Link::Here(target.clone())),
            Some(Target::Nothing) | None => (Target::LowerLink(target.clone()), Link::Lower(target.clone())),
        };
        if let Target::Inode(inode) = found {
            self.update(inode, member);
        }
        if path != target {
            self.replace(path);
        }
        if path != target || matches!(found, Target::LowerLink(_)) {
            self.set_target(path, found);
        }
        Ok(link)
    }

    /// The header of a hard link carries metadata as well. They are the inode's, so the last header counts.
    fn update(&mut self, inode: usize, member: &Member) {
        let inode = &mut self.inodes[inode];
        (inode.mode, inode.uid, inode.gid) = (member.mode, member.uid, member.gid);
        inode.mtime = member.mtime;
        for (name, value) in &member.xattrs {
            inode.xattrs.insert(name.clone(), value.clone());
        }
    }

    fn set_target(&mut self, path: &[u8], target: Target) {
        if let Target::Inode(inode) = target {
            self.inodes[inode].names += 1;
        }
        let slot = self.slots.entry(path.to_vec()).or_default();
        if let Target::Inode(old) = std::mem::replace(&mut slot.target, target) {
            self.inodes[old].names -= 1;
        }
    }

    /// Something that is no directory comes to `path`: everything below is forgotten, and so are the ways that led
    /// through what was there.
    fn replace(&mut self, path: &[u8]) {
        if self.slots.contains_key(path) {
            self.parents = HashMap::new();
        }
        let start = [path, b"/"].concat();
        loop {
            let next = self.slots.range(start.clone()..).next();
            let Some(below) = next.map(|(below, _)| below).filter(|below| below.starts_with(&start)) else {
                return;
            };
            let below = below.clone();
            self.parents = HashMap::new();
            if let Some(Slot { target: Target::Inode(inode), .. }) = self.slots.remove(&below) {
                self.inodes[inode].names -= 1;
            }
        }
    }

    /// The index of everything added.
    pub fn finish(self) -> Result<Index, Error> {
        let mut flattener = Flattener::default();
        let mut records = Vec::with_capacity(self.slots.len());
        for (path, slot) in &self.slots {
            let has_children = has_child(&self.slots, path);
            records.extend(flattener.record(path, slot, &self.inodes, has_children));
        }
        flattener.finish(records)
    }
}

/// Whether something of the layer lies below `path`; asked only for paths that hold nothing but marks.
fn has_child(slots: &BTreeMap<Vec<u8>, Slot>, path: &[u8]) -> bool {
    match slots.get(path) {
        Some(Slot { target: Target::Nothing, is_whiteout: true, .. }) => {
            let start = [path, b"/"].concat();
            let mut below = slots.range(start.clone()..).take_while(|(below, _)| below.starts_with(&start));
            below.any(|(_, slot)| !matches!(slot.target, Target::Nothing))
        }
        _ => false,
    }
}

/// Writes slots into flat arrays.
#[derive(Default)]
pub(super) struct Flattener {
    heap: Vec<u8>,
    /// Link target and attributes of inodes that were written already.
    spans: HashMap<usize, (Span, Span)>,
    is_full: bool,
}

impl Flattener {
    /// The record of an entry that is no whiteout and no name of a file with other names.
    pub(super) fn single(&mut self, entry: &Entry, offset: u64) -> Flat {
        // Neither the path nor, but for symlinks, anything else is copied.
        let kind = member_kind(&entry.kind);
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        let inode = Inode { kind, mode, uid, gid, mtime, xattrs: entry.xattrs.clone(), offset, names: 1 };
        let mut flat = EMPTY;
        self.inode(&mut flat, 0, &inode);
        flat.path = self.store(&entry.path);
        flat
    }

    pub(super) fn finish(self, records: Vec<Flat>) -> Result<Index, Error> {
        if self.is_full {
            return Err(Error::TooLarge { what: "bytes of metadata", limit: u64::from(u32::MAX) });
        }
        Ok(Index { records, heap: self.heap })
    }

    fn record(&mut self, path: &[u8], slot: &Slot, inodes: &[Inode], has_children: bool) -> Option<Flat> {
        let mut flat = Flat { is_opaque: slot.is_opaque || slot.is_whiteout, ..EMPTY };
        match &slot.target {
            Target::Inode(inode) => self.inode(&mut flat, *inode, &inodes[*inode]),
            Target::LowerLink(target) => {
                flat.tag = Tag::LowerLink;
                flat.link = self.store(target);
            }
            // The directory was removed and made anew by what lies below it.
            Target::Nothing if slot.is_whiteout && has_children => {
                (flat.tag, flat.mode) = (Tag::Directory, 0o755);
            }
            Target::Nothing if slot.is_whiteout => flat.tag = Tag::Whiteout,
            Target::Nothing if slot.is_opaque => flat.tag = Tag::Implied,
            Target::Nothing => return None,
        }
        flat.path = self.store(path);
        Some(flat)
    }

    fn inode(&mut self, flat: &mut Flat, number: usize, inode: &Inode) {
        let rdev = |major: u32, minor: u32| u64::from(major) << 32 | u64::from(minor);
        (flat.tag, flat.size) = match inode.kind {
            Kind::Directory => (Tag::Directory, 0),
            Kind::File { size } => (Tag::File, size),
            Kind::Symlink(_) => (Tag::Symlink, 0),
            Kind::Fifo => (Tag::Fifo, 0),
            Kind::CharDevice { major, minor } => (Tag::CharDevice, rdev(major, minor)),
            Kind::BlockDevice { major, minor } => (Tag::BlockDevice, rdev(major, minor)),
            Kind::HardLink(_) | Kind::Whiteout | Kind::Opaque => {
                unreachable!("`Builder::add` makes no inode of these")
            }
        };
        (flat.mode, flat.uid, flat.gid) = ((inode.mode & 0o7777) as u16, inode.uid, inode.gid);
        (flat.mtime, flat.inode, flat.has_links) = (inode.mtime, inode.offset, inode.names > 1);
        (flat.link, flat.xattrs) = self.spans_of(number, inode);
    }

    fn spans_of(&mut self, number: usize, inode: &Inode) -> (Span, Span) {
        if let Some(spans) = self.spans.get(&number) {
            return *spans;
        }
        let link = match &inode.kind {
            Kind::Symlink(target) => self.store(target),
            _ => Span::default(),
        };
        let mut xattrs = Vec::new();
        for (name, value) in &inode.xattrs {
            xattrs.extend_from_slice(&(name.len() as u32).to_le_bytes());
            xattrs.extend_from_slice(&(value.len() as u32).to_le_bytes());
            xattrs.extend_from_slice(name);
            xattrs.extend_from_slice(value);
        }
        let spans = (link, self.store(&xattrs));
        if inode.names > 1 {
            self.spans.insert(number, spans);
        }
        spans
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let (start, end) = (u32::try_from(self.heap.len()), u32::try_from(self.heap.len() + bytes.len()));
        let (Ok(start), Ok(_)) = (start, end) else {
            self.is_full = true;
            return Span::default();
        };
        if bytes.is_empty() {
            return Span::default();
        }
        self.heap.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }
}

const EMPTY: Flat = Flat {
    path: Span { start: 0, len: 0 },
    link: Span { start: 0, len: 0 },
    xattrs: Span { start: 0, len: 0 },
    tag: Tag::Whiteout,
    is_opaque: false,
    has_links: false,
    mode: 0,
    uid: 0,
    gid: 0,
    mtime: 0,
    size: 0,
    inode: 0,
};

/// The components of a link target or path, in order; `..` is kept.
fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let is_real = |component: &&[u8]| !component.is_empty() && *component != b".";
    path.split(|byte| *byte == b'/').filter(is_real).map(<[u8]>::to_vec)
}

/// What is wrong with the entry whose data are at `offset`.
pub(in crate::layer) fn fail(path: &[u8], offset: u64, problem: Problem) -> Error {
    Error::of_entry(path, offset, problem)
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
