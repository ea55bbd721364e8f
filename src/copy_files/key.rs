//! What the selected files say to the cache key.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Error;
use super::chmod::ModeChange;
use super::gather::{Gathered, Picked};
use super::select::{Pick, Selected, What};
use super::tree::{Item, ItemKind};
use crate::cache::{Fields, Preimage, Reasons};
use crate::context::FileDigest;
use crate::key::files::{self, FileKind, FileState};
use crate::plan::graph::CopyOp;

/// Fields are put together on all processors, so many entries at a time by each.
const CHUNK: usize = 512;

/// So many chunks are at hand at once: enough for all processors, little beside everything else.
const CHUNKS_AT_ONCE: usize = 32;

/// What makes the key of a COPY or ADD: what the instruction itself says, and then one field for each selected file, as it
/// would be written (so `--chmod` and `--chown` make those of the source irrelevant). Times are in none. Together with the
/// op and the parent's result they decide every entry of the layer.
pub struct FileReasons<'s> {
    words: Preimage,
    selected: &'s Selected,
    writer: Writer,
    last: Preimage,
}

impl<'s> FileReasons<'s> {
    /// `words` is what the instruction says.
    pub fn new<R>(words: Preimage, selected: &'s Selected, op: &CopyOp<R>) -> Result<Self, Error> {
        let writer = Writer { mode: Selected::mode_change(op)?, is_owned: op.chown.is_some() };
        Ok(Self { words, selected, writer, last: Preimage::default() })
    }

    /// With these fields behind all others.
    pub fn and(self, last: Preimage) -> Self {
        Self { last, ..self }
    }
}

impl Reasons for FileReasons<'_> {
    fn give(&self, take: &mut dyn FnMut(&Fields)) {
        self.words.give(take);
        self.selected.picks.iter().for_each(|pick| self.writer.pick(pick, take));
        self.last.give(take);
    }
}

type Take<'t> = &'t mut dyn FnMut(&Fields);

struct Writer {
    mode: ModeChange,
    is_owned: bool,
}

impl Writer {
    fn pick(&self, pick: &Pick, take: Take<'_>) {
        let mut named = String::new();
        files::push_name(&mut named, &[&pick.named]);
        let mut value = String::new();
        match &pick.what {
            What::File(item, digest) => self.item(item, digest.as_ref(), None, false, &mut value),
            What::Archive(_, digest) => value = files::archive(&digest.content),
            // The words of the instruction have it.
            What::Inline(_) => return,
            What::Directory { own, entries } => {
                // The directory itself is not put there, unless something says so.
                match own {
                    Some(own) => self.item(own, None, None, false, &mut value),
                    None => value.push_str(files::CONTENTS),
                }
                take(&one(&named, &value));
                self.entries(&pick.named, entries, take);
                let mut end = Fields::default();
                files::push_end(&mut end);
                return take(&end);
            }
        }
        take(&one(&named, &value));
    }

    /// What a directory holds.
    fn entries(&self, base: &[u8], entries: &Gathered, take: Take<'_>) {
        let first_names = first_names(entries);
        let mut chunks: Vec<Fields> = Vec::new();
        for start in (0..entries.len()).step_by(CHUNK * CHUNKS_AT_ONCE) {
            let end = entries.len().min(start + CHUNK * CHUNKS_AT_ONCE);
            chunks.resize_with((end - start).div_ceil(CHUNK), Fields::default);
            chunks.par_iter_mut().enumerate().for_each(|(number, fields)| {
                let start = start + number * CHUNK;
                let picked = (start..end.min(start + CHUNK)).map(|number| entries.get(number));
                self.chunk(base, picked, &first_names, fields);
            });
            chunks.iter().for_each(&mut *take);
        }
    }

    /// The fields of some entries, in place of what `fields` holds.
    fn chunk<'p>(
        &self,
        base: &[u8],
        entries: impl Iterator<Item = Picked<'p>>,
        first_names: &FirstNames,
        fields: &mut Fields,
    ) {
        fields.clear();
        let (mut name, mut value) = (String::new(), String::new());
        for picked in entries {
            name.clear();
            value.clear();
            let (at, last) = picked.path_parts();
            files::push_name(&mut name, &[base, at, last]);
            self.picked(picked, first_names, &mut value);
            fields.push(&name, &value);
        }
    }

    fn picked(&self, picked: Picked<'_>, first_names: &FirstNames, value: &mut String) {
        let item = picked.item();
        let first = item.link.and_then(|inode| first_names.get(&inode));
        let first = first.filter(|first| **first != *picked.path());
        let (digest, only_as_parent) = (picked.digest(), picked.is_only_as_parent());
        self.item(&item, digest.as_ref(), first.map(Vec::as_slice), only_as_parent, value);
    }

    fn item(
        &self,
        item: &Item,
        digest: Option<&FileDigest>,
        first_name: Option<&[u8]>,
        only_as_parent: bool,
        value: &mut String,
    ) {
        let kind = kind(item, digest, first_name, only_as_parent);
        let owner = (!self.is_owned).then_some((item.uid, item.gid));
        FileState { kind, mode: self.mode.apply(item.mode, item.is_dir()), owner }.push_to(value);
    }
}

/// What a file is, for its value.
pub(super) fn kind<'f>(
    item: &'f Item,
    digest: Option<&'f FileDigest>,
    first_name: Option<&'f [u8]>,
    only_as_parent: bool,
) -> FileKind<'f> {
    match &item.kind {
        ItemKind::File(_) => {
            let digest = digest.expect("a regular file is digested when it is selected");
            let capability = digest.capability.as_deref();
            FileKind::File { digest: &digest.content, capability, first_name }
        }
        ItemKind::Directory => FileKind::Directory { only_as_parent },
        ItemKind::Symlink(target) => FileKind::Symlink(target),
        ItemKind::Fifo => FileKind::Fifo,
        ItemKind::CharDevice(major, minor) => FileKind::CharDevice(*major, *minor),
        ItemKind::BlockDevice(major, minor) => FileKind::BlockDevice(*major, *minor),
    }
}

fn one(name: &str, value: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push(name, value);
    fields
}

/// The first path of each file that has several names.
type FirstNames = HashMap<(u64, u64), Vec<u8>>;

fn first_names(entries: &Gathered) -> FirstNames {
    let mut names = HashMap::new();
    for picked in entries.iter() {
        if let Some(inode) = picked.link() {
            names.entry(inode).or_insert_with(|| picked.path().into_owned());
        }
    }
    names
}
