//! Bytes that an image ships and nobody sees: as dive counts them, and by the layers that brought and hid them.
//!
//! dive (`dive/filetree/efficiency.go`, `dive/image/analysis.go`) takes the leaves of each layer's tree. For each path it adds up what
//! layers have there; a removed directory counts with all that was below it, a removed file with nothing. The *efficiency* is the sum of
//! the smallest sizes by the sum of all; *wasted* are all bytes of paths that two layers or more have. So dive does not see what a removed
//! directory held; [`hidden`] does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::contents::{Change, Contents};
use crate::layer::index::{Index, Kind, What};

/// So many paths are named of those that cost most.
const PATHS: usize = 100;
/// So many paths are named of each pair of layers.
const EXAMPLES: usize = 5;

/// What dive says of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Efficiency {
    /// From 0 to 1, where nothing is there twice.
    pub score: f64,
    /// Bytes of all paths that several layers have.
    pub wasted_bytes: u64,
    /// Of these, those that each layer brings.
    pub wasted_by_layer: Vec<u64>,
    /// The paths that cost most, these first.
    pub paths: Vec<Wasted>,
}

/// A path that several layers have. As JSON its bytes that are no text are U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wasted {
    /// From the root, without a slash before it.
    #[serde(serialize_with = "path_as_text")]
    pub path: Vec<u8>,
    /// Bytes that all layers together have for it.
    pub bytes: u64,
    /// The layers, lowest first.
    pub layers: Vec<usize>,
}

/// What one layer has and another hides. As JSON, paths are as in [`Wasted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// The layer that brings it.
    pub of: usize,
    /// The layer that hides it.
    pub by: usize,
    /// Bytes of files that are gone.
    pub removed_bytes: u64,
    /// Bytes of files that others took the place of.
    pub replaced_bytes: u64,
    /// How many files.
    pub files: usize,
    /// The largest of them, or the folder that holds them all.
    #[serde(serialize_with = "paths_as_text")]
    pub examples: Vec<(Vec<u8>, u64)>,
}

fn path_as_text<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(path))
}

fn paths_as_text<S: Serializer>(all: &[(Vec<u8>, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(all.iter().map(|(path, size)| (String::from_utf8_lossy(path), size)))
}

impl Hidden {
    /// All of its bytes.
    pub fn bytes(&self) -> u64 {
        self.removed_bytes + self.replaced_bytes
    }
}

/// What the layers have for one path.
struct Sizes {
    sum: u64,
    least: u64,
    times: usize,
}

/// Paths with their bytes.
type Files<'i> = Vec<(&'i [u8], u64)>;

/// What dive says of these layers; one without index counts as empty. `contents` is of the same layers.
pub fn efficiency(layers: &[Option<Arc<Index>>], contents: &Contents<'_>) -> Efficiency {
    let leaves: Vec<Vec<(&[u8], u64)>> = (0..layers.len()).map(|at| leaves(layers, contents, at)).collect();
    let mut paths: HashMap<&[u8], Sizes> = HashMap::new();
    for (path, size) in leaves.iter().flatten() {
        let sizes = paths.entry(path).or_insert(Sizes { sum: 0, least: u64::MAX, times: 0 });
        *sizes = Sizes { sum: sizes.sum + size, least: sizes.least.min(*size), times: sizes.times + 1 };
    }
    let (least, sum) = paths.values().fold((0, 0), |(least, sum), of| (least + of.least, sum + of.sum));
    let mut wasted: HashMap<&[u8], Wasted> = HashMap::new();
    let mut wasted_by_layer = vec![0; layers.len()];
    for (layer, leaves) in leaves.iter().enumerate() {
        for (path, size) in leaves {
            let Some(sizes) = paths.get(path).filter(|sizes| sizes.times > 1) else { continue };
            wasted_by_layer[layer] += size;
            let new = || Wasted { path: path.to_vec(), bytes: sizes.sum, layers: Vec::new() };
            wasted.entry(path).or_insert_with(new).layers.push(layer);
        }
    }
    let mut paths: Vec<Wasted> = wasted.into_values().filter(|wasted| wasted.bytes > 0).collect();
    paths.sort_by(|a, b| (b.bytes, &a.path).cmp(&(a.bytes, &b.path)));
    paths.truncate(PATHS);
    let score = if sum == 0 { 1.0 } else { least as f64 / sum as f64 };
    Efficiency { score, wasted_bytes: wasted_by_layer.iter().sum(), wasted_by_layer, paths }
}

/// The paths of a layer that have nothing below them there, with their sizes.
fn leaves<'i>(layers: &'i [Option<Arc<Index>>], contents: &Contents<'i>, at: usize) -> Vec<(&'i [u8], u64)> {
    let Some(index) = layers.get(at).and_then(Option::as_deref) else { return Vec::new() };
    let mut folders: HashSet<&[u8]> = HashSet::new();
    for record in index.iter() {
        let mut path = record.path;
        while let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            path = &path[..slash];
            if !folders.insert(path) {
                break;
            }
        }
    }
    let is_empty_folder = |path: &[u8], what: &What<'_>| match what {
        What::Implied => !path.is_empty() && !folders.contains(path),
        What::Node(node) => node.kind == Kind::Directory && !folders.contains(path),
        What::LowerLink(_) | What::Whiteout => false,
    };
    let records = index.iter().filter(|record| is_empty_folder(record.path, &record.what));
    let mut leaves: Vec<(&[u8], u64)> = records.map(|record| (record.path, 0)).collect();
    for file in contents.layers.get(at).into_iter().flatten() {
        let size = match file.change {
            Change::Added | Change::Changed => file.size,
            Change::Removed { is_directory: false } => 0,
            // A mark of an opaque directory is none of dive's leaves.
            Change::Removed { is_directory: true } if is_whiteout(index, file.path) => file.size,
            Change::Removed { is_directory: true } => continue,
        };
        leaves.push((file.path, size));
    }
    leaves
}

