//! Roots through fuse-overlayfs, for stores on which the kernel mounts no overlay.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::exec::failure::{Doing as _, Failure};
use crate::exec::sys;

/// A server that has not mounted by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// The directories of one mount.
pub(in crate::exec) struct Mount<'a> {
    pub(in crate::exec) program: &'a Path,
    pub(in crate::exec) lowers: &'a [PathBuf],
    pub(in crate::exec) upper: &'a Path,
    pub(in crate::exec) work: &'a Path,
    pub(in crate::exec) merged: &'a Path,
}

/// Starts the server and waits until the mount is there. It ends with the pid namespace of this process.
pub(in crate::exec) fn serve(mount: &Mount<'_>) -> Result<(), Failure> {
    let args =
        arguments(mount).ok_or_else(|| refused(libc::EINVAL, "a path holds `:`, `,` or a backslash"))?;
    let before = device(mount.merged)?;
    let server = match sys::fork().doing(|| "fork".into())? {
        sys::Fork::Child => {
            let _ = become_server(&args);
            std::process::exit(127);
        }
        sys::Fork::Parent(pid) => pid,
    };
    let deadline = Instant::now() + PATIENCE;
    while device(mount.merged)? == before {
        if has_ended(server) {
            return Err(refused(libc::EIO, "fuse-overlayfs ended before it had mounted"));
        }
        if Instant::now() > deadline {
            return Err(refused(libc::ETIMEDOUT, "fuse-overlayfs does not mount"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn refused(errno: i32, log: &str) -> Failure {
    Failure::Overlay { errno, log: log.to_owned() }
}

/// Program, `-f` (stay in the foreground), options, mount point; `None` when a path cannot be an option.
fn arguments(mount: &Mount<'_>) -> Option<Vec<CString>> {
    let plain =
        |path: &Path| path.to_str().filter(|text| !text.contains([':', ',', '\\'])).map(str::to_owned);
    let lowers: Option<Vec<String>> = mount.lowers.iter().map(|path| plain(path)).collect();
    let (upper, work) = (plain(mount.upper)?, plain(mount.work)?);
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", lowers?.join(":"));
    let texts: [OsString; 5] =
        [mount.program.into(), "-f".into(), "-o".into(), options.into(), mount.merged.into()];
    texts.into_iter().map(|text| CString::new(text.into_vec()).ok()).collect()
}

/// Its output would be taken for the step's; what it says when it cannot mount is lost with it.
fn become_server(args: &[CString]) -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    sys::reset_signals();
    let path = [CString::from(c"PATH=/usr/sbin:/usr/bin:/sbin:/bin")];
    sys::execve(&args[0], args, &path);
    Ok(())
}

fn device(path: &Path) -> Result<u64, Failure> {
    Ok(rustix::fs::stat(path).doing(|| format!("look at {}", path.display()))?.st_dev)
}

fn has_ended(server: Pid) -> bool {
    !matches!(rustix::process::waitpid(Some(server), WaitOptions::NOHANG), Ok(None))
}
