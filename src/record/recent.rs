//! Records of builds that were over soon, in one file, line by line: to append to a file takes a tenth of the time that it takes to make one.
//!
//! ```text
//! <milliseconds>-<id> <bytes of the record> <record>
//! ```
//!
//! Who appends writes at once, begins with the end of a line, and holds the lock with others; who takes lines out holds it alone, and puts another
//! file in the place. A line that was cut off, by a full disk or the end of a process, is not as long as it says, and is none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Longer records get files of their own.
pub(super) const LONGEST: usize = 16 << 10;

/// Where they are.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("recent")
}

/// Adds a record, whose text is one line, to those in a folder.
///
/// # Errors
/// Whatever the system refuses; what was written until then is no record.
pub(super) fn append(folder: &Path, stem: &str, text: &str) -> io::Result<()> {
    let line = format!("\n{stem} {} {text}\n", text.len());
    let path = path(folder);
    let mut file = current(
        || OpenOptions::new().append(true).create(true).mode(0o600).open(&path),
        |file| {
            // Where locks cannot be had, lines may be lost to who takes others out in the same moment.
            let _ = file.lock_shared();
        },
    )?;
    file.write_all(line.as_bytes())
}

/// More writers than this in a row do not take a file's place between its opening and its lock.
const TRIES: u32 = 100;

/// Opens and locks the file that has the name when it is locked, and not one that another took the place of.
fn current(open: impl Fn() -> io::Result<File>, wait: impl Fn(&File)) -> io::Result<File> {
    let mut tries = 0;
    loop {
        let file = open()?;
        wait(&file);
        tries += 1;
        // There are file systems that count no links.
        if file.metadata()?.nlink() > 0 || tries == TRIES {
            return Ok(file);
        }
    }
}

/// Takes out the lines that are not to be kept. Nothing happens where there are none.
///
/// # Errors
/// Whatever the system refuses; then all are still there.
pub(super) fn retain(folder: &Path, keep: impl Fn(&str) -> bool) -> io::Result<()> {
    let path = path(folder);
    let file = current(
        || crate::rootfs::open_regular(&path),
        |file| {
            let _ = file.lock();
        },
    );
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let bytes = super::kept::read_all(&file)?;
    let mut left = Vec::with_capacity(bytes.len());
    let mut is_less = false;
    for (stem, record) in lines(&bytes) {
        if keep(stem) {
            write!(left, "\n{stem} {} ", record.len())?;
            left.extend_from_slice(&bytes[record]);
            left.push(b'\n');
        } else {
            is_less = true;
        }
    }
    if !is_less {
        return Ok(());
    }
    if left.is_empty() {
        return fs::remove_file(&path);
    }
    // Nobody else makes this one: the lock is held until the end.
    let fresh = path.with_extension("new");
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    let placed = written.and_then(|mut file| file.write_all(&left)).and_then(|()| fs::rename(&fresh, &path));
    placed.inspect_err(|_| drop(fs::remove_file(&fresh)))
}

/// The records in these bytes, by time and id, in the order in which they were added.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (&str, Range<usize>)> {
    let mut next = 0;
    let ends = memchr::memchr_iter(b'\n', bytes);
    ends.filter_map(move |end| {
        let start = std::mem::replace(&mut next, end + 1);
        let line = &bytes[start..end];
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let (stem, size) = (word()?, word()?.parse::<usize>().ok()?);
        let record = words.next()?;
        (record.len() == size).then_some((stem, end - size..end))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(folder: &Path) -> Vec<(String, String)> {
        let bytes = fs::read(path(folder)).unwrap();
        let text = |range: Range<usize>| String::from_utf8(bytes[range].to_vec()).unwrap();
        lines(&bytes).map(|(stem, record)| (stem.to_owned(), text(record))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(stem, text)| ((*stem).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_was_cut_off_spoils_nothing_that_follows() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path(), path(dir.path()));
        retain(folder, |_| false).unwrap();
        assert!(!file.exists());
        append(folder, "1-a", "{\"a\": \"b c\"}").unwrap();
        // Wherever the end of the second was lost.
        let whole = fs::read(&file).unwrap();
        append(folder, "2-b", "{}").unwrap();
        let both = fs::read(&file).unwrap();
        for end in whole.len()..both.len() {
            fs::write(&file, &both[..end]).unwrap();
            assert_eq!(told(folder), pairs(&[("1-a", "{\"a\": \"b c\"}")]), "{end}");
            append(folder, "3-c", "[1]").unwrap();
            let all = told(folder);
            // All but the end of its line is all of it, once that comes.
            let expected: &[_] = if end + 1 == both.len() {
                &[("1-a", "{\"a\": \"b c\"}"), ("2-b", "{}"), ("3-c", "[1]")]
            } else {
                &[("1-a", "{\"a\": \"b c\"}"), ("3-c", "[1]")]
            };
            assert_eq!(all, pairs(expected), "{end}");
        }
        retain(folder, |stem| stem != "1-a").unwrap();
        assert_eq!(told(folder), pairs(&[("2-b", "{}"), ("3-c", "[1]")]));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_lost_between_those_who_append_and_those_who_take_out() {
        const EACH: usize = 200;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                scope.spawn(move || {
                    for at in 0..EACH {
                        append(folder, &format!("{at}-{name}"), "{}").unwrap();
                        append(folder, &format!("{at}-{name}x"), "{}").unwrap();
                    }
                });
            }
            scope.spawn(move || {
                for _ in 0..EACH {
                    retain(folder, |stem| !stem.ends_with('x')).unwrap();
                }
            });
        });
        retain(folder, |stem| !stem.ends_with('x')).unwrap();
        let left: std::collections::BTreeSet<String> =
            told(folder).into_iter().map(|(stem, _)| stem).collect();
        assert_eq!(left.len(), 2 * EACH);
    }
}
