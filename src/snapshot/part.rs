//! A part of what stacked trees show, copied by itself.
//!
//! Links on the way to it lead inside the root, as in a step.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::copy::{Copier, remove};
use super::files::{self, is_directory, kind};
use super::{CopyJob, Error, copy_tree};
use crate::rootfs::{Folder, Root, Symlinks};

/// As many symbolic links as the kernel follows.
const LINK_LIMIT: u32 = 40;

/// Copies what is at `part` of the root that [`copy_tree`] would make, and nothing else, into the target. Gives where it
/// is; `None` when there is nothing.
pub fn copy_part(job: &CopyJob, part: &str) -> Result<Option<PathBuf>, Error> {
    let stack = Stack::open(job)?;
    let Some(place) = stack.follow(part)? else { return Ok(None) };
    stack.copy(&place, &job.target)
}

/// Trees, the top one first.
pub(super) struct Stack<'j> {
    job: &'j CopyJob,
    trees: Vec<Tree>,
}

struct Tree {
    root: Root,
    /// What it hides of those below and cannot say.
    hidden: Vec<PathBuf>,
}

/// What a tree has at a path.
enum Has {
    /// This; for a directory, whether those below show through.
    Found(Stat, Lower),
    /// Nothing.
    Nothing(Lower),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lower {
    Visible,
    Hidden,
}

impl Tree {
    fn below(&self, path: &Path) -> Result<Root, Error> {
        let full = self.root.path().join(path);
        let folder = self.root.folder(path, Symlinks::Refuse).map_err(Error::io("open", &full))?;
        Ok(Root::from_fd(std::sync::Arc::new(folder.into()), full))
    }
}

impl<'j> Stack<'j> {
    pub(super) fn open(job: &'j CopyJob) -> Result<Self, Error> {
        let open = |lower: &PathBuf| -> Result<Tree, Error> {
            let hidden = super::hidden_by(lower)?.into_iter().map(|path| OsString::from_vec(path).into());
            let root = Root::open(lower).map_err(Error::io("open", lower))?;
            Ok(Tree { root, hidden: hidden.collect() })
        };
        Ok(Self { job, trees: job.lowers.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// Copies what is at `place`, on the way to which there are no links, into the folder `into`. Gives where it is; `None` when there is
    /// nothing.
    pub(super) fn copy(&self, place: &Path, into: &Path) -> Result<Option<PathBuf>, Error> {
        let job = self.job;
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            copy_tree(&CopyJob { target: into.to_owned(), ..job.clone() })?;
            return Ok(Some(into.to_owned()));
        };
        let to = Root::open(into).map_err(Error::io("open", into))?;
        let found = self.found(place)?;
        let Some((_, looks)) = found.first().copied() else { return Ok(None) };
        let target = into.join(name);
        for (is_first, &(at, stat)) in found.iter().rev().enumerate().map(|(at, one)| (at == 0, one)) {
            let tree = &self.trees[at];
            let from = tree.below(parent)?;
            Copier::new(job, (&from, &to), is_first).alone(name, &stat)?;
            if is_directory(&stat) {
                let (from, to) =
                    (tree.below(place)?, Root::open(&target).map_err(Error::io("open", &target))?);
                for hidden in tree.hidden.iter().filter_map(|hidden| hidden.strip_prefix(place).ok()) {
                    remove(&to, hidden)?;
                }
                Copier::new(job, (&from, &to), is_first).tree()?;
            }
        }
        if is_directory(&looks) {
            let from = self.trees[found[0].0].below(parent)?;
            Copier::new(job, (&from, &to), false).finish_one(name, &looks)?;
        }
        Ok(Some(target))
    }

    /// Gives the directory at `place` of `root` the looks that it has here. Not where it has attributes, which may be somebody else's: tells
    /// whether it did.
    pub(super) fn dress(&self, place: &Path, root: &Root) -> Result<bool, Error> {
        let found = self.found(place)?;
        let (Some((at, looks)), Some(parent), Some(name)) =
            (found.first().copied(), place.parent(), place.file_name())
        else {
            return Ok(false);
        };
        let on_disk = || root.path().join(place);
        let fd =
            root.folder(parent, Symlinks::Refuse).map_err(|error| Error::io("open", on_disk())(error))?;
        let attributes = fd.xattr_names(name, &mut [0; 65_536]).map(<[u8]>::len);
        if !is_directory(&looks) || !matches!(attributes, Ok(0) | Err(rustix::io::Errno::NOTSUP)) {
            return Ok(false);
        }
        let to = Root::from_fd(std::sync::Arc::new(fd.into()), on_disk());
        let from = self.trees[at].below(parent)?;
        Copier::new(self.job, (&from, &to), false).finish_one(name, &looks)?;
        Ok(true)
    }

    /// The path without links that `path` leads to; `None` if it leads nowhere.
    fn follow(&self, path: &str) -> Result<Option<PathBuf>, Error> {
        let mut rest: VecDeque<OsString> = components(OsStr::new(path)).collect();
        let (mut place, mut links) = (PathBuf::new(), 0);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                place.pop();
                continue;
            }
            let here = place.join(&name);
            let found = self.found(&here)?;
            let Some(&(at, stat)) = found.first() else { return Ok(None) };
            if kind(&stat) != rustix::fs::FileType::Symlink {
                place = here;
                continue;
            }
            links += 1;
            if links > LINK_LIMIT {
                return Err(Error::io("follow", &here)(rustix::io::Errno::LOOP));
            }
            let text = self.trees[at].root.folder(&place, Symlinks::Refuse).and_then(|f| f.read_link(&name));
            let text = text.map_err(Error::io("read", &here))?;
            if text.starts_with(b"/") {
                place = PathBuf::new();
            }
            components(OsStr::from_bytes(&text)).rev().for_each(|name| rest.push_front(name));
        }
        Ok(Some(place))
    }

