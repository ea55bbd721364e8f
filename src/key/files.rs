//! What selected files say to a key: one field for each of them.
//!
//! Its name is `file:` and the path in the source; its value is `TYPE MODE OWNER` and then what the type has more:
//!
//! ```text
//! file 0644 0:0 DIGEST [capability=HEX] [link=LENGTH:PATH]    a file; of one with several names, its first
//! dir 0755 0:0 [passed]                                       a directory; one that is there for what it holds
//! symlink 0777 0:0 target=LENGTH:TEXT
//! fifo 0644 0:0
//! device 0644 0:0 char 1:3
//! archive - - DIGEST                                          what ADD unpacks
//! contents - -                                                a directory of which only what it holds is taken
//! ```
//!
//! The owner is `-` where the instruction sets one. A miss is explained from these values, see
//! [`Cache::explain`](crate::cache::Cache::explain).

use std::fmt::Write as _;

use super::value::push_text;
use crate::cache::{Fields, Preimage};

/// The words of a layer that holds the part of a context at `source`.
pub fn context(source: &str) -> Preimage {
    let mut key = Preimage::new("context/2");
    key.push("source", source);
    key
}

/// The words of what a mount shows.
pub fn mounted() -> Preimage {
    Preimage::new("mount/1")
}

/// Adds an extended attribute of the file whose field was added last.
pub fn push_attribute(key: &mut Preimage, name: &[u8], value: &[u8]) {
    let mut hex = String::new();
    push_hex(&mut hex, value);
    key.push(format!("attribute:{}", escaped(name)), hex);
}

/// A file as it would be written.
#[derive(Debug, Clone, Copy)]
pub struct FileState<'f> {
    /// What it is.
    pub kind: FileKind<'f>,
    /// `0o7777`; links have no mode of their own.
    pub mode: u32,
    /// User and group; `None` when the instruction sets them.
    pub owner: Option<(u32, u32)>,
}

/// What a [`FileState`] is.
#[derive(Debug, Clone, Copy)]
pub enum FileKind<'f> {
    /// A regular file.
    File {
        /// What it holds.
        digest: &'f [u8; 32],
        /// Its `security.capability`.
        capability: Option<&'f [u8]>,
        /// The first path of the same file, where that is another one.
        first_name: Option<&'f [u8]>,
    },
    /// A directory.
    Directory {
        /// It is not selected itself, but is there for what it holds.
        only_as_parent: bool,
    },
    /// A symlink.
    Symlink(&'f [u8]),
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

impl FileState<'_> {
    /// Adds the value to `text`.
    pub fn push_to(&self, text: &mut String) {
        let Self { kind, mode, owner } = self;
        text.push_str(match kind {
            FileKind::File { .. } => "file ",
            FileKind::Directory { .. } => "dir ",
            FileKind::Symlink(_) => "symlink ",
            FileKind::Fifo => "fifo ",
            FileKind::CharDevice(..) | FileKind::BlockDevice(..) => "device ",
        });
        push_mode(text, if matches!(kind, FileKind::Symlink(_)) { 0o777 } else { *mode });
        // Writing to a string cannot fail.
        let _ = match owner {
            None => text.write_str(" -"),
            Some((0, 0)) => text.write_str(" 0:0"),
            Some((uid, gid)) => write!(text, " {uid}:{gid}"),
        };
        match kind {
            FileKind::File { digest, capability, first_name } => {
                text.push(' ');
                push_hex(text, *digest);
                if let Some(capability) = capability {
                    text.push_str(" capability=");
                    push_hex(text, capability);
                }
                if let Some(first) = first_name {
                    push_text(text, "link", &escaped(first));
                }
            }
            FileKind::Directory { only_as_parent: true } => text.push_str(" passed"),
            FileKind::Directory { only_as_parent: false } | FileKind::Fifo => {}
            FileKind::Symlink(target) => push_text(text, "target", &escaped(target)),
            FileKind::CharDevice(major, minor) => drop(write!(text, " char {major}:{minor}")),
            FileKind::BlockDevice(major, minor) => drop(write!(text, " block {major}:{minor}")),
        }
    }
}

/// The value of an archive that ADD unpacks: what it holds, and nothing of the file.
pub fn archive(digest: &[u8; 32]) -> String {
    let mut value = String::from("archive - - ");
    push_hex(&mut value, digest);
    value
}

/// The value of a directory of which only what it holds is copied.
pub const CONTENTS: &str = "contents - -";

/// Ends what a directory holds: another source may have the same path as a file in it.
pub fn push_end(fields: &mut Fields) {
    fields.push("end", "");
}

/// Adds the field's name, of the path that the parts make together; the source itself is `file:.`.
pub fn push_name(text: &mut String, parts: &[&[u8]]) {
    text.push_str("file:");
    let start = text.len();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if text.len() > start {
            text.push('/');
        }
        push_escaped(text, part);
    }
    if text.len() == start {
        text.push('.');
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    push_escaped(&mut text, bytes);
    text
}

/// Bytes as text that no two byte strings share: `\` is doubled, and what is no UTF-8 is `\xNN`.
fn push_escaped(text: &mut String, bytes: &[u8]) {
    // Nearly all paths are so, and a COPY has very many.
    if let Ok(plain) = std::str::from_utf8(bytes)
        && !bytes.contains(&b'\\')
    {
        return text.push_str(plain);
    }
    for chunk in bytes.utf8_chunks() {
        let mut pieces = chunk.valid().split('\\');
        text.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            text.push_str("\\\\");
            text.push_str(piece);
        }
        for byte in chunk.invalid() {
            text.push_str("\\x");
            push_hex(text, &[*byte]);
        }
    }
}

/// Four octal digits; modes have no more.
fn push_mode(text: &mut String, mode: u32) {
    for shift in [9, 6, 3, 0] {
        text.push(char::from(HEX[(mode >> shift & 7) as usize]));
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
