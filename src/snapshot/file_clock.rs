//! The clock by which a file system tells when a file was changed.
//!
//! It may stand still for some milliseconds, a second, or, on a server's, go by another time than this machine's: so it is read off a
//! file there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::Mode;

use super::listing::Mark;

/// Seconds and nanoseconds.
pub(super) type Time = (i64, u64);

/// The longest that it stands still: the coarsest file systems know whole seconds only, and the kernel ticks a hundred times a second
/// at least.
const LONGEST_TICK: Duration = Duration::from_millis(1015);

/// How often it is looked at meanwhile.
const PACE: Duration = Duration::from_micros(500);

/// Waits until all that is changed on the file system of `folder` gets a later time than `newest`: until a file there has got one. Since
/// Linux 6.13 (multigrain timestamps: ext4, xfs, btrfs, tmpfs) a file whose time was looked at gets the time of now when it is changed
/// next, and from then on no file an earlier one. There, nothing is waited for.
///
/// A clock that was set back meanwhile is not waited for: to be taken for another, a time would have to come again to the nanosecond.
pub(super) fn pass(newest: Time, folder: &Path) -> io::Result<()> {
    let began = Instant::now();
    let path = folder.join("clock");
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    // Looked at for the first time, it may have the time of the last tick.
    change(&file)?;
    while change(&file)? <= newest && began.elapsed() < LONGEST_TICK {
        std::thread::sleep(PACE);
    }
    Ok(())
}

/// Changes the file; gives the time that it has from that.
fn change(file: &File) -> io::Result<Time> {
    rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
    Ok(Mark::of(&rustix::fs::fstat(file)?).changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_changed_afterwards_has_a_later_time() {
        let folder = tempfile::tempdir().unwrap();
        let time = |name: &str| Mark::of(&rustix::fs::stat(folder.path().join(name)).unwrap()).changed;
        fs::write(folder.path().join("old"), "").unwrap();
        for round in 0..200 {
            // Neither a time that was looked at nor one that was not comes again, of whichever file.
            fs::write(folder.path().join("listed"), "x").unwrap();
            let newest = time("listed");
            pass(newest, folder.path()).unwrap();
            for name in ["old", "listed", "new"] {
                fs::write(folder.path().join(name), round.to_string()).unwrap();
                assert!(time(name) > newest, "{name}, round {round}");
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left");
    }

    #[test]
    fn a_time_to_come_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        pass((i64::MAX, 0), folder.path()).unwrap();
        assert!(began.elapsed() < 2 * LONGEST_TICK);
    }
}
