//! Checks entries and brings them into the order of the layer.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::{WriteError, show};
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::header;

/// The largest device number, major or minor, that 7 octal digits hold. Linux has 12 and 20 bits.
const MAX_DEVICE: u32 = 0o777_7777;

/// The entries sorted and checked; see [`super::write`].
pub(super) fn arrange(mut entries: Vec<Entry>) -> Result<Vec<Entry>, WriteError> {
    for entry in &mut entries {
        check(entry)?;
        header::normalise(entry);
    }
    entries.sort_unstable_by(compare);
    if let Some(pair) = entries.windows(2).find(|pair| compare(&pair[0], &pair[1]).is_eq()) {
        return Err(WriteError::Duplicate(show(&pair[0].path)));
    }
    let first = entries.partition_point(|entry| rank(entry) < PLAIN);
    check_parents(&entries[first..])?;
    link_to_first(&mut entries[first..])?;
    Ok(entries)
}

const PLAIN: u8 = 2;

fn rank(entry: &Entry) -> u8 {
    match entry.kind {
        EntryKind::OpaqueWhiteout => 0,
        EntryKind::Whiteout => 1,
        _ => PLAIN,
    }
}

fn compare(a: &Entry, b: &Entry) -> Ordering {
    rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path))
}

fn check(entry: &Entry) -> Result<(), WriteError> {
    check_path(&entry.path)?;
    match &entry.kind {
        EntryKind::Symlink(target) if target.is_empty() || target.contains(&0) => {
            return Err(WriteError::BadTarget(show(&entry.path)));
        }
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor }
            if (*major).max(*minor) > MAX_DEVICE =>
        {
            return Err(WriteError::BadDevice(show(&entry.path)));
        }
        _ => {}
    }
    // PAX ends a key at the first `=`.
    let bad = |name: &&Vec<u8>| name.is_empty() || name.iter().any(|&c| matches!(c, 0 | b'='));
    match entry.xattrs.keys().find(bad) {
        Some(name) => Err(WriteError::BadXattr { path: show(&entry.path), name: show(name) }),
        None => Ok(()),
    }
}

fn check_path(path: &[u8]) -> Result<(), WriteError> {
    if path.contains(&0) {
        return Err(WriteError::BadPath(show(path)));
    }
    for component in path.split(|&c| c == b'/') {
        // No Linux file system has longer names (NAME_MAX), so nobody could unpack one.
        if matches!(component, b"" | b"." | b"..") || component.len() > 255 {
            return Err(WriteError::BadPath(show(path)));
        }
        if component.starts_with(b".wh.") {
            return Err(WriteError::ReservedName(show(path)));
        }
    }
    Ok(())
}

/// Whether everything that lies below another entry lies below a directory. `entries` are sorted.
fn check_parents(entries: &[Entry]) -> Result<(), WriteError> {
    let mut checked: &[u8] = b"";
    for entry in entries {
        let mut parent = parent(&entry.path);
        // Siblings mostly follow one another, so few parents are looked up.
        while !parent.is_empty() && parent != checked {
            if let Some(found) = find(entries, parent)
                && !matches!(entries[found].kind, EntryKind::Directory)
            {
                return Err(WriteError::NotBelowDirectory { path: show(&entry.path), parent: show(parent) });
            }
            parent = self::parent(parent);
        }
        checked = self::parent(&entry.path);
    }
    Ok(())
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&c| c == b'/').map_or(b"", |slash| &path[..slash])
}

fn find(entries: &[Entry], path: &[u8]) -> Option<usize> {
    entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok()
}

/// Makes every hard link name the first path of its file, and moves the content there.
///
/// All names get the metadata of the file: readers set owner and mode once for each name, and the
/// last would win.
fn link_to_first(entries: &mut [Entry]) -> Result<(), WriteError> {
    let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
    for index in 0..entries.len() {
        if matches!(entries[index].kind, EntryKind::HardLink(_)) {
            groups.entry(holder(entries, index)?).or_default().push(index);
        }
    }
    // The order of the map does not matter: groups are disjoint.
    for (holder, links) in groups {
        let original = entries[holder].clone();
        let first = links.iter().copied().fold(holder, usize::min);
        let target = entries[first].path.clone();
        for index in links.into_iter().chain([holder]) {
            let path = std::mem::take(&mut entries[index].path);
            let kind =
                if index == first { original.kind.clone() } else { EntryKind::HardLink(target.clone()) };
            entries[index] = Entry { path, kind, ..original.clone() };
        }
    }
    Ok(())
}

/// The entry that holds the content of the hard link at `index`, also through other links.
fn holder(entries: &[Entry], index: usize) -> Result<usize, WriteError> {
    let mut at = index;
    for _ in 0..=entries.len() {
        match &entries[at].kind {
            EntryKind::HardLink(target) => match find(entries, target) {
                Some(next) => at = next,
                None => return Err(bad_link(&entries[index], target)),
            },
            EntryKind::Directory => return Err(bad_link(&entries[index], &entries[at].path)),
            _ => return Ok(at),
        }
    }
    Err(bad_link(&entries[index], &entries[at].path))
}

fn bad_link(link: &Entry, target: &[u8]) -> WriteError {
    WriteError::BadHardLink { path: show(&link.path), target: show(target) }
}
