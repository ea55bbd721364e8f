//! What this machine can do for a build, tried rather than guessed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::executor::Executor;
use super::memory::room_in_memory;
use crate::exec::failure::Failure;
use crate::exec::step::image::MountedImage;
use crate::exec::step::memory::{self, Memory};
use crate::exec::step::overlay::{Layers, open_directory};
use crate::exec::sys;
use crate::layer::archive::Limits;
use crate::layer::erofs;
use crate::layer::unpack::OpaqueMark;
use crate::layer::view::RootView;

pub(super) const OVERLAY_JOB: &str = "exec.try-overlay";

/// What the job is to try.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    /// Where it may make a folder.
    parent: PathBuf,
    /// A directory with a file called `file`, to be the lower one; else one is made.
    lower: Option<PathBuf>,
    /// The upper directory is to be in memory.
    in_memory: bool,
    /// The mark of opaque directories that steps use. The job cannot tell: it may have all ids and capabilities, and still be
    /// in a namespace.
    mark: OpaqueMark,
}

impl Executor {
    pub(super) fn try_overlay(&self, directory: &Path) -> Result<(), String> {
        self.attempt(self.trial(directory, None))
    }

    /// Whether overlays can be mounted whose lower directories are in `directory` and whose changes are in memory; gives how
    /// many bytes a step may change. Some milliseconds.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn try_overlay_in_memory(&self, directory: &Path) -> Result<u64, String> {
        let room = room_in_memory()?;
        let trial = self.trial(directory, None).map(|trial| Trial { in_memory: true, ..trial });
        self.attempt(trial).map(|()| room)
    }

    /// An overlay on `lower` with everything in `parent`.
    fn trial(&self, parent: &Path, lower: Option<PathBuf>) -> Result<Trial, String> {
        let mark = self.privilege().map_err(|error| error.to_string())?.opaque_mark();
        Ok(Trial { parent: parent.to_owned(), lower, in_memory: false, mark })
    }

    fn attempt(&self, trial: Result<Trial, String>) -> Result<(), String> {
        let trial = serde_json::to_vec(&trial?).map_err(|error| error.to_string())?;
        self.run_job(OVERLAY_JOB, &trial).map(drop).map_err(|error| error.to_string())
    }

    /// Whether layers can be mounted as images in `directory` of the store, under an overlay as those of steps; gives how
    /// the kernel reads them. Some milliseconds.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn try_images(&self, directory: &Path) -> Result<&'static str, String> {
        if self.is_rootless() {
            return Err("only root mounts images".to_owned());
        }
        let path = directory.join(format!("probe-{}.erofs", std::process::id()));
        let tried = write_image(&path).and_then(|()| {
            let image = MountedImage::mount(&path).map_err(|error| error.to_string())?;
            self.attempt(self.trial(directory, Some(image.path()))).map(|()| image.how)
        });
        let _ = fs::remove_file(&path);
        tried
    }
}

/// An image with one empty file.
fn write_image(path: &Path) -> Result<(), String> {
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    let archive = archive.append_data(&mut header, "file", io::empty()).and_then(|()| archive.into_inner());
    let archive = archive.map_err(|error| error.to_string())?;
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(|error| error.to_string())?;
    let packed = erofs::pack(archive.as_slice(), &file, &RootView::default(), Limits::default());
    packed.map(drop).map_err(|error| error.to_string())
}

/// The job: mounts an overlay, and does in it what steps do.
pub(super) fn try_overlay(input: &[u8]) -> Result<Vec<u8>, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let trial: Trial = serde_json::from_slice(input).map_err(|error| error.to_string())?;
    let directory = trial.parent.join(format!("probe-{}-{number}", std::process::id()));
    let result = try_in(&directory, trial);
    for mounted in ["merged", "memory"] {
        let _ = rustix::mount::unmount(directory.join(mounted), rustix::mount::UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir_all(&directory);
    result.map(|()| Vec::new())
}

fn try_in(directory: &Path, trial: Trial) -> Result<(), String> {
    let Trial { lower: given, in_memory, mark, .. } = trial;
    let text = |error: io::Error| error.to_string();
    let [lower, memory, merged] = ["lower", "memory", "merged"].map(|name| directory.join(name));
    for path in [&lower.join("folder"), &memory, &merged] {
        fs::create_dir_all(path).map_err(text)?;
    }
    fs::write(lower.join("file"), "").map_err(text)?;
    sys::unshare(UnshareFlags::NEWNS).map_err(text)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| text(errno.into()))?;
    if in_memory {
        memory::mount(&Memory { at: memory.clone(), size_bytes: 1 << 20, folders: Vec::new() })
            .map_err(explain)?;
    }
    let [upper, work] = ["upper", "work"].map(|name| memory.join(name));
    for path in [&upper, &work] {
        fs::create_dir(path).map_err(text)?;
    }
    let is_own = given.is_none();
    let lower = given.unwrap_or(lower);
    open_directory(&lower)
        .and_then(|lower| Layers::new(vec![lower], Some((&upper, &work))))
        .and_then(|layers| layers.mount(rustix::fs::CWD, &merged, mark))
        .map_err(explain)?;
    fs::remove_file(merged.join("file")).map_err(text)?;
    fs::create_dir(merged.join("new")).map_err(text)?;
    if is_own {
        // A directory in the place of another needs a mark: an attribute that not every file system takes.
        fs::remove_dir(merged.join("folder")).map_err(text)?;
        fs::create_dir(merged.join("folder")).map_err(text)?;
    }
    let whiteout = fs::symlink_metadata(upper.join("file")).map_err(text)?;
    if whiteout.file_type().is_char_device() && whiteout.rdev() == 0 {
        Ok(())
    } else {
        Err("whiteouts are not stored as character devices".into())
    }
}

fn explain(failure: Failure) -> String {
    match failure {
        Failure::Overlay { errno, log } => {
            let error = io::Error::from_raw_os_error(errno);
            if log.is_empty() { error.to_string() } else { format!("{error}: {log}") }
        }
        Failure::Pasta { message } => message,
        Failure::Killed { signal } => format!("signal {signal} ended the trial"),
        Failure::NoLoader { program, loader } => format!("{program} needs {loader}"),
        Failure::Start { program: doing, errno } | Failure::Setup { doing, errno } => {
            format!("cannot {doing}: {}", io::Error::from_raw_os_error(errno))
        }
    }
}
