//! Wildcards in source paths.

use super::error::Error;
use super::tree::FileTree;
use crate::context::glob::{BadPattern, Glob, has_wildcards};
use crate::context::path;

/// The paths of `tree` that `pattern` (relative, cleaned) names, in the order of a walk. Symlinks before the
/// first wildcard are followed; those that match are not, and a directory that matches is not looked into.
/// A pattern without wildcards names itself, whether it exists or not.
pub(super) fn expand(tree: &FileTree, pattern: &[u8]) -> Result<Result<Vec<Vec<u8>>, BadPattern>, Error> {
    let Some((base, wild)) = split(pattern) else { return Ok(Ok(vec![pattern.to_vec()])) };
    let parsed = Glob::new(&wild).and_then(|whole| {
        let parts = path::components(&wild).map(Glob::new).collect::<Result<Vec<_>, _>>();
        // A set can match a slash, so that the parts of such a pattern say nothing about directories.
        let parts = if wild.contains(&b'[') { Vec::new() } else { parts? };
        Ok(Pattern { whole, parts })
    });
    let Ok(pattern) = parsed else { return Ok(Err(BadPattern)) };
    let mut matches = Vec::new();
    let base = tree.resolve(&base)?;
    pattern.walk(tree, &base, b"", 0, &mut matches)?;
    Ok(Ok(matches))
}

/// The leading components without wildcards, and the rest; `None` if there are none.
fn split(pattern: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let parts: Vec<&[u8]> = path::components(pattern).collect();
    let first = parts.iter().position(|part| has_wildcards(part))?;
    Some((parts[..first].join(&b'/'), parts[first..].join(&b'/')))
}

struct Pattern {
    whole: Glob,
    /// One for each component; empty if they cannot be told apart.
    parts: Vec<Glob>,
}

impl Pattern {
    fn walk(
        &self,
        tree: &FileTree,
        base: &[u8],
        below: &[u8],
        depth: usize,
        matches: &mut Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        for (name, item) in tree.list(&path::join(base, below))? {
            let relative = path::join(below, &name);
            if self.whole.matches(&relative) {
                matches.push(path::join(base, &relative));
            } else if item.is_dir() && self.may_match_below(&name, depth) {
                self.walk(tree, base, &relative, depth + 1, matches)?;
            }
        }
        Ok(())
    }

    fn may_match_below(&self, name: &[u8], depth: usize) -> bool {
        self.parts.is_empty() || depth + 1 < self.parts.len() && self.parts[depth].matches(name)
    }
}
