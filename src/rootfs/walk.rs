//! What `openat2(2)` does, one component at a time, where it is missing: Linux before 5.6, emulators of another processor (qemu-user),
//! and containers whose seccomp filter is older than the call.
//!
//! The directories walked through stay open, and `..` goes back to the one before: `..` itself is never opened and no symlink is ever
//! followed by the kernel, so nothing that is renamed underneath leads outside.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Symlinks;

/// As many symlinks as the kernel follows in one path (`MAXSYMLINKS`, path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// As many directories are kept open for one path: a quarter of the files that a process may have open by default.
const MAX_OPEN: usize = 256;

/// Whether the call is missing here. `error` is what it answered: asked once is whether it knows a path that must be there, since a filter
/// may answer `EPERM` in place of `ENOSYS`.
pub(super) fn is_needed(error: Errno) -> bool {
    static MISSING: OnceLock<bool> = OnceLock::new();
    matches!(error, Errno::NOSYS | Errno::PERM)
        && *MISSING.get_or_init(|| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let resolve = rustix::fs::ResolveFlags::IN_ROOT;
            let asked = rustix::fs::openat2(rustix::fs::CWD, "/", flags, Mode::empty(), resolve);
            matches!(asked, Err(Errno::NOSYS | Errno::PERM))
        })
}

/// Opens `path` below `root`, as `Root::open_at` does. `EAGAIN`: something was renamed meanwhile, as the call itself says it.
pub(super) fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    symlinks: Symlinks,
) -> rustix::io::Result<OwnedFd> {
    // Components that are still to come, the next one last.
    let mut rest = Vec::new();
    let mut must_be_directory = push(&mut rest, path.as_os_str());
    let mut walked: Vec<OwnedFd> = Vec::new();
    let mut followed = 0;
    while let Some(name) = rest.pop() {
        let here = walked.last().map_or(root, AsFd::as_fd);
        if name == ".." {
            // Above the root: an error below it (`RESOLVE_BENEATH`), the root itself in it (`RESOLVE_IN_ROOT`, as in a chroot).
            if walked.pop().is_none() && symlinks == Symlinks::Refuse {
                return Err(Errno::XDEV);
            }
            continue;
        }
        let is_last = rest.is_empty();
        let name = CString::new(name.into_vec()).map_err(|_| Errno::INVAL)?;
        if is_last && !must_be_directory {
            match last(here, &name, flags, mode) {
                // What lies there is a symlink, or was one, which the flags do not open as it is.
                Err(Errno::LOOP) if !flags.contains(OFlags::NOFOLLOW) => {}
                Err(Errno::NOTDIR) if !flags.contains(OFlags::NOFOLLOW) && is_symlink(here, &name) => {}
                opened => return opened,
            }
        }
        let found = rustix::fs::openat(
            here,
            &name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::Symlink if symlinks == Symlinks::Refuse => return Err(Errno::LOOP),
            FileType::Symlink => {}
            _ if is_last && !must_be_directory => return Err(Errno::AGAIN),
            FileType::Directory => {
                // Nothing leads back any more.
                if symlinks == Symlinks::Refuse && !rest.iter().any(|name| name == "..") {
                    walked.clear();
                }
                if walked.len() == MAX_OPEN {
                    return Err(Errno::NAMETOOLONG);
                }
                walked.push(found);
                continue;
            }
            _ => return Err(Errno::NOTDIR),
        }
        followed += 1;
        if followed > MAX_SYMLINKS {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&found, c"", Vec::new())?;
        if target.as_bytes().starts_with(b"/") {
            walked.clear();
        }
        let directory = push(&mut rest, OsStr::from_bytes(target.as_bytes()));
        must_be_directory |= directory && is_last;
    }
    // The path ends in a directory that was walked through: the root, what `..` led to, or what a slash follows.
    let here = walked.last().map_or(root, AsFd::as_fd);
    if flags.contains(OFlags::CREATE) {
        return Err(if flags.contains(OFlags::EXCL) { Errno::EXIST } else { Errno::ISDIR });
    }
    rustix::fs::openat(here, c".", flags, mode)
}

/// Opens the last component, as it is; the kernel follows no symlink.
fn last(here: BorrowedFd<'_>, name: &CStr, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let opened = rustix::fs::openat(here, name, flags | OFlags::NOFOLLOW, mode)?;
    // `O_PATH | O_NOFOLLOW` opens the symlink itself, which is right only where that was asked for.
    if flags.contains(OFlags::PATH)
        && !flags.contains(OFlags::NOFOLLOW)
        && FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode) == FileType::Symlink
    {
        return Err(Errno::LOOP);
    }
    Ok(opened)
}

fn is_symlink(here: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
}