fn is_whiteout(index: &Index, path: &[u8]) -> bool {
    index.find(path).is_some_and(|at| matches!(index.record(at).what, What::Whiteout))
}

/// Which layer hides what of which other, what costs most first.
pub fn hidden(contents: &Contents<'_>) -> Vec<Hidden> {
    let mut pairs: BTreeMap<(usize, usize), (Hidden, Files<'_>)> = BTreeMap::new();
    for (of, files) in contents.layers.iter().enumerate() {
        for file in files.iter().filter(|file| file.is_brought() && file.size > 0) {
            let Some(by) = file.hidden_by else { continue };
            let empty = || {
                let hidden =
                    Hidden { of, by, removed_bytes: 0, replaced_bytes: 0, files: 0, examples: Vec::new() };
                (hidden, Vec::new())
            };
            let (hidden, all) = pairs.entry((of, by)).or_insert_with(empty);
            match removing(contents, by, file.path) {
                Some(what) => {
                    hidden.removed_bytes += file.size;
                    all.push((what, file.size));
                }
                None => {
                    hidden.replaced_bytes += file.size;
                    all.push((file.path, file.size));
                }
            }
            hidden.files += 1;
        }
    }
    let mut found: Vec<Hidden> =
        pairs.into_values().map(|(hidden, all)| with_examples(hidden, &all)).collect();
    found.sort_by_key(|hidden| (std::cmp::Reverse(hidden.bytes()), hidden.of, hidden.by));
    found
}

/// What layer `by` removes that is at `path` or above it; none where it has another file there.
fn removing<'i>(contents: &Contents<'i>, by: usize, path: &[u8]) -> Option<&'i [u8]> {
    let files = contents.layers.get(by)?;
    let mut path = path;
    loop {
        let at = files.partition_point(|file| file.path < path);
        if let Some(file) = files.get(at).filter(|file| file.path == path) {
            return match file.change {
                Change::Removed { .. } => Some(file.path),
                Change::Added | Change::Changed => None,
            };
        }
        path = &path[..path.iter().rposition(|byte| *byte == b'/')?];
    }
}

fn with_examples(mut hidden: Hidden, all: &[(&[u8], u64)]) -> Hidden {
    let mut sums: HashMap<&[u8], u64> = HashMap::new();
    for (path, size) in all {
        *sums.entry(path).or_default() += size;
    }
    let mut sums: Vec<(Vec<u8>, u64)> = sums.into_iter().map(|(path, size)| (path.to_vec(), size)).collect();
    sums.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    sums.truncate(EXAMPLES);
    hidden.examples = sums;
    hidden
}

#[cfg(test)]
mod tests {
    use super::super::contents::tests::layer;
    use super::*;

    #[test]
    fn efficiency_is_dives() {
        let layers = [
            layer(&["a 100", "d/", "d/x 50", "d/y 30", "once 20", "h = once"]),
            // A file twice: 100 + 40, the least 40. A file that goes: 50 + 0, the least 0.
            layer(&["a 40", "d/x -"]),
            // A directory that goes counts with what is left in it, and is seen once: 30, the least 30.
            layer(&["d -"]),
        ];
        let contents = Contents::of(&layers);
        let told = efficiency(&layers, &contents);
        assert_eq!((told.wasted_bytes, told.wasted_by_layer.as_slice()), (190, &[150, 40, 0][..]));
        // 40 + 0 + 30 (d/y) + 20 + 30 (d), of 140 + 50 + 30 + 20 + 30
        assert!((told.score - 120.0 / 270.0).abs() < 1e-9, "{told:?}");
        let paths: Vec<_> =
            told.paths.iter().map(|w| (w.path.as_slice(), w.bytes, w.layers.clone())).collect();
        assert_eq!(paths, [(&b"a"[..], 140, vec![0, 1]), (b"d/x", 50, vec![0, 1])]);
    }

    #[test]
    fn an_image_of_nothing_wastes_nothing() {
        let told = efficiency(&[None, layer(&[])], &Contents::of(&[None, layer(&[])]));
        assert!((told.score - 1.0).abs() < 1e-9 && told.wasted_bytes == 0);
    }

    #[test]
    fn what_is_hidden_is_told_by_layer() {
        let layers = [
            layer(&["a 100", "d/x 50", "d/y 30", "e 1"]),
            layer(&["a 40", "d -"]),
            layer(&["a -", "e 2", "new 9"]),
        ];
        let contents = Contents::of(&layers);
        let hidden = hidden(&contents);
        let told: Vec<_> = hidden
            .iter()
            .map(|h| (h.of, h.by, h.removed_bytes, h.replaced_bytes, h.files, h.examples.clone()))
            .collect();
        assert_eq!(
            told,
            [
                (0, 1, 80, 100, 3, vec![(b"a".to_vec(), 100), (b"d".to_vec(), 80)]),
                (1, 2, 40, 0, 1, vec![(b"a".to_vec(), 40)]),
                (0, 2, 0, 1, 1, vec![(b"e".to_vec(), 1)]),
            ]
        );
    }
}
