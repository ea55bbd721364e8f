//! What of a directory is copied: everything, less `--exclude`, or with `--parents` what a pattern names.

use super::Error;
use super::tree::{FileTree, Item};
use crate::context::matcher::{Inherited, Matcher};
use crate::context::{FileDigest, path};

/// One entry below a copied directory.
pub(super) struct Chosen {
    /// Relative to the directory.
    pub(super) path: Vec<u8>,
    pub(super) item: Item,
    /// Of regular files.
    pub(super) digest: Option<FileDigest>,
    /// A directory that is here only because something in it is: its owner is not imposed on an existing one.
    pub(super) only_as_parent: bool,
}

/// The entries below `base`, directories before what they hold, in the order of a walk.
pub(super) fn gather(
    tree: &FileTree,
    base: &[u8],
    include: Option<&Matcher>,
    exclude: &Matcher,
) -> Result<Vec<Chosen>, Error> {
    if include.is_none() && exclude.is_empty() {
        tree.preload(base)?;
    }
    let mut walk = Walk { tree, base, include, exclude, pending: Vec::new(), chosen: Vec::new() };
    walk.directory(b"", &Inherited::default(), &Inherited::default())?;
    Ok(walk.chosen)
}

struct Walk<'w> {
    tree: &'w FileTree,
    base: &'w [u8],
    include: Option<&'w Matcher>,
    exclude: &'w Matcher,
    /// Directories on the way that were not chosen themselves.
    pending: Vec<Option<Chosen>>,
    chosen: Vec<Chosen>,
}

impl Walk<'_> {
    fn directory(&mut self, at: &[u8], included: &Inherited, excluded: &Inherited) -> Result<(), Error> {
        let tree = self.tree;
        tree.visit(&path::join(self.base, at), |name, item| {
            let path = path::join(at, name);
            if item.is_dir() {
                self.subdirectory(&path, item, included, excluded)?;
            } else if self.include.is_none_or(|include| include.matches(&path, included))
                && !self.exclude.matches(&path, excluded)
            {
                self.choose(path, item);
            }
            Ok(())
        })
    }

    fn subdirectory(
        &mut self,
        path: &[u8],
        item: Item,
        included: &Inherited,
        excluded: &Inherited,
    ) -> Result<(), Error> {
        let (is_included, included) = match self.include {
            Some(include) => include.matches_directory(path, included),
            None => (true, Inherited::default()),
        };
        let (is_excluded, excluded) = self.exclude.matches_directory(path, excluded);
        if is_included && !is_excluded {
            self.choose(path.to_vec(), item);
            return self.directory(path, &included, &excluded);
        }
        if is_excluded && !self.exclude.may_spare_below(path, &excluded)
            || !is_included && !self.include.is_some_and(|include| include.may_match_below(path))
        {
            return Ok(());
        }
        self.pending.push(Some(Chosen { path: path.to_vec(), item, digest: None, only_as_parent: true }));
        self.directory(path, &included, &excluded)?;
        self.pending.pop();
        Ok(())
    }

    /// Takes an entry, and first the directories above it that were not taken so far.
    fn choose(&mut self, path: Vec<u8>, item: Item) {
        let parents = self.pending.iter_mut().filter_map(Option::take);
        self.chosen.extend(parents);
        self.chosen.push(Chosen { path, item, digest: None, only_as_parent: false });
    }
}