/// Puts the components of `path` where the next one is taken from. Tells whether it can only name a directory: it ends in `/`, `.` or `..`.
fn push(rest: &mut Vec<OsString>, path: &OsStr) -> bool {
    let bytes = path.as_bytes();
    let components = bytes.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    rest.extend(components.rev().map(|name| OsString::from_vec(name.to_vec())));
    matches!(bytes.rsplit(|&byte| byte == b'/').next(), Some(b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    const PATHS: [&str; 36] = [
        ".",
        "..",
        "../..",
        "f",
        "f/",
        "f/.",
        "f/x",
        "d",
        "d/",
        "d/.",
        "d/..",
        "d/../f",
        "d/../../f",
        "d/g",
        "missing",
        "missing/x",
        "d/missing",
        "d/missing/",
        "to-f",
        "to-f/",
        "to-d",
        "to-d/",
        "to-d/g",
        "to-d/..",
        "up",
        "up/f",
        "far",
        "abs",
        "abs/",
        "loop",
        "loop/x",
        "dangling",
        "dangling/x",
        "chain",
        "d/back/g",
        "slash",
    ];

    /// What was opened, or why not.
    fn told(opened: rustix::io::Result<OwnedFd>) -> Result<(u64, u32), Errno> {
        opened.map(|fd| {
            let stat = rustix::fs::fstat(fd).unwrap();
            (stat.st_ino, stat.st_mode)
        })
    }

    #[test]
    fn does_what_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let root_path = dir.path().join("root");
        std::fs::write(dir.path().join("f"), "outside").unwrap();
        std::fs::create_dir_all(root_path.join("d")).unwrap();
        std::fs::write(root_path.join("f"), "").unwrap();
        std::fs::write(root_path.join("d/g"), "").unwrap();
        for (link, target) in [
            ("to-f", "f"),
            ("to-d", "d"),
            ("up", ".."),
            ("far", "../../../f"),
            ("abs", "/d"),
            ("loop", "loop"),
            ("dangling", "nowhere"),
            ("chain", "to-d/back/to-f"),
            ("d/back", "/d/.."),
            ("slash", "d/g/"),
        ] {
            symlink(target, root_path.join(link)).unwrap();
        }
        let root = super::super::Root::open(&root_path).unwrap();
        let mut compared = 0;
        for path in PATHS.map(Path::new) {
            for symlinks in [Symlinks::Refuse, Symlinks::FollowInside] {
                for flags in [
                    OFlags::RDONLY,
                    OFlags::PATH,
                    OFlags::RDONLY | OFlags::NOFOLLOW,
                    OFlags::PATH | OFlags::NOFOLLOW,
                    OFlags::PATH | OFlags::DIRECTORY,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                    OFlags::WRONLY,
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
                ] {
                    let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::empty());
                    // What is made is made once, by the kernel.
                    let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR } else { mode };
                    let ours = told(open(root.as_fd(), path, flags, mode, symlinks));
                    let made = flags.contains(OFlags::CREATE) && ours.is_ok();
                    if made {
                        for name in ["g", "missing", "d/missing"] {
                            drop(std::fs::remove_file(root_path.join(name)));
                        }
                    }
                    let theirs = told(rustix::fs::openat2(&root, path, flags, mode, symlinks.flags()));
                    if made {
                        for name in ["g", "missing", "d/missing"] {
                            drop(std::fs::remove_file(root_path.join(name)));
                        }
                        assert!(theirs.is_ok(), "{path:?} {flags:?} {symlinks:?}: {ours:?}, {theirs:?}");
                    } else if flags.contains(OFlags::CREATE) {
                        // Of several reasons the kernel gives another one where a path that ends in a slash is to be made.
                        assert!(
                            ours.is_err() && theirs.is_err(),
                            "{path:?} {symlinks:?}: {ours:?}, {theirs:?}"
                        );
                    } else {
                        assert_eq!(ours, theirs, "{path:?} {flags:?} {symlinks:?}");
                    }
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, PATHS.len() * 16);
    }

    #[test]
    fn deep_paths_keep_one_directory_open() {
        let dir = tempfile::tempdir().unwrap();
        let root = super::super::Root::open(dir.path()).unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", 1_500).collect();
        let mut here = rustix::io::dup(&root).unwrap();
        for _ in 0..1_500 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(root.as_fd(), &deep, flags, Mode::empty(), Symlinks::Refuse).unwrap();
        let followed = open(root.as_fd(), &deep, flags, Mode::empty(), Symlinks::FollowInside);
        assert_eq!(followed.unwrap_err(), Errno::NAMETOOLONG);
    }

    #[test]
    fn a_file_is_made_through_a_dangling_symlink_inside() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/../new", dir.path().join("link")).unwrap();
        let root = super::super::Root::open(dir.path()).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        open(root.as_fd(), Path::new("link"), flags, Mode::RUSR, Symlinks::FollowInside).unwrap();
        assert!(dir.path().join("new").is_file());
        let refused = open(root.as_fd(), Path::new("link"), flags, Mode::RUSR, Symlinks::Refuse);
        assert_eq!(refused.unwrap_err(), Errno::LOOP);
    }
}
