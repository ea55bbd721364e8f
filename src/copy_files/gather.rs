//! What of a directory is copied: everything, less `--exclude`, or with `--parents` what a pattern names.

use std::borrow::Cow;
use std::sync::Arc;

use super::Error;
use super::tree::{FileTree, Folder, Item, disk_file};
use crate::context::matcher::{Inherited, Matcher};
use crate::context::{Digests, FileDigest, path};
use crate::layer::entry::{DiskFile, DiskFiles};

/// What is copied of a directory: directories before what they hold, in the order of a walk.
///
/// An entry is two numbers, and what they stand for is where the scan or the layer has it: a copy of 200,000 files keeps
/// neither their paths nor what `lstat` said a second time.
pub(super) struct Gathered {
    tree: FileTree,
    /// Every directory on the way, with its path relative to the one that is copied.
    folders: Vec<(Vec<u8>, Folder)>,
    chosen: Vec<Chosen>,
    /// Of all regular files among them: there is none without, so that none can miss in a key.
    digests: Digests,
}

/// An entry of one of the folders.
#[derive(Clone, Copy)]
struct Chosen {
    folder: u32,
    /// Its number in the folder; [`ONLY_AS_PARENT`] may be added.
    number: u32,
}

/// The highest bit: no directory has as many entries.
const ONLY_AS_PARENT: u32 = 1 << 31;

/// One entry below a copied directory.
#[derive(Clone, Copy)]
pub(super) struct Picked<'g> {
    gathered: &'g Gathered,
    /// Among all that is copied.
    pub(super) number: usize,
}

/// Gathers the entries of `tree` below `base`, and digests the regular files among them.
pub(super) fn gather(
    tree: &FileTree,
    base: &[u8],
    include: Option<&Matcher>,
    exclude: &Matcher,
) -> Result<Arc<Gathered>, Error> {
    if include.is_none() && exclude.is_empty() {
        tree.preload(base)?;
    }
    let mut walk =
        Walk { tree, base, include, exclude, pending: Vec::new(), folders: Vec::new(), chosen: Vec::new() };
    let top = tree.folder(base)?;
    walk.directory(b"", &top, &Inherited::default(), &Inherited::default())?;
    let Walk { folders, chosen, .. } = walk;
    let mut gathered = Gathered { tree: tree.clone(), folders, chosen, digests: Digests::default() };
    gathered.digests = tree.digests(&gathered)?;
    Ok(Arc::new(gathered))
}

impl Gathered {
    /// How many entries are copied.
    pub(super) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// The entry with this number.
    pub(super) fn get(&self, number: usize) -> Picked<'_> {
        Picked { gathered: self, number }
    }

    /// The entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = Picked<'_>> {
        (0..self.len()).map(|number| self.get(number))
    }
}

impl<'g> Picked<'g> {
    /// Relative to the directory that is copied.
    pub(super) fn path(&self) -> Cow<'g, [u8]> {
        let (at, name) = self.path_parts();
        if at.is_empty() { name.into() } else { path::join(at, name).into() }
    }

    /// Directory and name of [`Picked::path`].
    pub(super) fn path_parts(&self) -> (&'g [u8], &'g [u8]) {
        let (at, folder) = self.folder();
        (at, folder.name(self.index()))
    }

    /// What it is.
    pub(super) fn item(&self) -> Item {
        self.folder().1.item(self.index())
    }

    /// Whether it is a directory.
    pub(super) fn is_dir(&self) -> bool {
        self.folder().1.is_dir(self.index())
    }

    /// Whether it is a regular file.
    pub(super) fn is_file(&self) -> bool {
        self.folder().1.is_file(self.index())
    }

    /// See [`Item::link`].
    pub(super) fn link(&self) -> Option<(u64, u64)> {
        self.folder().1.link(self.index())
    }

    /// A directory that is here only because something in it is: its owner is not imposed on an existing one.
    pub(super) fn is_only_as_parent(&self) -> bool {
        self.chosen().number & ONLY_AS_PARENT != 0
    }

    /// Of a regular file.
    pub(super) fn digest(&self) -> Option<FileDigest> {
        self.is_file().then(|| self.gathered.digests.get(self.number))
    }

    /// Where it is and what it is there.
    pub(super) fn place(&self) -> (&'g Folder, usize) {
        (self.folder().1, self.index())
    }

    fn chosen(&self) -> Chosen {
        self.gathered.chosen[self.number]
    }

    fn folder(&self) -> (&'g [u8], &'g Folder) {
        let (path, folder) = &self.gathered.folders[self.chosen().folder as usize];
        (path, folder)
    }

    fn index(&self) -> usize {
        (self.chosen().number & !ONLY_AS_PARENT) as usize
    }
}

