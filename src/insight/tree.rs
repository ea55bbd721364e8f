//! The files of layers as trees of folders of which only the large are opened: what a picture or a list can show.
//!
//! Starts with one node for each layer and opens the largest folder, again and again, until there are as many nodes as were asked
//! for. So an image of a million files costs what is shown of it, and a sum for each file.

use std::collections::BinaryHeap;

use super::contents::{Contents, File};

/// A folder, a file, or several that are too small to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its name in the folder above, or several with slashes between where each folder holds nothing but the next; empty for the root,
    /// and for what stands for [others](Node::is_rest).
    pub name: Vec<u8>,
    /// Bytes that the layer brings of it.
    pub size: u64,
    /// How many files that is.
    pub files: u64,
    /// Of the bytes, those that a later layer hides.
    pub hidden: u64,
    /// What a folder holds, the largest first; empty for a folder that is not opened.
    pub children: Vec<Node>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether it stands for all that is smaller in its folder.
    pub is_rest: bool,
}

/// A node that may be opened.
#[derive(Debug)]
struct Draft {
    node: Node,
    layer: usize,
    /// The files below it, as a range of the layer's.
    from: usize,
    to: usize,
    /// Bytes of the paths of these before the names of what the node holds.
    prefix: usize,
    children: Vec<usize>,
}

/// Sums of a layer's files up to each of them.
struct Sums {
    size: Vec<u64>,
    hidden: Vec<u64>,
    count: Vec<u64>,
}

/// A tree for each layer; all together have about `most` nodes.
pub fn trees(contents: &Contents<'_>, most: usize) -> Vec<Node> {
    let sums: Vec<Sums> = contents.layers.iter().map(|files| Sums::of(files)).collect();
    let mut drafts: Vec<Draft> = Vec::new();
    for (layer, files) in contents.layers.iter().enumerate() {
        let node = sums[layer].node(0, files.len());
        let node = Node { is_folder: true, ..node };
        drafts.push(Draft { node, layer, from: 0, to: files.len(), prefix: 0, children: Vec::new() });
    }
    let total: u64 = drafts.iter().map(|draft| draft.node.size).sum();
    // What would be smaller than a point of the picture is not worth a name.
    let least = (total / 8000).max(1);
    let mut largest: BinaryHeap<(u64, std::cmp::Reverse<usize>)> = BinaryHeap::new();
    let push = |largest: &mut BinaryHeap<_>, at: usize, node: &Node| {
        if node.is_folder && node.size >= least {
            largest.push((node.size, std::cmp::Reverse(at)));
        }
    };
    drafts.iter().enumerate().for_each(|(at, draft)| push(&mut largest, at, &draft.node));
    while let Some((_, std::cmp::Reverse(at))) = largest.pop() {
        if drafts.len() >= most {
            break;
        }
        let room = most - drafts.len();
        let layer = drafts[at].layer;
        for child in open(&mut drafts[at], &contents.layers[layer], &sums[layer], (least, room)) {
            let number = drafts.len();
            push(&mut largest, number, &child.node);
            drafts.push(child);
            drafts[at].children.push(number);
        }
    }
    (0..contents.layers.len()).map(|at| finish(&mut drafts, at)).collect()
}

