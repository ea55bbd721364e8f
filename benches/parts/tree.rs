//! Files like those of a source tree, the same on every machine; measures nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rbuild::layer::entry::{Content, Entry, EntryKind};

/// A path with 40 files to a folder, as `m00/p03/file_00123.rs`.
pub(crate) fn path(number: usize) -> String {
    format!("m{:02}/p{:02}/file_{number:05}.rs", number / 1600, number / 40 % 40)
}

/// Text of about 6 kB that no other file has.
pub(crate) fn text(number: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "let", "return", "match", "self", "node", "index", "value", "layer", "digest", "error", "buffer",
        "stream", "config", "import", "struct", "while",
    ];
    let mut text = format!("// {number}\n").into_bytes();
    let mut state = number as u64;
    while text.len() < 2_000 + number * 7919 % 8_000 {
        // Knuth's linear congruential generator for MMIX.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(WORDS[(state >> 60) as usize].as_bytes());
        text.push(if state >> 32 & 7 == 0 { b'\n' } else { b' ' });
        if state >> 40 & 7 == 0 {
            text.extend_from_slice((state >> 44 & 0xffff).to_string().as_bytes());
        }
    }
    text
}

/// Writes so many files below `dir`.
pub(crate) fn make(dir: &Path, files: usize) {
    for number in 0..files {
        let path = dir.join(path(number));
        if number % 40 == 0 {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        }
        std::fs::write(path, text(number)).expect("the file can be written");
    }
}

/// Entries of a layer with so many files and their folders, the contents in memory.
pub(crate) fn entries(files: usize) -> Vec<Entry> {
    entries_with(files, text)
}

/// The same without contents.
pub(crate) fn empty(files: usize) -> Vec<Entry> {
    entries_with(files, |_| Vec::new())
}

fn entries_with(files: usize, content: fn(usize) -> Vec<u8>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..files {
        let path = path(number);
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        let fresh = [number % 1600 == 0, number % 40 == 0];
        entries.extend(folders.zip(fresh).filter(|(_, fresh)| *fresh).map(|(folder, _)| directory(folder)));
        entries.push(entry(&path, EntryKind::File(Content::Bytes(Arc::from(content(number))))));
    }
    entries
}

fn directory(path: &str) -> Entry {
    Entry { mode: 0o755, ..entry(path, EntryKind::Directory) }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let xattrs = BTreeMap::new();
    Entry { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime: 1_700_000_000, xattrs }
}
