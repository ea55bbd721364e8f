//! What is said when the store's file system is full: how large it is, and how to go on.

use std::path::Path;

use crate::report::Diagnostic;

/// What the system says, and programs print, when a file system is full.
pub(super) const NO_SPACE: &str = "No space left on device";
/// How to go on when a step's changes do not fit in memory.
pub(super) const FULL_MEMORY: &str =
    "put the store on ext4, xfs, btrfs or tmpfs, in a container on a volume: `--root DIR`";
/// Less than this is no room to go on; the rest may be kept for root.
const LITTLE_BYTES: u64 = 64 << 20;

/// Explains an error of rbuild's own that comes of a full disk. They come as text, from other processes of the build
/// too, and whatever the place, what a step makes is in the store.
pub(super) fn explain(diagnostic: Diagnostic, store: &Path) -> Diagnostic {
    let is_of_it = diagnostic.message.contains(NO_SPACE);
    match is_of_it.then(|| state(store)).flatten() {
        Some((what, _)) => with_help(diagnostic.note(format!("the file system of {what}"))),
        None => diagnostic,
    }
}

/// Explains the failure of a command that printed [`NO_SPACE`], if the store's file system is full: a step's own in memory
/// may be, too.
pub(super) fn explain_command(diagnostic: Diagnostic, store: &Path) -> Diagnostic {
    match state(store) {
        Some((what, true)) => {
            let note = format!("what a step writes is in the store, and the file system of {what}");
            with_help(diagnostic.note(note))
        }
        Some((_, false)) | None => diagnostic,
    }
}

/// Says that a command has filled the memory for its changes, and what comes of it. Which is no failure yet.
pub(super) fn memory_note(title: &str, size_bytes: u64) -> String {
    format!(
        "{title}: what it changes does not fit into {} of memory; it runs again, on a copy of the root file system ({FULL_MEMORY})",
        binary(size_bytes)
    )
}

fn with_help(diagnostic: Diagnostic) -> Diagnostic {
    diagnostic
        .help("`rbuild prune --all` removes what no name needs; `--root DIR` puts the store on another disk")
}

/// How full the file system of a path is, in words that begin with the path, and whether it has no room to go on.
fn state(path: &Path) -> Option<(String, bool)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // Some file systems do not count inodes.
    let has_inodes = stat.f_favail > 0 || stat.f_files == 0;
    let is_full = free <= LITTLE_BYTES || !has_inodes;
    let what = match (is_full, has_inodes) {
        (_, false) => "has no more inodes",
        (true, true) => "is full",
        // What was half-written has been removed meanwhile.
        (false, true) => "was full",
    };
    let all = stat.f_blocks.saturating_mul(stat.f_frsize);
    Some((format!("`{}` {what}: {} of {} free", path.display(), binary(free), binary(all)), is_full))
}

/// `3.1 GiB`, in powers of 1024 as limits are given.
pub(super) fn binary(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    match mebibytes {
        m if m >= 1024.0 => format!("{:.1} GiB", m / 1024.0),
        m => format!("{m:.0} MiB"),
    }
}
