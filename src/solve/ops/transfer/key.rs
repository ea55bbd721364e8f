//! What the selected files say to the cache key.

use std::collections::HashMap;
use std::fmt::Write;

use rayon::prelude::*;

use super::Error;
use super::chmod::ModeChange;
use super::gather::{Gathered, Picked};
use super::select::{Pick, Selected, What};
use super::tree::{Item, ItemKind};
use crate::cache::{Fields, Preimage, Reasons};
use crate::context::{FileDigest, path};
use crate::plan::graph::TransferOp;

/// Fields are put together on all processors, so many entries at a time by each.
const CHUNK: usize = 512;

/// So many chunks are at hand at once: enough for all processors, little beside everything else.
const CHUNKS_AT_ONCE: usize = 32;

/// What makes the key of a COPY or ADD: what the instruction itself says, and then one readable field for each selected file:
/// `file:` and its path in the source, then its type, mode, owner and content as they would land (so `--chmod` and
/// `--chown` make those of the source irrelevant). Times are in none. Together with the op and the parent's result
/// they decide everything that lands.
pub struct FileReasons<'s> {
    words: Preimage,
    selected: &'s Selected,
    writer: Writer,
    last: Preimage,
}

impl<'s> FileReasons<'s> {
    /// `words` is what the instruction says.
    pub fn new(words: Preimage, selected: &'s Selected, op: &TransferOp) -> Result<Self, Error> {
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
        push_name(&mut named, [&pick.named, b"", b""]);
        let mut value = String::new();
        match &pick.what {
            What::File(item, digest) => self.item(item, digest.as_ref(), None, &mut value),
            What::Archive(_, digest) => {
                value.push_str("archive - - ");
                push_hex(&mut value, &digest.content);
            }
            What::Inline(bytes) => {
                named = format!("<<{}", escaped(&pick.named));
                push_hex(&mut value, blake3::hash(bytes).as_bytes());
            }
            What::Directory { own, entries } => {
                // The directory itself does not land, unless something says so.
                match own {
                    Some(own) => self.item(own, None, None, &mut value),
                    None => value.push_str("contents - -"),
                }
                take(&one(&named, &value));
                return self.entries(&pick.named, entries, take);
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
            push_name(&mut name, [base, at, last]);
            self.picked(picked, first_names, &mut value);
            fields.push(&name, &value);
        }
    }

    fn picked(&self, picked: Picked<'_>, first_names: &FirstNames, value: &mut String) {
        let item = picked.item();
        let first = item.link.and_then(|inode| first_names.get(&inode));
        let first = first.filter(|first| **first != *picked.path());
        self.item(&item, picked.digest().as_ref(), first.map(Vec::as_slice), value);
        if picked.is_only_as_parent() {
            value.push_str(" passed");
        }
    }

    /// `file 0644 0:0 <digest>`, as the cache's explanations read it.
    fn item(&self, item: &Item, digest: Option<&FileDigest>, first_name: Option<&[u8]>, value: &mut String) {
        let mode = self.mode.apply(item.mode, item.is_dir());
        let word = match &item.kind {
            ItemKind::Symlink(_) => "symlink ",
            ItemKind::Directory => "dir ",
            ItemKind::File(_) => "file ",
            ItemKind::Fifo => "fifo ",
            ItemKind::CharDevice(..) | ItemKind::BlockDevice(..) => "device ",
        };
        value.push_str(word);
        // Links have no mode of their own.
        push_mode(value, if matches!(item.kind, ItemKind::Symlink(_)) { 0o777 } else { mode });
        // Writing to a string cannot fail.
        let _ = match (self.is_owned, item.uid, item.gid) {
            (true, ..) => value.write_str(" -"),
            (false, 0, 0) => value.write_str(" 0:0"),
            (false, uid, gid) => write!(value, " {uid}:{gid}"),
        };
        let _ = match &item.kind {
            ItemKind::Symlink(target) => write!(value, " {}", escaped(target)),
            ItemKind::CharDevice(major, minor) => write!(value, " char {major}:{minor}"),
            ItemKind::BlockDevice(major, minor) => write!(value, " block {major}:{minor}"),
            ItemKind::Directory | ItemKind::File(_) | ItemKind::Fifo => Ok(()),
        };
        if let Some(first) = first_name {
            let _ = write!(value, " link to {}", escaped(first));
        }
        if let Some(digest) = digest {
            value.push(' ');
            push_hex(value, &digest.content);
            if let Some(capability) = &digest.capability {
                value.push_str(" capability ");
                push_hex(value, capability);
            }
        }
    }
}

fn one(name: &str, value: &str) -> Fields {
    let mut fields = Fields::default();
    fields.push(name, value);
    fields
}

/// `file:` and the path that the parts make together, escaped; the source itself is `file:.`.
fn push_name(text: &mut String, parts: [&[u8]; 3]) {
    text.push_str("file:");
    let start = text.len();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if text.len() > start {
            text.push('/');
        }
        match std::str::from_utf8(part) {
            Ok(part) if !part.contains('\\') => text.push_str(part),
            _ => {
                // What a byte is escaped as depends on whether the whole is UTF-8.
                text.truncate(start);
                let [base, at, name] = parts;
                return text.push_str(&escaped(&path::join(base, &path::join(at, name))));
            }
        }
    }
    if text.len() == start {
        text.push('.');
    }
}

/// Four octal digits; modes have no more.
fn push_mode(text: &mut String, mode: u32) {
    for shift in [9, 6, 3, 0] {
        text.push(char::from(HEX[(mode >> shift & 7) as usize]));
    }
}

/// Bytes as text that no two byte strings share.
fn escaped(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\\') => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    text.reserve(2 * bytes.len());
    for chunk in bytes.chunks(32) {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
            (pair[0], pair[1]) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
        }
        text.push_str(std::str::from_utf8(&digits[..2 * chunk.len()]).expect("hex digits are ASCII"));
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

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
