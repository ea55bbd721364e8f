//! What the selected files say to the cache key.

use std::collections::HashMap;
use std::fmt::Write;

use rayon::prelude::*;

use super::Error;
use super::chmod::ModeChange;
use super::gather::{Gathered, Picked};
use super::select::{Pick, Selected, What};
use super::tree::{Item, ItemKind};
use crate::cache::Fields;
use crate::context::{FileDigest, path};
use crate::plan::graph::TransferOp;

/// Fields are put together on all processors, so many entries at a time.
const CHUNK: usize = 1024;

/// One readable field for each selected file: `file:` and its path in the source, then its type, mode, owner and
/// content as they would land (so `--chmod` and `--chown` make those of the source irrelevant). Times are in none. Together
/// with the op and the parent's result they decide everything that lands.
pub fn digest_fields(selected: &Selected, op: &TransferOp) -> Result<Fields, Error> {
    let writer = Writer { mode: Selected::mode_change(op)?, is_owned: op.chown.is_some() };
    let mut fields = Fields::default();
    for pick in &selected.picks {
        writer.pick(pick, &mut fields);
    }
    Ok(fields)
}

struct Writer {
    mode: ModeChange,
    is_owned: bool,
}

impl Writer {
    fn pick(&self, pick: &Pick, fields: &mut Fields) {
        let mut named = String::new();
        push_name(&mut named, &pick.named, b"");
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
                fields.push(&named, &value);
                return self.entries(&pick.named, entries, fields);
            }
        }
        fields.push(&named, &value);
    }

    /// What a directory holds.
    fn entries(&self, base: &[u8], entries: &Gathered, fields: &mut Fields) {
        let first_names = first_names(entries);
        let numbers: Vec<usize> = (0..entries.len()).step_by(CHUNK).collect();
        let chunks = numbers.par_iter().map(|start| {
            let mut fields = Fields::with_capacity(CHUNK * 160);
            let (mut name, mut value) = (String::new(), String::new());
            for number in *start..entries.len().min(start + CHUNK) {
                let picked = entries.get(number);
                name.clear();
                value.clear();
                push_name(&mut name, base, &picked.path());
                self.picked(picked, &first_names, &mut value);
                fields.push(&name, &value);
            }
            fields
        });
        for chunk in chunks.collect::<Vec<Fields>>() {
            fields.append(&chunk);
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
        // Writing to a string cannot fail.
        let _ = match &item.kind {
            // Links have no mode of their own.
            ItemKind::Symlink(_) => write!(value, "symlink 0777"),
            ItemKind::Directory => write!(value, "dir {mode:04o}"),
            ItemKind::File(_) => write!(value, "file {mode:04o}"),
            ItemKind::Fifo => write!(value, "fifo {mode:04o}"),
            ItemKind::CharDevice(..) | ItemKind::BlockDevice(..) => write!(value, "device {mode:04o}"),
        };
        let _ = match self.is_owned {
            true => write!(value, " -"),
            false => write!(value, " {}:{}", item.uid, item.gid),
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

/// `file:base/path`, escaped; the source itself is `file:.`.
fn push_name(text: &mut String, base: &[u8], path: &[u8]) {
    text.push_str("file:");
    match (std::str::from_utf8(base), std::str::from_utf8(path)) {
        (Ok(""), Ok("")) => text.push('.'),
        (Ok(base), Ok(path)) if !base.contains('\\') && !path.contains('\\') => {
            text.push_str(base);
            if !base.is_empty() && !path.is_empty() {
                text.push('/');
            }
            text.push_str(path);
        }
        _ => text.push_str(&escaped(&path::join(base, path))),
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
