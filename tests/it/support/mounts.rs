//! Mounts that go with the value; for root.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;

/// Something that is mounted.
pub struct Mount(PathBuf);

impl Mount {
    /// `mount ARGS AT`; makes the folder.
    #[track_caller]
    pub fn new(args: &[&str], at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        tools::run("mount", args.iter().map(std::ffi::OsStr::new).chain([at.as_os_str()]));
        Self(at.to_owned())
    }

    /// An overlayfs at `folder/merged`, its layers beside it. `more` are options, each after a comma.
    #[track_caller]
    pub fn overlay(folder: &Path, more: &str) -> Self {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| folder.join(name));
        for made in [&lower, &upper, &work] {
            std::fs::create_dir(made).unwrap();
        }
        let [lower, upper, work] = [lower, upper, work].map(|path| path.display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}{more}");
        Self::new(&["-t", "overlay", "overlay", "-o", &options], &folder.join("merged"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process of a test that failed may still be in it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