/// What a folder holds; the folder may turn out to be a longer path. Of what is smaller than `least`, and of more than fit into `room`,
/// one node tells.
fn open(draft: &mut Draft, files: &[File<'_>], sums: &Sums, (least, room): (u64, usize)) -> Vec<Draft> {
    let mut children = list(draft, files, sums);
    while let [only] = children.as_mut_slice()
        && only.node.is_folder
    {
        let above = std::mem::take(&mut draft.node.name);
        draft.node.name = if above.is_empty() {
            only.node.name.clone()
        } else {
            [&above, only.node.name.as_slice()].join(&b'/')
        };
        draft.prefix = only.prefix;
        children = list(draft, files, sums);
    }
    children.sort_by(|a, b| (b.node.size, &a.node.name).cmp(&(a.node.size, &b.node.name)));
    let shown = children.partition_point(|child| child.node.size >= least).min(room.max(1));
    let rest = children.split_off(shown);
    let sum = rest.iter().fold(Node { is_rest: true, ..Node::default() }, |sum, Draft { node, .. }| Node {
        size: sum.size + node.size,
        files: sum.files + node.files,
        hidden: sum.hidden + node.hidden,
        ..sum
    });
    if sum.files > 0 {
        let Draft { layer, from, to, prefix, .. } = *draft;
        children.push(Draft { node: sum, layer, from, to, prefix, children: Vec::new() });
    }
    children
}

fn list(draft: &Draft, files: &[File<'_>], sums: &Sums) -> Vec<Draft> {
    let mut found = Vec::new();
    let mut from = draft.from;
    while from < draft.to {
        let rest = &files[from].path[draft.prefix..];
        let (name, is_folder) = match rest.iter().position(|byte| *byte == b'/') {
            Some(slash) => (&rest[..slash], true),
            None => (rest, false),
        };
        let to = match is_folder {
            false => from + 1,
            true => {
                let below = &files[from].path[..=draft.prefix + name.len()];
                from + files[from..draft.to].partition_point(|file| file.path.starts_with(below))
            }
        };
        let node = Node { name: name.to_vec(), is_folder, ..sums.node(from, to) };
        let prefix = draft.prefix + name.len() + 1;
        if node.files > 0 {
            found.push(Draft { node, layer: draft.layer, from, to, prefix, children: Vec::new() });
        }
        from = to;
    }
    found
}

fn finish(drafts: &mut [Draft], at: usize) -> Node {
    let children = std::mem::take(&mut drafts[at].children);
    let mut node = std::mem::take(&mut drafts[at].node);
    node.children = children.into_iter().map(|child| finish(drafts, child)).collect();
    node
}

impl Sums {
    fn of(files: &[File<'_>]) -> Self {
        let with = |value: fn(&File<'_>) -> u64| {
            let mut sum = 0;
            let sums = files.iter().map(|file| {
                sum += if file.is_brought() { value(file) } else { 0 };
                sum
            });
            std::iter::once(0).chain(sums).collect::<Vec<u64>>()
        };
        Self {
            size: with(|file| file.size),
            hidden: with(|file| file.hidden_by.map_or(0, |_| file.size)),
            count: with(|_| 1),
        }
    }

    fn node(&self, from: usize, to: usize) -> Node {
        let of = |sums: &[u64]| sums[to] - sums[from];
        Node { size: of(&self.size), hidden: of(&self.hidden), files: of(&self.count), ..Node::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::tests::layer;
    use super::*;

    fn shown(node: &Node, depth: usize, out: &mut Vec<String>) {
        let name = if node.is_rest { "…".into() } else { String::from_utf8_lossy(&node.name) };
        let slash = if node.is_folder { "/" } else { "" };
        let hidden = if node.hidden > 0 { format!(" hidden {}", node.hidden) } else { String::new() };
        out.push(format!("{:1$}{name}{slash} {2} in {3}{hidden}", "", depth * 2, node.size, node.files));
        node.children.iter().for_each(|child| shown(child, depth + 1, out));
    }

    fn all(lines: &[&[&str]], most: usize) -> Vec<String> {
        let layers: Vec<_> = lines.iter().map(|lines| layer(lines)).collect();
        let contents = Contents::of(&layers);
        let mut out = Vec::new();
        trees(&contents, most).iter().for_each(|tree| shown(tree, 0, &mut out));
        out
    }

    const IMAGE: [&[&str]; 2] = [
        &[
            "usr/lib/a 90000",
            "usr/lib/b/x 800",
            "usr/lib/b/y 700",
            "usr/lib-c 5",
            "etc/p 60",
            "etc/q 0",
            "etc/r 1",
        ],
        &["usr/lib/a -", "app/src/main 300"],
    ];

    #[test]
    fn folders_are_opened_from_the_largest_on() {
        assert_eq!(
            all(&IMAGE, 100),
            [
                "/ 91566 in 7 hidden 90000",
                "  usr/ 91505 in 4 hidden 90000",
                "    lib/ 91500 in 3 hidden 90000",
                "      a 90000 in 1 hidden 90000",
                "      b/ 1500 in 2",
                "        x 800 in 1",
                "        y 700 in 1",
                "    … 5 in 1",
                "  etc/ 61 in 3",
                "    p 60 in 1",
                "    … 1 in 2",
                "app/src/ 300 in 1",
                "  main 300 in 1",
            ]
        );
    }

    #[test]
    fn no_more_nodes_than_asked_for() {
        let told = all(&IMAGE, 6);
        assert!(
            told.len() <= 8 && told.contains(&"    lib/ 91500 in 3 hidden 90000".to_owned()),
            "{told:#?}"
        );
        assert_eq!(all(&[&[]], 6), ["/ 0 in 0"]);
    }
}
