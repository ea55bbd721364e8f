//! Becomes the command.

use std::ffi::CString;

use super::loader::{self, INTERPRETERS, interpreter};
use crate::exec::failure::Failure;
use crate::exec::spec::Spec;
use crate::exec::sys;

/// Which file this process runs, so that no image can name it as its own program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) struct Own {
    device: u64,
    inode: u64,
}

impl Own {
    /// To be asked where /proc is the machine's.
    pub(in crate::exec) fn program() -> rustix::io::Result<Self> {
        rustix::fs::stat("/proc/self/exe").map(|stat| Self { device: stat.st_dev, inode: stat.st_ino })
    }

    /// Whether executing `path` would run this file, itself or as the interpreter of a script: `/proc/self/exe`, or
    /// a link to it. Whoever runs it inside could open it there, and write to it once nobody runs it.
    fn is_meant_by(self, path: &str) -> bool {
        let mut path = path.to_owned();
        for _ in 0..INTERPRETERS {
            let Ok(stat) = rustix::fs::stat(path.as_str()) else { return false };
            if (Self { device: stat.st_dev, inode: stat.st_ino }) == self {
                return true;
            }
            match interpreter(&path) {
                Some(next) => path = next,
                None => return false,
            }
        }
        false
    }
}

/// Executes the command; along PATH when its name has no slash. Never `own`.
pub(in crate::exec) fn start(spec: &Spec, own: Own) -> Failure {
    let program = spec.args.first().cloned().unwrap_or_default();
    let failure = |errno| Failure::Start { program: program.clone(), errno };
    let text = |text: &str| CString::new(text).ok();
    let env = environment(&spec.env, &spec.credentials.home);
    let path = env.iter().rev().find_map(|(name, value)| (name == "PATH").then_some(value.as_str()));
    let args: Option<Vec<CString>> = spec.args.iter().map(|arg| text(arg)).collect();
    let env_texts: Option<Vec<CString>> =
        env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect();
    let (Some(args), Some(env_texts)) = (args, env_texts) else { return failure(libc::EINVAL) };
    let mut errno = libc::ENOENT;
    for candidate in candidates(&program, path.unwrap_or("")) {
        if own.is_meant_by(&candidate) {
            return failure(libc::EACCES);
        }
        let Some(path) = text(&candidate) else { return failure(libc::EINVAL) };
        let error = sys::execve(&path, &args, &env_texts).raw_os_error().unwrap_or(libc::EIO);
        match error {
            // Of a program that is there this is said when its interpreter is not.
            libc::ENOENT if rustix::fs::stat(&path).is_ok() => {
                let Some(loader) = loader::missing(&candidate) else { return failure(error) };
                return Failure::NoLoader { program: candidate, loader };
            }
            libc::ENOENT | libc::ENOTDIR => {}
            // Perhaps a later directory has one that may be executed.
            libc::EACCES => errno = error,
            _ => return failure(error),
        }
    }
    failure(errno)
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.split(':').filter(|directory| !directory.is_empty()).map(|d| format!("{d}/{program}")).collect()
}

/// Of equal names the last wins, at the place of the first; HOME is added when absent or empty.
fn environment(given: &[(String, String)], home: &str) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::with_capacity(given.len() + 1);
    let home = [("HOME".to_owned(), home.to_owned())];
    let has_home =
        given.iter().rev().find(|(name, _)| name == "HOME").is_some_and(|(_, value)| !value.is_empty());
    for (name, value) in given.iter().chain(home.iter().filter(|_| !has_home)) {
        match env.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => entry.1.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    env
}
