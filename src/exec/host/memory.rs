//! How much memory the changes of a step may take, and the file systems in it.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::executor::Executor;
use crate::exec::failure::ExecError;
use crate::exec::step::memory::Memory;
use crate::exec::wire::zygote::Zygote;

/// With less than this, installing one package would fill it.
const LEAST_BYTES: u64 = 128 << 20;

/// A file system in memory that all steps started after it see at one place. Gone with the value; steps that still run
/// keep it.
#[derive(Debug)]
pub struct MemoryMount {
    at: PathBuf,
    size_bytes: u64,
    zygote: Arc<Zygote>,
    /// Where it is mounted.
    namespace: OwnedFd,
    root: OwnedFd,
    /// How many the executor has.
    count: Arc<AtomicUsize>,
}

impl MemoryMount {
    /// What is at `path` in it, an absolute path as steps see it, by a path of this process.
    pub fn here(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.root.as_raw_fd()));
        path.strip_prefix(&self.at).map_or_else(|_| path.to_owned(), |inside| root.join(inside))
    }

    /// How much it can hold.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether there is no room in it any more.
    pub fn is_full(&self) -> bool {
        rustix::fs::fstatvfs(&self.root).is_ok_and(|stat| stat.f_bavail == 0 || stat.f_favail == 0)
    }

    pub(super) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl Drop for MemoryMount {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.zygote.unmount(&self.at);
    }
}

impl Executor {
    /// Mounts a file system in memory at the directory `at`, for steps and for [`Executor::run_job_among`] to see, and makes
    /// `folders` in it, absolute paths with their modes. Nothing is reserved.
    pub fn mount_memory(
        &self,
        at: &Path,
        size_bytes: u64,
        folders: &[(&Path, u32)],
    ) -> Result<MemoryMount, ExecError> {
        let zygote = self.zygote()?;
        let folders = folders.iter().map(|(path, mode)| ((*path).to_owned(), *mode)).collect();
        let [namespace, root] = zygote.mount(&Memory { at: at.to_owned(), size_bytes, folders })?;
        let count = Arc::clone(&self.memory_mounts);
        count.fetch_add(1, Ordering::Relaxed);
        Ok(MemoryMount { at: at.to_owned(), size_bytes, zygote, namespace, root, count })
    }
}

/// The environment variable that says how much memory the changes of a step may take.
const WISH: &str = "RBUILD_RUN_MEMORY";

/// How many bytes of changes a step may keep in memory: what the environment says, else half of what this process can still
/// get, from the machine and from the control groups that it is in.
///
/// # Errors
/// Why there is none, in words.
pub fn room_in_memory() -> Result<u64, String> {
    if let Some(wish) = std::env::var_os(WISH) {
        let wish = wish.to_string_lossy();
        return match crate::text::size::parse(&wish) {
            Some(0) => Err(format!("`{WISH}` is 0")),
            Some(bytes) => Ok(bytes),
            None => Err(format!("`{WISH}` is `{wish}`, which is no size such as `512m`")),
        };
    }
    let available = meminfo("MemAvailable:").ok_or("/proc/meminfo does not tell how much memory there is")?;
    match group_rooms().into_iter().fold(available, u64::min) / 2 {
        most if most >= LEAST_BYTES => Ok(most),
        most => Err(format!("with {} MiB of memory for it, what RUN changes is not kept there", most >> 20)),
    }
}

fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// What is left to each control group above this process that has a limit (version 2; in a container, those that it sees).
fn group_rooms() -> Vec<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let root = Path::new("/sys/fs/cgroup");
    let folder = root.join(own.trim_start_matches('/'));
    let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let above = folder.ancestors().take_while(|folder| folder.starts_with(root));
    let left = above.filter_map(|folder| {
        let limit = number(folder.join("memory.max"))?;
        Some(limit.saturating_sub(number(folder.join("memory.current")).unwrap_or(0)))
    });
    let first = || {
        let folder = root.join("memory");
        let limit = number(folder.join("memory.limit_in_bytes"))?;
        Some(limit.saturating_sub(number(folder.join("memory.usage_in_bytes")).unwrap_or(0)))
    };
    left.chain(first()).collect()
}
