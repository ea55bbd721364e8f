//! What each layer of an image brings, and what of it a later layer hides.
//!
//! Paths are taken as layers have them: where one passes a symlink of a lower layer, it counts as another file. Directories have no
//! size, and are left out. A file with several names in a layer has its size at the first of them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::layer::index::{Index, Kind, What};

/// The files of an image, layer by layer.
#[derive(Debug, Clone, Default)]
pub struct Contents<'i> {
    /// Of each layer, lowest first, in byte order of the paths; of a layer whose index is not known, nothing.
    pub layers: Vec<Vec<File<'i>>>,
    /// What is left in the end, in byte order of the paths: the path, its layer, and its number there.
    pub visible: Vec<(&'i [u8], usize, usize)>,
}

/// Something that a layer says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'i> {
    /// From the root, without a slash before it.
    pub path: &'i [u8],
    /// Bytes that the layer brings; of something that it removes, the bytes that are gone.
    pub size: u64,
    /// What it does to the path.
    pub change: Change,
    /// The first later layer that replaces or removes it.
    pub hidden_by: Option<usize>,
}

/// What a layer does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was nothing.
    Added,
    /// There was a file.
    Changed,
    /// Something is gone.
    Removed {
        /// Whether it was no single file.
        is_directory: bool,
    },
}

impl File<'_> {
    /// Whether the layer has bytes for it.
    pub fn is_brought(&self) -> bool {
        !matches!(self.change, Change::Removed { .. })
    }
}

impl<'i> Contents<'i> {
    /// Goes through the layers, lowest first. Costs one look-up in a sorted map for each file.
    pub fn of(layers: &'i [Option<Arc<Index>>]) -> Self {
        let mut pass = Pass::default();
        for layer in layers {
            pass.layer(layer.as_deref());
        }
        let Pass { layers, visible } = pass;
        let visible = visible.into_iter().map(|(path, (layer, at))| (path, layer, at)).collect();
        Self { layers, visible }
    }

    /// Bytes that a layer brings.
    pub fn brought_bytes(&self, layer: usize) -> u64 {
        let files = self.layers.get(layer).into_iter().flatten();
        files.filter(|file| file.is_brought()).map(|file| file.size).sum()
    }

    /// The file that is left in the end at `path`.
    pub fn find(&self, path: &[u8]) -> Option<&File<'i>> {
        let at = self.visible.binary_search_by(|(visible, ..)| (*visible).cmp(path)).ok()?;
        let (_, layer, number) = self.visible[at];
        self.layers.get(layer)?.get(number)
    }
}

#[derive(Default)]
struct Pass<'i> {
    layers: Vec<Vec<File<'i>>>,
    visible: BTreeMap<&'i [u8], (usize, usize)>,
}

impl<'i> Pass<'i> {
    fn layer(&mut self, index: Option<&'i Index>) {
        let number = self.layers.len();
        let mut files: Vec<File<'i>> = Vec::new();
        let mut named = HashSet::new();
        // Removals concern lower layers only, so they come before what the layer brings.
        for record in index.into_iter().flat_map(Index::iter) {
            let path = record.path;
            if matches!(record.what, What::Whiteout) {
                let (file, below) = (self.hide_at(path, number), self.hide_below(path, number));
                if let Some(size) = file.or(below) {
                    let is_directory = file.is_none();
                    let change = Change::Removed { is_directory };
                    files.push(File { path, size, change, hidden_by: None });
                }
            } else if record.is_opaque
                && let Some(size) = self.hide_below(path, number)
            {
                files.push(File {
                    path,
                    size,
                    change: Change::Removed { is_directory: true },
                    hidden_by: None,
                });
            }
        }
        for record in index.into_iter().flat_map(Index::iter) {
            let path = record.path;
            let size = match record.what {
                What::Whiteout | What::Implied => continue,
                What::LowerLink(_) => 0,
                What::Node(node) => match node.kind {
                    // A directory hides a file of its name, and no other directory.
                    Kind::Directory => {
                        self.hide_at(path, number);
                        continue;
                    }
                    Kind::File { size, .. } if !node.has_links || named.insert(node.inode) => size,
                    Kind::File { .. }
                    | Kind::Symlink(_)
                    | Kind::Fifo
                    | Kind::CharDevice { .. }
                    | Kind::BlockDevice { .. } => 0,
                },
            };
            let was = self.hide_at(path, number).is_some() | self.hide_below(path, number).is_some();
            let change = if was { Change::Changed } else { Change::Added };
            files.push(File { path, size, change, hidden_by: None });
        }
        files.sort_by(|a, b| a.path.cmp(b.path));
        for (at, file) in files.iter().enumerate().filter(|(_, file)| file.is_brought()) {
            self.visible.insert(file.path, (number, at));
        }
        self.layers.push(files);
    }