    /// Which trees show something at `path`, which has no links in it, from the top on; several for a directory.
    fn found(&self, path: &Path) -> Result<Vec<(usize, Stat)>, Error> {
        let mut found = Vec::new();
        for (at, tree) in self.trees.iter().enumerate() {
            let lower = match self.look(tree, path)? {
                Has::Found(stat, lower) => {
                    let is_directory = is_directory(&stat);
                    // Over a directory, what is none below it is hidden; the other way round nothing is looked for.
                    if is_directory || found.is_empty() {
                        found.push((at, stat));
                    }
                    if is_directory { lower } else { Lower::Hidden }
                }
                Has::Nothing(lower) => lower,
            };
            if lower == Lower::Hidden {
                break;
            }
        }
        Ok(found)
    }

    /// Name by name, because each directory on the way can hide what is below.
    fn look(&self, tree: &Tree, path: &Path) -> Result<Has, Error> {
        let is_hidden = tree.hidden.iter().any(|hidden| path.starts_with(hidden));
        let mut lower = if is_hidden { Lower::Hidden } else { Lower::Visible };
        let full = || tree.root.path().join(path);
        let mut folder =
            tree.root.folder(Path::new(""), Symlinks::Refuse).map_err(Error::io("open", full()))?;
        let mut names = path.iter().peekable();
        while let Some(name) = names.next() {
            let stat = match folder.stat(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Has::Nothing(lower)),
                stat => stat.map_err(Error::io("look at", full()))?,
            };
            if files::is_whiteout(&stat) {
                return Ok(Has::Nothing(Lower::Hidden));
            }
            if !is_directory(&stat) {
                return Ok(match names.peek() {
                    None => Has::Found(stat, Lower::Hidden),
                    Some(_) => Has::Nothing(Lower::Hidden),
                });
            }
            if self.is_opaque(&folder, name).map_err(Error::io("look at", full()))? {
                lower = Lower::Hidden;
            }
            if names.peek().is_none() {
                return Ok(Has::Found(stat, lower));
            }
            let next = rustix::fs::openat(
                &folder,
                name,
                rustix::fs::OFlags::RDONLY
                    | rustix::fs::OFlags::DIRECTORY
                    | rustix::fs::OFlags::NOFOLLOW
                    | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            );
            folder = next.map(Folder::from).map_err(Error::io("open", full()))?;
        }
        Ok(Has::Nothing(lower))
    }

