//! The mounts that a step asks for, by what is put in place instead.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid};

use super::furnish::{Furnished, New, Then};
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::spec::{MountSource, MountSpec};
use crate::layer::unpack::OpaqueMark;
use crate::snapshot::{CopyJob, copy_part};

impl Furnished {
    /// Parents before what is below them.
    pub(super) fn mount_all(&mut self, mounts: &[MountSpec]) -> Result<(), Failure> {
        let mut sorted: Vec<&MountSpec> = mounts.iter().collect();
        sorted.sort_by(|a, b| a.target.cmp(&b.target));
        let mut caches: HashMap<&Path, &str> = HashMap::new();
        for mount in sorted {
            self.mount(mount, &mut caches)?;
        }
        Ok(())
    }

    fn mount<'m>(
        &mut self,
        mount: &'m MountSpec,
        caches: &mut HashMap<&'m Path, &'m str>,
    ) -> Result<(), Failure> {
        let target = mount.target.as_str();
        match &mount.kind {
            MountSource::Cache { source } | MountSource::Bind { source } => {
                // A directory can be at one place: at the others a link leads there.
                if let Some(first) = caches.get(source.as_path()) {
                    return self.put_at(target, New::Link(first), Then::Goes);
                }
                caches.insert(source, target);
                if mount.readonly {
                    let copied = self.copy(std::slice::from_ref(source), "/", target)?;
                    return self.put_at(target, New::Moved(&copied), Then::GoesStrictly);
                }
                self.put_at(target, New::Moved(source), Then::Returns(source.clone()))
            }
            MountSource::Layers { lowers, path, writes: _ } => {
                let copied = self.copy(lowers, path, target)?;
                self.put_at(target, New::Moved(&copied), Then::GoesStrictly)
            }
            MountSource::Tmpfs { size_bytes: _, mode } => {
                self.put_at(target, New::Directory { mode: *mode }, Then::GoesStrictly)
            }
            MountSource::File { content, mode, uid, gid } => {
                let new = New::File { content, mode: *mode, owner: (*uid, *gid) };
                // Here-documents lie in `/dev`, which goes as a whole.
                let then = if target.starts_with("/dev/") { Then::Goes } else { Then::IsErased };
                self.put_at(target, new, then)
            }
            MountSource::Socket { source, mode, uid, gid } => {
                let doing = || format!("give away the socket for {target}");
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                rustix::fs::chown(source, Some(uid), Some(gid)).doing(doing)?;
                rustix::fs::chmod(source, Mode::from_raw_mode(*mode)).doing(doing)?;
                self.put_at(target, New::Socket(source), Then::GoesStrictly)
            }
        }
    }

    /// A copy of what stacked directories have at `path`; it lies beside the root.
    fn copy(&mut self, lowers: &[PathBuf], path: &str, target: &str) -> Result<PathBuf, Failure> {
        let doing = || format!("copy {path} for the mount at {target}");
        let number = self.next_number();
        let folder = self.aside.join(format!("copy{number}"));
        rustix::fs::mkdir(&folder, Mode::from_raw_mode(0o755)).doing(doing)?;
        let (lowers, target) = (lowers.to_vec(), folder);
        let job = CopyJob {
            lowers,
            target,
            onto: false,
            mark: OpaqueMark::User,
            linked: false,
            moved: false,
            // This process forks.
            on_threads: false,
        };
        let copied = copy_part(&job, path).map_err(|error| std::io::Error::other(error.to_string()));
        copied.doing(doing)?.ok_or_else(|| Failure::Setup { doing: doing(), errno: libc::ENOENT })
    }
}
