//! The tar headers of one entry: ustar, preceded by a PAX header only where ustar cannot hold the entry.
//!
//! What the bytes are follows from the entry alone. User and group names stay empty: an image's ids
//! mean what its own /etc/passwd says.

use tar::{EntryType, Header};

use super::entry::{Entry, EntryKind};

/// tar's unit.
pub(super) const BLOCK: usize = 512;

/// The largest numbers that 7 and 11 octal digits hold.
const MAX_7_DIGITS: u64 = 0o777_7777;
const MAX_11_DIGITS: u64 = 0o777_7777_7777;

/// Sets what the tar does not tell: a symlink has no mode of its own, a whiteout neither mode nor owner.
pub(super) fn normalise(entry: &mut Entry) {
    match entry.kind {
        EntryKind::Symlink(_) => entry.mode = 0o777,
        EntryKind::Whiteout | EntryKind::OpaqueWhiteout => {
            (entry.mode, entry.uid, entry.gid) = (0, 0, 0);
            entry.xattrs.clear();
        }
        _ => entry.mode &= 0o7777,
    }
}

/// The name that `entry` has in the tar.
pub(super) fn tar_name(entry: &Entry) -> Vec<u8> {
    let mut name = entry.path.clone();
    match entry.kind {
        EntryKind::Directory => name.push(b'/'),
        EntryKind::Whiteout => {
            let at = name.iter().rposition(|&c| c == b'/').map_or(0, |slash| slash + 1);
            name.splice(at..at, *b".wh.");
        }
        EntryKind::OpaqueWhiteout => name.extend_from_slice(b"/.wh..wh..opq"),
        _ => {}
    }
    name
}

/// The number of bytes that follow the headers, without padding.
pub(super) fn data_len(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File(content) => content.len(),
        _ => 0,
    }
}

/// The number of bytes of `entry`'s headers: what [`encode`] appends. The entry is [normalised](normalise).
pub(super) fn encoded_len(entry: &Entry) -> usize {
    if fits_plainly(entry) {
        return BLOCK;
    }
    match records(entry, &tar_name(entry)) {
        pax if pax.is_empty() => BLOCK,
        pax => 2 * BLOCK + padded(pax.len()),
    }
}

/// Appends the headers of `entry` to `out`.
pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let name = tar_name(entry);
    if !fits_plainly(entry) {
        let pax = records(entry, &name);
        if !pax.is_empty() {
            encode_pax(&name, &pax, out);
        }
    }
    out.extend_from_slice(ustar(entry, &name).as_bytes());
}

/// Whether a glance shows that no PAX record is needed. Most entries of most layers pass; for the
/// others [`records`] decides.
fn fits_plainly(entry: &Entry) -> bool {
    let link = link_target(entry);
    // 100 bytes less what a whiteout or a directory adds to the path.
    entry.path.len() <= 80
        && link.len() <= 100
        && entry.path.is_ascii()
        && link.is_ascii()
        && u64::from(entry.uid.max(entry.gid)) <= MAX_7_DIGITS
        && plain_time(entry).is_some()
        && data_len(entry) <= MAX_11_DIGITS
        && entry.xattrs.is_empty()
}

/// The PAX records that `entry` needs, sorted by key.
fn records(entry: &Entry, name: &[u8]) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut need = |key: &str, value: &[u8]| records.push((key.as_bytes().to_vec(), value.to_vec()));
    if !name.is_ascii() || split(name).is_none() {
        need("path", name);
    }
    let link = link_target(entry);
    if !link.is_ascii() || link.len() > 100 {
        need("linkpath", link);
    }
    if data_len(entry) > MAX_11_DIGITS {
        need("size", data_len(entry).to_string().as_bytes());
    }
    if plain_time(entry).is_none() {
        need("mtime", entry.mtime.to_string().as_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if u64::from(id) > MAX_7_DIGITS {
            need(key, id.to_string().as_bytes());
        }
    }
    for (key, value) in &entry.xattrs {
        records.push(([b"SCHILY.xattr.", key.as_slice()].concat(), value.clone()));
    }
    records.sort();
    let mut out = Vec::new();
    for (key, value) in &records {
        push_record(key, value, &mut out);
    }
    out
}

