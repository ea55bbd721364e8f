//! Becomes the command.

use std::ffi::CString;

use super::failure::Failure;
use super::spec::Spec;
use super::sys;

/// Executes the command; along PATH when its name has no slash.
pub(super) fn start(spec: &Spec) -> Failure {
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
        let Some(candidate) = text(&candidate) else { return failure(libc::EINVAL) };
        let error = sys::execve(&candidate, &args, &env_texts).raw_os_error().unwrap_or(libc::EIO);
        match error {
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
