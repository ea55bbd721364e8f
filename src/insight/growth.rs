//! What makes an image larger or smaller than another: folders and files, told as few as say it.

use std::collections::BinaryHeap;

use super::contents::Contents;

/// A folder or file that differs in size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// From the root, without a slash before it.
    pub path: Vec<u8>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Bytes below it in the older image.
    pub before: u64,
    /// In the newer.
    pub after: u64,
    /// The layer of the newer image that brings most of what is there now.
    pub layer: Option<usize>,
}

impl Growth {
    /// By how much it grew; less than nothing if it shrank.
    pub fn bytes(&self) -> i128 {
        i128::from(self.after) - i128::from(self.before)
    }
}

/// A path of either image.
struct Row<'i> {
    path: &'i [u8],
    before: u64,
    after: Option<(u64, usize)>,
}

/// A folder opens into what it holds when so much of its change, in percent, is in one of these.
const MOSTLY: u128 = 60;

/// Where the difference is, the largest first, at most `most`. Only what is left in the end counts, not what later layers hide.
pub fn growth(before: &Contents<'_>, after: &Contents<'_>, most: usize) -> Vec<Growth> {
    let rows: Vec<Row<'_>> = rows(before, after);
    // By how much, which rows, and how long the path to them is.
    let mut open: BinaryHeap<(u128, (usize, usize), usize)> = BinaryHeap::new();
    let mut found: Vec<(usize, usize, usize)> = Vec::new();
    open.push((u128::MAX, (0, rows.len()), 0));
    while let Some((weight, (from, to), prefix)) = open.pop() {
        if found.len() >= most {
            break;
        }
        let is_root = weight == u128::MAX;
        let children = children(&rows, (from, to), prefix);
        let whole: u128 = children.iter().map(|(range, _)| change(&rows, *range)).sum();
        let largest = children.iter().map(|(range, _)| change(&rows, *range)).max().unwrap_or(0);
        let is_file = matches!(children.as_slice(), [(_, next)] if *next == 0);
        // A folder in which nothing stands out says more than the many things in it.
        if is_root || (!is_file && largest.saturating_mul(100) >= whole.saturating_mul(MOSTLY)) {
            for (range, next) in children {
                let change = change(&rows, range);
                if change > 0 {
                    open.push((change, range, if next == 0 { prefix } else { next }));
                }
            }
        } else {
            found.push((from, to, prefix));
        }
    }
    let mut found: Vec<Growth> =
        found.into_iter().map(|(from, to, prefix)| told(&rows, (from, to), prefix)).collect();
    found.sort_by(|a, b| (b.bytes().abs(), &a.path).cmp(&(a.bytes().abs(), &b.path)));
    found.retain(|growth| growth.bytes() != 0);
    found
}

fn rows<'i>(before: &Contents<'i>, after: &Contents<'i>) -> Vec<Row<'i>> {
    let size = |of: &Contents<'_>, layer: usize, at: usize| of.layers[layer][at].size;
    let (mut old, mut new) = (before.visible.iter().peekable(), after.visible.iter().peekable());
    let mut rows = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return rows,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.0.cmp(b.0),
        };
        let a = if order.is_le() { old.next() } else { None };
        let b = if order.is_ge() { new.next() } else { None };
        let Some(path) = a.or(b).map(|(path, ..)| *path) else { return rows };
        let before = a.map_or(0, |(_, layer, at)| size(before, *layer, *at));
        let after = b.map(|(_, layer, at)| (size(after, *layer, *at), *layer));
        if before != after.map_or(0, |(size, _)| size) {
            rows.push(Row { path, before, after });
        }
    }
}

/// The parts of a range by their next name, each with the length of the path to it, or 0 for a file.
fn children(rows: &[Row<'_>], (from, to): (usize, usize), prefix: usize) -> Vec<((usize, usize), usize)> {
    let mut found = Vec::new();
    let mut at = from;
    while at < to {
        let path = rows[at].path;
        let Some(slash) = path.get(prefix..).and_then(|rest| rest.iter().position(|byte| *byte == b'/'))
        else {
            found.push(((at, at + 1), 0));
            at += 1;
            continue;
        };
        let below = &path[..=prefix + slash];
        let end = at + rows[at..to].partition_point(|row| row.path.starts_with(below));
        found.push(((at, end), below.len()));
        at = end;
    }
    found
}

/// Bytes by which a range grew or shrank.
fn change(rows: &[Row<'_>], (from, to): (usize, usize)) -> u128 {
    let sum: i128 = rows[from..to]
        .iter()
        .map(|row| i128::from(row.after.map_or(0, |(size, _)| size)) - i128::from(row.before))
        .sum();
    sum.unsigned_abs()
}

fn told(rows: &[Row<'_>], (from, to): (usize, usize), prefix: usize) -> Growth {
    let rows = &rows[from..to];
    let is_folder = rows.len() > 1 || rows.first().is_some_and(|row| row.path[prefix..].contains(&b'/'));
    let first = rows.first().map_or(&b""[..], |row| row.path);
    let path = if is_folder { first[..prefix.saturating_sub(1)].to_vec() } else { first.to_vec() };
    let mut by_layer: std::collections::BTreeMap<usize, u64> = std::collections::BTreeMap::new();
    for (size, layer) in rows.iter().filter_map(|row| row.after) {
        *by_layer.entry(layer).or_default() += size;
    }
    Growth {
        path,
        is_folder,
        before: rows.iter().map(|row| row.before).sum(),
        after: rows.iter().filter_map(|row| row.after).map(|(size, _)| size).sum(),
        layer: by_layer.into_iter().max_by_key(|(_, size)| *size).map(|(layer, _)| layer),
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::tests::layer;
    use super::*;

    #[test]
    fn the_folder_that_grew_is_named() {
        let old = [layer(&["usr/bin/a 10", "usr/lib/b 10", "etc/x 5", "gone/y 7"])];
        let new = [
            layer(&["usr/bin/a 10", "usr/lib/b 10", "etc/x 6"]),
            layer(&["usr/lib/llvm/a 400", "usr/lib/llvm/b 300", "usr/lib/llvm/c 350", "usr/lib/z 3"]),
        ];
        let (old, new) = (Contents::of(&old), Contents::of(&new));
        let shown = |growth: &[Growth]| -> Vec<(String, bool, i128, Option<usize>)> {
            let one =
                |g: &Growth| (String::from_utf8_lossy(&g.path).into_owned(), g.is_folder, g.bytes(), g.layer);
            growth.iter().map(one).collect()
        };
        let of = |path: &str, folder, bytes, layer| (path.to_owned(), folder, bytes, layer);
        assert_eq!(
            shown(&growth(&old, &new, 10)),
            [
                of("usr/lib/llvm", true, 1050, Some(1)),
                of("gone/y", false, -7, None),
                of("usr/lib/z", false, 3, Some(1)),
                of("etc/x", false, 1, Some(0)),
            ]
        );
        assert_eq!(growth(&old, &new, 1).len(), 1);
        assert_eq!(growth(&old, &old, 10), []);
        assert_eq!(growth(&Contents::default(), &Contents::default(), 10), []);
    }
}