impl std::fmt::Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gathered").field("entries", &self.len()).finish_non_exhaustive()
    }
}

/// The files on disk among them, by their number.
impl DiskFiles for Gathered {
    fn file(&self, number: u32) -> DiskFile {
        let (folder, index) = self.get(number as usize).place();
        match (&self.tree, folder) {
            (FileTree::Context(context), Folder::Disk(listing)) => {
                let digest = DiskFiles::digest(self, number);
                DiskFile { digest, ..disk_file(context, listing.entry(index)) }
            }
            _ => unreachable!("`FileTree::contents` makes files on disk of those of contexts only"),
        }
    }

    fn digest(&self, number: u32) -> Option<[u8; 32]> {
        Some(*self.digests.content(number as usize))
    }
}

struct Walk<'w> {
    tree: &'w FileTree,
    base: &'w [u8],
    include: Option<&'w Matcher>,
    exclude: &'w Matcher,
    /// Directories on the way that were not chosen themselves.
    pending: Vec<Option<Chosen>>,
    folders: Vec<(Vec<u8>, Folder)>,
    chosen: Vec<Chosen>,
}

impl Walk<'_> {
    /// Walks the directory `folder`, which is at `at`.
    fn directory(
        &mut self,
        at: &[u8],
        folder: &Folder,
        included: &Inherited,
        excluded: &Inherited,
    ) -> Result<(), Error> {
        let place = self.folders.len() as u32;
        self.folders.push((at.to_vec(), folder.clone()));
        self.chosen.reserve(folder.len());
        for number in 0..folder.len() {
            let entry = Chosen { folder: place, number: number as u32 };
            if folder.is_dir(number) {
                let path = path::join(at, folder.name(number));
                self.subdirectory(&path, folder, entry, included, excluded)?;
            } else if self.is_wanted(at, folder.name(number), included, excluded) {
                self.choose(entry);
            }
        }
        Ok(())
    }

    fn is_wanted(&self, at: &[u8], name: &[u8], included: &Inherited, excluded: &Inherited) -> bool {
        if self.include.is_none() && self.exclude.is_empty() {
            return true;
        }
        let path = path::join(at, name);
        self.include.is_none_or(|include| include.matches(&path, included))
            && !self.exclude.matches(&path, excluded)
    }

    fn subdirectory(
        &mut self,
        path: &[u8],
        above: &Folder,
        entry: Chosen,
        included: &Inherited,
        excluded: &Inherited,
    ) -> Result<(), Error> {
        let (is_included, included) = match self.include {
            Some(include) => include.matches_directory(path, included),
            None => (true, Inherited::default()),
        };
        let (is_excluded, excluded) = self.exclude.matches_directory(path, excluded);
        let is_chosen = is_included && !is_excluded;
        if !is_chosen
            && (is_excluded && !self.exclude.may_spare_below(path, &excluded)
                || !is_included && !self.include.is_some_and(|include| include.may_match_below(path)))
        {
            return Ok(());
        }
        let folder = self.tree.subfolder(above, entry.number as usize, &path::join(self.base, path))?;
        if is_chosen {
            self.choose(entry);
            return self.directory(path, &folder, &included, &excluded);
        }
        self.pending.push(Some(Chosen { number: entry.number | ONLY_AS_PARENT, ..entry }));
        self.directory(path, &folder, &included, &excluded)?;
        self.pending.pop();
        Ok(())
    }

    /// Takes an entry, and first the directories above it that were not taken so far.
    fn choose(&mut self, entry: Chosen) {
        let parents = self.pending.iter_mut().filter_map(Option::take);
        self.chosen.extend(parents);
        self.chosen.push(entry);
    }
}