/// One record: `LEN KEY=VALUE\n`, where LEN counts itself.
fn push_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + digits(len) {
        len = rest + digits(len);
    }
    out.extend_from_slice(format!("{len} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// The PAX header and its records, padded.
fn encode_pax(name: &[u8], records: &[u8], out: &mut Vec<u8>) {
    let base = name.strip_suffix(b"/").unwrap_or(name).rsplit(|&c| c == b'/').next().unwrap_or(name);
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    put(&mut header.as_old_mut().name, &plain(&[b"PaxHeaders.0/", base].concat()));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(records.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(records);
    out.resize(out.len() + padded(records.len()) - records.len(), 0);
}

/// The ustar header. A field that a PAX record overrides holds the nearest it can.
fn ustar(entry: &Entry, name: &[u8]) -> Header {
    let mut header = Header::new_ustar();
    put_name(&mut header, name);
    put(&mut header.as_old_mut().linkname, &plain(link_target(entry)));
    header.set_entry_type(entry_type(&entry.kind));
    header.set_mode(entry.mode);
    header.set_uid(u64::from(entry.uid).min(MAX_7_DIGITS));
    header.set_gid(u64::from(entry.gid).min(MAX_7_DIGITS));
    header.set_mtime(plain_time(entry).unwrap_or(0));
    header.set_size(data_len(entry).min(MAX_11_DIGITS));
    if let Some(fields) = header.as_ustar_mut() {
        let (major, minor) = device(&entry.kind);
        fields.set_device_major(major);
        fields.set_device_minor(minor);
    }
    header.set_cksum();
    header
}

fn put_name(header: &mut Header, name: &[u8]) {
    match split(name).filter(|_| name.is_ascii()) {
        Some((prefix, rest)) => {
            put(&mut header.as_old_mut().name, rest);
            if let Some(fields) = header.as_ustar_mut() {
                put(&mut fields.prefix, prefix);
            }
        }
        None => put(&mut header.as_old_mut().name, &plain(name)),
    }
}

/// Splits a name into ustar's prefix (at most 155 bytes) and name (at most 100) at a `/`, which is in neither.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    let last = name.len().min(156);
    let first = name.len().saturating_sub(101).max(1);
    let slash = (first..last.min(name.len() - 1)).find(|&at| name[at] == b'/')?;
    Some((&name[..slash], &name[slash + 1..]))
}

/// `text` for a reader that knows no PAX: 7 bits, 100 bytes, and no `/` at a cut end, which would make
/// a directory of it.
fn plain(text: &[u8]) -> Vec<u8> {
    let mut plain: Vec<u8> = text.iter().take(100).map(|&c| if c.is_ascii() { c } else { b'_' }).collect();
    if text.len() > 100 && plain.last() == Some(&b'/') {
        plain.pop();
    }
    plain
}

fn put(field: &mut [u8], text: &[u8]) {
    field[..text.len()].copy_from_slice(text);
}

fn entry_type(kind: &EntryKind) -> EntryType {
    match kind {
        EntryKind::Directory => EntryType::Directory,
        EntryKind::File(_) | EntryKind::Whiteout | EntryKind::OpaqueWhiteout => EntryType::Regular,
        EntryKind::Symlink(_) => EntryType::Symlink,
        EntryKind::HardLink(_) => EntryType::Link,
        EntryKind::Fifo => EntryType::Fifo,
        EntryKind::CharDevice { .. } => EntryType::Char,
        EntryKind::BlockDevice { .. } => EntryType::Block,
    }
}

fn link_target(entry: &Entry) -> &[u8] {
    match &entry.kind {
        EntryKind::Symlink(target) | EntryKind::HardLink(target) => target,
        _ => b"",
    }
}

fn device(kind: &EntryKind) -> (u32, u32) {
    match *kind {
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    }
}

/// The time, where ustar holds it.
fn plain_time(entry: &Entry) -> Option<u64> {
    u64::try_from(entry.mtime).ok().filter(|&time| time <= MAX_11_DIGITS)
}

/// `len` rounded up to whole blocks.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::layer::entry::Content;

    #[test]
    fn eight_gib_and_more_need_a_record() {
        let file = Arc::new(std::fs::File::open("/dev/null").unwrap());
        for (len, expected) in [(MAX_11_DIGITS, 512), (MAX_11_DIGITS + 1, 1536)] {
            let content = Content::Slice { file: Arc::clone(&file), offset: 0, len };
            let kind = EntryKind::File(content);
            let (path, xattrs) = (b"f".to_vec(), std::collections::BTreeMap::new());
            let entry = Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs };
            let mut bytes = Vec::new();
            encode(&entry, &mut bytes);
            assert_eq!((bytes.len(), encoded_len(&entry)), (expected, expected));
            let record = format!("19 size={}\n", MAX_11_DIGITS + 1);
            assert_eq!(bytes[512..].starts_with(record.as_bytes()), len > MAX_11_DIGITS);
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for (len, expected) in [(1, "6 k=v\n"), (3, "8 k=vvv\n"), (4, "9 k=vvvv\n"), (5, "11 k=vvvvv\n")] {
            let mut record = Vec::new();
            push_record(b"k", &vec![b'v'; len], &mut record);
            assert_eq!(String::from_utf8(record).unwrap(), expected);
        }
    }

    #[test]
    fn names_are_split_only_at_slashes_between_parts() {
        let name = |a: usize, b: usize| [vec![b'a'; a], vec![b'/'], vec![b'b'; b]].concat();
        for (prefix, rest, fits) in [(155, 100, true), (156, 100, false), (155, 101, false), (1, 100, true)] {
            assert_eq!(split(&name(prefix, rest)).is_some(), fits, "{prefix} {rest}");
        }
        // The slash at the end of a directory's name stays with it.
        assert_eq!(split(&[name(10, 99), b"/".to_vec()].concat()).map(|(a, _)| a.len()), Some(10));
        assert_eq!(split(&[vec![b'a'; 101], b"/".to_vec()].concat()), None);
    }
}
