//! What the selected files say to the cache key.

use std::collections::HashMap;
use std::fmt::Write;

use rayon::prelude::*;

use super::Error;
use super::chmod::ModeChange;
use super::gather::Chosen;
use super::select::{Pick, Selected, What};
use super::tree::{Item, ItemKind};
use crate::context::{FileDigest, path};
use crate::plan::graph::TransferOp;

/// One readable field for each selected file: `file:` and its path in the source, then its type, mode, owner and
/// content as they would land (so `--chmod` and `--chown` make those of the source irrelevant). Times are in none. Together
/// with the op and the parent's result they decide everything that lands.
pub fn digest_fields(selected: &Selected, op: &TransferOp) -> Result<Vec<(String, String)>, Error> {
    let writer = Writer { mode: Selected::mode_change(op)?, is_owned: op.chown.is_some() };
    let mut fields = Vec::new();
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
    fn pick(&self, pick: &Pick, fields: &mut Vec<(String, String)>) {
        let named = escaped(&pick.named);
        match &pick.what {
            What::File(item, digest) => {
                fields.push((name(&pick.named), self.item(item, digest.as_ref(), None)))
            }
            What::Archive(_, digest) => {
                fields.push((name(&pick.named), format!("archive - - {}", hex(&digest.content))));
            }
            What::Inline(bytes) => {
                fields.push((format!("<<{named}"), hex(blake3::hash(bytes).as_bytes())));
            }
            What::Directory { own, entries } => {
                // The directory itself does not land, unless something says so.
                let own = own.as_ref().map_or("contents - -".to_owned(), |own| self.item(own, None, None));
                fields.push((name(&pick.named), own));
                let first_names = first_names(entries);
                let field = |chosen: &Chosen| self.chosen(&pick.named, chosen, &first_names);
                fields.par_extend(entries.par_iter().with_min_len(256).map(field));
            }
        }
    }

    fn chosen(&self, base: &[u8], chosen: &Chosen, first_names: &FirstNames<'_>) -> (String, String) {
        let first = chosen.item.link.and_then(|inode| first_names.get(&inode).copied());
        let first = first.filter(|first| *first != chosen.path);
        let mut value = self.item(&chosen.item, chosen.digest.as_ref(), first);
        if chosen.only_as_parent {
            value.push_str(" passed");
        }
        (name(&path::join(base, &chosen.path)), value)
    }

    /// `file 0644 0:0 <digest>`, as the cache's explanations read it.
    fn item(&self, item: &Item, digest: Option<&FileDigest>, first_name: Option<&[u8]>) -> String {
        let mode = self.mode.apply(item.mode, item.is_dir());
        let mut value = String::with_capacity(96);
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
            push_hex(&mut value, &digest.content);
            if let Some(capability) = &digest.capability {
                value.push_str(" capability ");
                push_hex(&mut value, capability);
            }
        }
        value
    }
}

fn name(path: &[u8]) -> String {
    format!("file:{}", if path.is_empty() { ".".into() } else { escaped(path) })
}

/// Bytes as text that no two byte strings share.
fn escaped(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\\') => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    text.reserve(2 * bytes.len());
    for byte in bytes {
        text.push(HEX[usize::from(byte >> 4)]);
        text.push(HEX[usize::from(byte & 15)]);
    }
}

const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

/// The first path of each file that has several names.
type FirstNames<'e> = HashMap<(u64, u64), &'e [u8]>;

fn first_names(entries: &[Chosen]) -> FirstNames<'_> {
    let mut names = HashMap::new();
    for chosen in entries {
        if let Some(inode) = chosen.item.link {
            names.entry(inode).or_insert(chosen.path.as_slice());
        }
    }
    names
}
