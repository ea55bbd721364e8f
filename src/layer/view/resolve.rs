//! Following paths through symlinks, inside the root.

use std::collections::VecDeque;

use super::{Kind, RootView, ViewEntry};
use crate::layer::archive::{join, split};

/// As many symlinks as one path may pass; containerd's limit (the kernel's is 40).
const SYMLINK_LIMIT: usize = 255;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPath {
    /// The part that exists, without symlinks (but for a last one not followed); empty for the root.
    pub existing: Vec<u8>,
    /// What is left of it: components that do not exist, `/` between them; empty if all of it exists.
    pub missing: Vec<u8>,
}

impl ResolvedPath {
    /// The whole real path, relative to the root.
    pub fn path(&self) -> Vec<u8> {
        join(&self.existing, &self.missing)
    }

    /// Whether all of it exists.
    pub fn exists(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Why a path leads nowhere. The paths are those of the culprits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// ELOOP: the path passes more than 255 symlinks.
    #[error("too many levels of symbolic links in `/{0}`")]
    TooManySymlinks(String),
    /// ENOTDIR: something on the way is no directory.
    #[error("`/{0}` is not a directory")]
    NotADirectory(String),
}

pub(super) fn resolve(view: &RootView, path: &[u8], follow_last: bool) -> Result<ResolvedPath, ResolveError> {
    let mut left: VecDeque<&[u8]> = components(path).collect();
    let (mut existing, mut missing) = (Vec::new(), Vec::new());
    let mut hops = 0;
    while let Some(component) = left.pop_front() {
        if component == b".." {
            let shortened = if missing.is_empty() { &mut existing } else { &mut missing };
            shortened.truncate(split(shortened).0.len());
            continue;
        }
        if !missing.is_empty() {
            missing = join(&missing, component);
            continue;
        }
        let next = join(&existing, component);
        match view.entry(&next).map(|entry: ViewEntry<'_>| entry.node.kind) {
            None => missing = component.to_vec(),
            Some(Kind::Symlink(target)) if follow_last || !left.is_empty() => {
                hops += 1;
                if hops > SYMLINK_LIMIT {
                    return Err(ResolveError::TooManySymlinks(lossy(path)));
                }
                if target.starts_with(b"/") {
                    existing.clear();
                }
                for component in components(target).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(component);
                }
            }
            Some(Kind::Directory | Kind::Symlink(_)) => existing = next,
            Some(_) if left.is_empty() => existing = next,
            Some(_) => return Err(ResolveError::NotADirectory(lossy(&next))),
        }
    }
    Ok(ResolvedPath { existing, missing })
}

/// Components in order; `..` is kept, because it means the real parent of where the path has led so far.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty() && *component != b".")
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(path)).into_owned()
}