    fn is_opaque(&self, folder: &Folder, name: &OsStr) -> io::Result<bool> {
        Ok(files::xattr(folder, name, self.job.mark.xattr())?.is_some_and(|value| value == b"y"))
    }
}

fn components(path: &OsStr) -> impl DoubleEndedIterator<Item = OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    let named = parts.filter(|part| !part.is_empty() && *part != b".");
    named.map(|part| OsStr::from_bytes(part).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::layer::unpack::OpaqueMark;

    /// Two trees, of which the upper hides something in each way, and an empty target.
    fn stacked() -> (tempfile::TempDir, CopyJob) {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["0/tree/a/deep", "0/tree/gone", "0/tree/new", "1/tree/a/deep", "1/tree/new", "target"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (path, text) in [
            ("0/tree/a/below", "below"),
            ("0/tree/a/both", "below"),
            ("0/tree/a/hidden", "below"),
            ("0/tree/a/deep/low", "low"),
            ("0/tree/gone/file", "below"),
            ("0/tree/new/old", "below"),
            ("1/tree/a/both", "above"),
            ("1/tree/a/deep/high", "high"),
            ("1/tree/new/file", "above"),
            ("1/hidden", "a/hidden\0gone\0new\0"),
        ] {
            fs::write(at(path), text).unwrap();
        }
        fs::set_permissions(at("1/tree/a"), fs::Permissions::from_mode(0o711)).unwrap();
        symlink("/a/./deep/..", at("1/tree/link")).unwrap();
        symlink("circle", at("1/tree/circle")).unwrap();
        symlink("../../../../../../../a", at("0/tree/new/up")).unwrap();
        let job = CopyJob {
            lowers: vec![at("1/tree"), at("0/tree")],
            target: at("target"),
            onto: false,
            mark: OpaqueMark::User,
            linked: false,
            moved: false,
            on_threads: false,
        };
        (dir, job)
    }

    /// The paths in the target, with what the files hold.
    fn copied(part: &str) -> Option<(String, Vec<String>)> {
        let (_dir, job) = stacked();
        let at = copy_part(&job, part).unwrap()?;
        let mut found = Vec::new();
        let mut folders = vec![job.target.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&job.target).unwrap().to_str().unwrap().to_owned();
                let meta = fs::symlink_metadata(&path).unwrap();
                if meta.is_dir() {
                    found.push(format!("{name}/ {:o}", meta.permissions().mode() & 0o777));
                    folders.push(path);
                } else if meta.is_symlink() {
                    found.push(format!("{name} link"));
                } else {
                    found.push(format!("{name} {}", fs::read_to_string(&path).unwrap()));
                }
            }
        }
        found.sort();
        Some((at.strip_prefix(&job.target).unwrap().to_str().unwrap().to_owned(), found))
    }

    #[test]
    fn only_the_part_is_copied_as_the_root_shows_it() {
        let a =
            ["a/ 711", "a/below below", "a/both above", "a/deep/ 755", "a/deep/high high", "a/deep/low low"];
        for path in ["/a", "a/", "/link", "/x/../a/deep/.."] {
            let found = copied(path);
            if path.starts_with("/x") {
                assert_eq!(found, None);
                continue;
            }
            let (at, files) = found.unwrap();
            assert_eq!((at.as_str(), files), ("a", a.map(str::to_owned).to_vec()), "{path}");
        }
        assert_eq!(copied("/a/both").unwrap(), ("both".to_owned(), vec!["both above".to_owned()]));
        assert_eq!(copied("/a/below").unwrap().1, ["below below"]);
        assert_eq!(copied("/new").unwrap().1, ["new/ 755", "new/file above"]);
        for nothing in ["/gone", "/gone/file", "/a/hidden", "/new/old", "/new/up", "/none"] {
            assert_eq!(copied(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_root_itself_is_all_of_it() {
        let (at, files) = copied("/").unwrap();
        assert_eq!(at, "");
        assert!(
            files.iter().any(|file| file == "a/both above")
                && files.iter().all(|file| !file.contains("gone"))
        );
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (_dir, job) = stacked();
        assert!(copy_part(&job, "/circle").is_err());
    }
}
