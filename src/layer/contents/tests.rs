//! Contents fetched through views over archives in memory.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::{ContentsError, Wanted, read_small_file, read_small_files, spool};
use crate::layer::entry::Content;
use crate::layer::sample::{tar, view};
use crate::layer::view::{Kind, RootView};

/// A view over layers, and their blobs, compressed in different ways.
struct Image {
    view: RootView,
    blobs: Vec<Vec<u8>>,
    opened: RefCell<Vec<usize>>,
}

impl Image {
    fn new(layers: &[&str]) -> Self {
        let compress = |(at, layer): (usize, &&str)| match at % 2 {
            0 => zstd::encode_all(tar(layer).as_slice(), 1).unwrap(),
            _ => tar(layer),
        };
        let blobs = layers.iter().enumerate().map(compress).collect();
        Self { view: view(layers), blobs, opened: RefCell::default() }
    }

    fn open(&self, layer: usize) -> io::Result<Box<dyn Read>> {
        self.opened.borrow_mut().push(layer);
        Ok(Box::new(io::Cursor::new(self.blobs[layer].clone())))
    }

    fn small(&self, path: &str) -> Option<String> {
        let bytes = read_small_file(&self.view, path.as_bytes(), 100, &|layer| self.open(layer)).unwrap();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn wanted(&self, path: &str) -> Wanted {
        let entry = self.view.entry(path.as_bytes()).unwrap();
        let Kind::File { size, offset } = entry.node.kind else { panic!("{path} is no file") };
        Wanted { layer: entry.layer.unwrap(), offset, len: size }
    }
}

fn text(content: &Content) -> String {
    let bytes = match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::Slice { file, offset, len } => {
            let mut bytes = vec![0; *len as usize];
            file.read_exact_at(&mut bytes, *offset).unwrap();
            bytes
        }
        Content::Disk(_) => panic!("contents of layers lie in no file of their own"),
    };
    String::from_utf8(bytes).unwrap()
}

#[test]
fn small_files_are_read_through_symlinks() {
    let image = Image::new(&["d usr\nf usr/passwd root\nl etc usr\nf empty ", "f usr/group staff\nd dir"]);
    assert_eq!(image.small("/etc/passwd").as_deref(), Some("root"));
    assert_eq!(image.small("etc/group").as_deref(), Some("staff"));
    assert_eq!(image.small("empty").as_deref(), Some(""));
    assert_eq!(image.small("etc/none"), None);
    assert_eq!(image.small("dir"), None);
    image.opened.borrow_mut().clear();
    let paths: [&[u8]; 3] = [b"etc/group", b"none", b"etc/passwd"];
    let found = read_small_files(&image.view, &paths, 100, &|layer| image.open(layer)).unwrap();
    assert_eq!(found, [Some(b"staff".to_vec()), None, Some(b"root".to_vec())]);
    assert_eq!(*image.opened.borrow(), [0, 1]);
}

#[test]
fn a_file_that_is_not_small_is_an_error() {
    let image = Image::new(&["f passwd 12345"]);
    let error = read_small_file(&image.view, b"passwd", 4, &|layer| image.open(layer)).unwrap_err();
    assert!(matches!(error, ContentsError::TooLarge { size: 5, limit: 4, .. }));
}

#[test]
fn contents_come_in_the_order_asked_for_from_one_pass() {
    let big = "x".repeat(2 << 20);
    let layer = format!("f a first\nf big {big}\nf b second\nf empty \nf last third");
    let image = Image::new(&[&layer, "f c above"]);
    for paths in [vec!["b", "a", "c", "b", "empty"], vec!["last", "c", "big", "a", "last", "empty"]] {
        image.opened.borrow_mut().clear();
        let wanted: Vec<Wanted> = paths.iter().map(|path| image.wanted(path)).collect();
        let contents = spool(&wanted, &|layer| image.open(layer), tempfile::tempfile).unwrap();
        let is_spooled = paths.contains(&"big");
        for (path, content) in paths.iter().zip(&contents) {
            let expected = match *path {
                "a" => "first",
                "b" => "second",
                "c" => "above",
                "big" => &big,
                "last" => "third",
                _ => "",
            };
            assert!(text(content) == expected, "{path}");
            assert_eq!(matches!(content, Content::Slice { .. }), is_spooled, "{path}");
        }
        assert_eq!(*image.opened.borrow(), [0, 1]);
    }
}

#[test]
fn a_blob_shorter_than_its_index_is_an_error() {
    let mut image = Image::new(&["", "f a 1\nf b 2"]);
    let wanted = [image.wanted("b")];
    image.blobs[1].truncate(1200);
    let error = spool(&wanted, &|layer| image.open(layer), tempfile::tempfile).unwrap_err();
    assert!(matches!(error, ContentsError::Layer { layer: 1, .. }), "{error}");
}
