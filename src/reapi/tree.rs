//! Folders as the protocol has them: each is a message that names its files and folders by digest, so what is the same is there once.

use std::collections::BTreeMap;

use super::messages::{Blob, OutputFile};
use super::wire::{Malformed, Writer, fields};

/// Folders in folders that a server may send.
const DEPTH: usize = 32;
/// What all paths of a tree come to, in bytes, each with what stands around it: the same folder may be in it many times.
const PATHS: usize = 128 << 20;
const AROUND: usize = 128;

/// A folder that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    files: BTreeMap<String, (Blob, bool)>,
    folders: BTreeMap<String, Folder>,
}

impl Folder {
    /// Adds a file. Its path has `/` between names, none of which is `.` or `..`.
    pub(crate) fn add(&mut self, path: &str, blob: Blob, is_executable: bool) {
        match path.split_once('/') {
            None => drop(self.files.insert(path.to_owned(), (blob, is_executable))),
            Some((folder, rest)) => {
                self.folders.entry(folder.to_owned()).or_default().add(rest, blob, is_executable);
            }
        }
    }

    /// The messages of this folder and all below it, each with its name; gives that of this one.
    pub(crate) fn messages(&self, out: &mut BTreeMap<Blob, Vec<u8>>) -> Blob {
        let folders: Vec<(&String, Blob)> =
            self.folders.iter().map(|(name, folder)| (name, folder.messages(out))).collect();
        let file = |(name, (blob, is_executable)): (&String, &(Blob, bool))| {
            Writer::new().bytes(1, name).message(2, blob.message()).number(4, (*is_executable).into())
        };
        let folder = |(name, blob): &(&String, Blob)| Writer::new().bytes(1, name).message(2, blob.message());
        let message = Writer::new().messages(1, self.files.iter().map(file));
        let bytes = message.messages(2, folders.iter().map(folder)).done();
        let blob = Blob::of(&bytes);
        out.insert(blob, bytes);
        blob
    }
}

/// The files of a `Tree`, which is what servers give for a folder that an action made.
pub(crate) fn files_of_tree(bytes: &[u8]) -> Result<Vec<OutputFile>, Malformed> {
    let (mut root, mut children) = (&[][..], BTreeMap::new());
    for field in fields(bytes) {
        match field? {
            (1, value) => root = value.bytes(),
            (2, value) => drop(children.insert(Blob::of(value.bytes()), value.bytes())),
            _ => {}
        }
    }
    let mut files = Vec::new();
    list(root, "", &children, (DEPTH, &mut { PATHS }), &mut files)?;
    Ok(files)
}

fn list(
    folder: &[u8],
    path: &str,
    children: &BTreeMap<Blob, &[u8]>,
    (depth, budget): (usize, &mut usize),
    files: &mut Vec<OutputFile>,
) -> Result<(), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    for field in fields(folder) {
        let (number, value) = field?;
        spend(budget, AROUND)?;
        if number != 1 && number != 2 {
            continue;
        }
        let (mut name, mut blob) = (String::new(), Err(Malformed));
        for field in fields(value.bytes()) {
            match field? {
                (1, value) => name = value.text(),
                (2, value) => blob = Blob::parse(value.bytes()),
                _ => {}
            }
        }
        spend(budget, path.len().saturating_add(name.len()))?;
        let (path, blob) = (format!("{path}{name}"), blob?);
        match number {
            1 => files.push(OutputFile { path, blob }),
            _ => {
                let folder = children.get(&blob).ok_or(Malformed)?;
                list(folder, &format!("{path}/"), children, (depth, &mut *budget), files)?;
            }
        }
    }
    Ok(())
}

fn spend(budget: &mut usize, size: usize) -> Result<(), Malformed> {
    *budget = budget.checked_sub(size).ok_or(Malformed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_tree_that_names_its_folders_again_and_again_is_none() {
        let mut tree = Writer::new();
        let mut below = Vec::new();
        for _ in 0..DEPTH - 2 {
            let blob = Blob::of(&below);
            tree = tree.always(2, &below);
            let folder = |name: u32| Writer::new().bytes(1, name.to_string()).message(2, blob.message());
            below = Writer::new().messages(2, (0..100).map(folder)).done();
        }
        assert_eq!(files_of_tree(&tree.always(1, &below).done()), Err(Malformed));
    }

    #[test]
    fn a_folder_is_the_same_messages_whatever_the_order() {
        let (a, b) = (Blob::of(b"a"), Blob::of(b"b"));
        let files = [("x/a", a, false), ("run", b, true), ("y/a", a, false), ("x/z/b", b, false)];
        let (mut one, mut two) = (Folder::default(), Folder::default());
        files.iter().for_each(|(path, blob, mode)| one.add(path, *blob, *mode));
        files.iter().rev().for_each(|(path, blob, mode)| two.add(path, *blob, *mode));
        let (mut messages, mut others) = (BTreeMap::new(), BTreeMap::new());
        let root = one.messages(&mut messages);
        assert_eq!((root, &messages), (two.messages(&mut others), &others));
        // The root, `x`, `x/z` and `y`.
        assert_eq!(messages.len(), 4);
        // As a server gives it back.
        let mut tree = Writer::new().always(1, &messages[&root]);
        for (blob, bytes) in &messages {
            if *blob != root {
                tree = tree.always(2, bytes);
            }
        }
        let mut listed: Vec<String> =
            files_of_tree(&tree.done()).unwrap().into_iter().map(|file| file.path).collect();
        listed.sort();
        assert_eq!(listed, ["run", "x/a", "x/z/b", "y/a"]);
        // A folder that is not there.
        assert_eq!(files_of_tree(&Writer::new().always(1, &messages[&root]).done()), Err(Malformed));
    }
}
