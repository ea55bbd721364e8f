//! What trees take up on disk, written down beside each: it never changes, and to count it anew is to look at every file
//! of every base.
//!
//! Trees that share files with others are another matter: who has the files changes with what is removed. Where a store has
//! such trees, no sum is believed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::trees::{MERGED, is_sound};
use crate::store::{self, Folder, Measured, Measuring, Store};

/// What measures the store and knows the sums of its trees. Those that have none yet, as an earlier version left them, are
/// counted and get theirs.
///
/// # Errors
/// What the system refuses.
pub fn measuring(store: &Store) -> Result<Measuring, store::Error> {
    let mut homes = Vec::new();
    for (kind, _) in store.entries_of(&store.folder(Folder::Trees))? {
        let found = store.entries_of(&kind)?;
        let shares_files = kind.file_name().is_some_and(|name| name.to_string_lossy().contains(MERGED));
        if shares_files && !found.is_empty() {
            return Ok(Measuring::default());
        }
        homes.extend(found.into_iter().map(|(home, _)| home));
    }
    let homes = homes.into_iter().filter(|home| is_sound(store, home));
    let sums: HashMap<PathBuf, Measured> =
        homes.filter_map(|home| sum_of(&home).map(|sum| (home, sum))).collect();
    Ok(Measuring::knowing(sums))
}

/// The sum of what lies at `home`, read or counted.
fn sum_of(home: &Path) -> Option<Measured> {
    let size = home.join("size");
    if let Some(sum) = crate::rootfs::read_regular_text(&size).ok().as_deref().and_then(parse) {
        return Some(sum);
    }
    // Where nothing can be written everything is counted each time. What a killed process leaves is written anew, since
    // there is no `size` then.
    let fresh = home.join("size.new");
    let _ = (fs::remove_file(&size), fs::remove_file(&fresh));
    let sum = write(&fresh, Measuring::default().tree(home)).ok()?;
    fs::rename(&fresh, &size).is_ok().then_some(sum)
}

/// Writes the sum of `others` and of the file itself, and gives it.
pub(super) fn write(size: &Path, others: Measured) -> io::Result<Measured> {
    // The file takes up the same, whatever the numbers are.
    fs::write(size, text(others))?;
    let mut sum = others;
    sum.disk_bytes += fs::symlink_metadata(size)?.blocks() * 512;
    fs::write(size, text(sum))?;
    Ok(sum)
}

fn text(sum: Measured) -> String {
    format!("{:020} {:020}\n", sum.disk_bytes, sum.unreadable)
}

/// Of a file that was cut short there is none.
fn parse(text: &str) -> Option<Measured> {
    let (disk_bytes, unreadable) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Measured { disk_bytes: disk_bytes.parse().ok()?, unreadable: unreadable.parse().ok()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::{ChainId, Digest};
    use crate::snapshot::{Error, TreeKind, Trees};

    /// A store with a tree of a few files.
    fn store(dir: &Path, kind: &TreeKind) -> (Store, PathBuf) {
        let store = Store::open(&dir.join("s")).unwrap();
        let tree = Trees::new(&store, kind).unwrap().ensure(ChainId(Digest::of(b"chain")), |target| {
            fs::create_dir(target).map_err(Error::io("make", target))?;
            fs::write(target.join("f"), vec![7; 100_000]).map_err(Error::io("write", target))
        });
        let home = tree.unwrap().parent().unwrap().to_owned();
        (store, home)
    }

    fn counted(path: &Path) -> Measured {
        Measuring::default().tree(path)
    }

    /// Nothing in the tree is looked at: what should not be there is not seen.
    #[test]
    fn the_sum_of_a_tree_is_known_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (store, home) = store(dir.path(), &TreeKind::root());
        let before = counted(&home);
        assert_eq!(measuring(&store).unwrap().tree(&home), before);
        fs::write(home.join("fs/g"), vec![7; 100_000]).unwrap();
        assert_ne!(counted(&home), before);
        assert_eq!(measuring(&store).unwrap().tree(&home), before);
        let whole = measuring(&store).unwrap().tree(store.root());
        fs::remove_file(home.join("fs/g")).unwrap();
        assert_eq!(whole, counted(store.root()));
    }

    #[test]
    fn a_tree_without_a_sum_or_with_a_part_of_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, home) = store(dir.path(), &TreeKind::root());
        let before = counted(&home);
        for left in
            [None, Some(""), Some("0000000000"), Some("00000000000000000007 000000"), Some("\0\0\0\n")]
        {
            fs::remove_file(home.join("size")).unwrap();
            left.into_iter().for_each(|text| fs::write(home.join("size"), text).unwrap());
            assert_eq!(measuring(&store).unwrap().tree(&home), before, "{left:?}");
            assert_eq!(parse(&fs::read_to_string(home.join("size")).unwrap()), Some(before), "{left:?}");
        }
    }

    #[test]
    fn a_sum_is_not_believed_where_the_tree_is_not_or_shares_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let (store, home) = store(dir.path(), &TreeKind::root());
        fs::write(home.join("fs/g"), vec![7; 100_000]).unwrap();
        let boot = fs::read_to_string(home.join("boot")).unwrap();
        fs::write(home.join("boot"), "another").unwrap();
        assert_eq!(measuring(&store).unwrap().tree(&home), counted(&home));
        fs::write(home.join("boot"), boot).unwrap();
        assert_ne!(measuring(&store).unwrap().tree(&home), counted(&home));
        self::store(dir.path(), &TreeKind::root().merged());
        assert_eq!(measuring(&store).unwrap().tree(&home), counted(&home));
    }
}