    /// Hides the file at `path`, if lower layers have one; gives its bytes.
    fn hide_at(&mut self, path: &[u8], by: usize) -> Option<u64> {
        let (layer, at) = self.visible.remove(path)?;
        let file = &mut self.layers[layer][at];
        file.hidden_by = Some(by);
        Some(file.size)
    }

    /// Hides all files below `path`; gives their bytes, if there are any.
    fn hide_below(&mut self, path: &[u8], by: usize) -> Option<u64> {
        if self.visible.is_empty() {
            return None;
        }
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let from = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
        let below = self.visible.range::<[u8], _>(from).map(|(path, _)| *path);
        let below: Vec<&[u8]> = below.take_while(|path| path.starts_with(&prefix)).collect();
        if below.is_empty() {
            return None;
        }
        Some(below.into_iter().filter_map(|path| self.hide_at(path, by)).sum())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use super::*;
    use crate::layer::archive::Limits;

    /// A layer of lines `PATH SIZE`; of `PATH/` for a directory, `PATH -` for what is removed, `PATH = OTHER` for a hard link.
    pub(in crate::insight) fn layer(lines: &[&str]) -> Option<Arc<Index>> {
        let mut archive = tar::Builder::new(Vec::new());
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            match words.as_slice() {
                [path] => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    archive.append_data(&mut header, path, std::io::empty()).unwrap();
                }
                [path, "-"] => {
                    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                    let name = format!("{folder}/.wh.{name}");
                    header.set_size(0);
                    archive.append_data(&mut header, name.trim_start_matches('/'), std::io::empty()).unwrap();
                }
                [path, "=", other] => {
                    header.set_entry_type(tar::EntryType::Link);
                    header.set_size(0);
                    archive.append_link(&mut header, path, other).unwrap();
                }
                [path, size] => {
                    let size: u64 = size.parse().unwrap();
                    header.set_size(size);
                    archive.append_data(&mut header, path, std::io::repeat(0).take(size)).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        let bytes = archive.into_inner().unwrap();
        Some(Arc::new(Index::read(bytes.as_slice(), Limits::default()).unwrap().index))
    }

    fn listed(contents: &Contents<'_>) -> Vec<Vec<String>> {
        let line = |file: &File<'_>| {
            let what = match file.change {
                Change::Added => "+",
                Change::Changed => "~",
                Change::Removed { is_directory: false } => "-",
                Change::Removed { is_directory: true } => "-/",
            };
            let hidden = file.hidden_by.map_or(String::new(), |by| format!(" until {by}"));
            format!("{what} {} {}{hidden}", String::from_utf8_lossy(file.path), file.size)
        };
        contents.layers.iter().map(|files| files.iter().map(line).collect()).collect()
    }

    #[test]
    fn what_a_later_layer_replaces_or_removes_is_hidden() {
        let layers = [
            layer(&["etc", "etc/a 10", "etc/b 20", "lib", "lib/x 5", "lib-x 1", "lib/y 7", "l = etc/a"]),
            layer(&["etc/a 11", "etc/b -", "no/such -", "lib -", "lib 3"]),
            None,
            layer(&["lib", "lib/.wh..wh..opq 0", "etc/a -", "etc/a 12"]),
        ];
        let contents = Contents::of(&layers);
        assert_eq!(
            listed(&contents),
            [
                vec![
                    "+ etc/a 10 until 1",
                    "+ etc/b 20 until 1",
                    "+ l 0",
                    "+ lib-x 1",
                    "+ lib/x 5 until 1",
                    "+ lib/y 7 until 1",
                ],
                vec!["~ etc/a 11 until 3", "- etc/b 20", "-/ lib 12", "+ lib 3 until 3"],
                vec![],
                vec!["~ etc/a 12"],
            ]
        );
        let left: Vec<_> = contents.visible.iter().map(|(path, ..)| String::from_utf8_lossy(path)).collect();
        assert_eq!(left, ["etc/a", "l", "lib-x"]);
        assert_eq!(contents.find(b"etc/a").unwrap().size, 12);
        assert_eq!(contents.brought_bytes(0), 43);
    }
}
