//! Layers in, the listing of the merged root out.
#![allow(clippy::unwrap_used)]

use super::{ResolveError, ResolvedPath, RootView};
use crate::layer::sample::{lines, listing, view};

#[track_caller]
fn check(layers: &[&str], expected: &str) {
    assert_eq!(listing(&view(layers)), lines(expected));
}

#[test]
fn directories_merge_and_later_layers_win() {
    check(
        &["d etc 0700\nf etc/a 1\nf etc/b 1\nf z 1", "d etc 0711\nf etc/b 22\nf etc/c 1"],
        "d etc 711 #1
         f etc/a 1 #0
         f etc/b 2 #1
         f etc/c 1 #1
         f z 1 #0",
    );
}

#[test]
fn a_type_change_replaces_the_whole_tree() {
    check(
        &["d d\nf d-x 1\nd d/e\nf d/e/f 1\nf d0 1\nf f 1", "f d 1\nd f\nf f/g 1"],
        "f d 1 #1
         f d-x 1 #0
         f d0 1 #0
         d f 755 #1
         f f/g 1 #1",
    );
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    check(
        &["d d\nf d/a 1\nf d/b 1\nf d-c 1\nd e\nf e/x 1", "f d/.wh.a \nf .wh.d-c \nf .wh.e \nf .wh.none "],
        "d d 755 #0
         f d/b 1 #0",
    );
    check(
        &["d d\nf d/a 1", "f .wh.d \nd d 0700\nf d/b 1"],
        "d d 700 #1
         f d/b 1 #1",
    );
    // Made anew by what lies below it, the directory has nothing of the lower one.
    check(
        &["d d 0700\nf d/a 1", "f .wh.d \nf d/b 1"],
        "d d 755 #1
         f d/b 1 #1",
    );
}

#[test]
fn opaque_directories_hide_what_they_had() {
    check(
        &["d d 0700\nf d/a 1\nd d/e\nf d/e/f 1", "f d/b 1\nf d/.wh..wh..opq "],
        "d d 700 #0
         f d/b 1 #1",
    );
    check(&["d d\nf d/a 1\nf x 1", "f .wh..wh..opq \nf y 1"], "f y 1 #1");
}

#[test]
fn parents_that_no_entry_names_are_implied() {
    check(
        &["d a 0700\nf a-b 1", "f a/b/c/d 1\nf a-b/c 1"],
        "d a 700 #0
         d a-b 755 #-
         f a-b/c 1 #1
         d a/b 755 #-
         d a/b/c 755 #-
         f a/b/c/d 1 #1",
    );
}

#[test]
fn entries_pass_lower_symlinks() {
    check(
        &[
            "d usr\nd usr/lib\nf usr/lib/old 1\nl lib usr/lib\nl abs /usr",
            "f lib/new 1\nf lib/.wh.old \nf abs/lib/x/y 1",
        ],
        "l abs /usr #0
         l lib usr/lib #0
         d usr 755 #0
         d usr/lib 755 #0
         f usr/lib/new 1 #1
         d usr/lib/x 755 #-
         f usr/lib/x/y 1 #1",
    );
    // A directory of the layer's own replaces the symlink.
    check(
        &["d usr\nf usr/f 1\nl lib usr", "d lib\nf lib/new 1"],
        "d lib 755 #1
         f lib/new 1 #1
         d usr 755 #0
         f usr/f 1 #0",
    );
    // A symlink that leads nowhere yet: the way is made.
    check(
        &["l data /srv/data", "f data/f 1"],
        "l data /srv/data #0
         d srv 755 #-
         d srv/data 755 #-
         f srv/data/f 1 #1",
    );
}

#[test]
fn hard_links_show_their_file() {
    let view = view(&["f a 123\nh b a\nl s a", "h c a\nh d c\nh e s\nh f nothing\nf g 1\nh h g"]);
    let expected = "f a 3 #0\nf b 3 #0\nf c 3 #0\nf d 3 #0\nl e a #0\nf g 1 #1\nf h 1 #1\nl s a #0\n";
    assert_eq!(listing(&view), expected);
    let entry = |path: &[u8]| view.entry(path).unwrap();
    assert_eq!(entry(b"a").inode(), entry(b"b").inode());
    assert!(entry(b"a").node.has_links);
    assert_ne!(entry(b"a").inode(), entry(b"g").inode());
    assert_eq!(entry(b"g").inode(), entry(b"h").inode());
}

fn resolved(existing: &str, missing: &str) -> Result<ResolvedPath, ResolveError> {
    Ok(ResolvedPath { existing: existing.into(), missing: missing.into() })
}

#[test]
fn paths_resolve_inside_the_root() {
    let view =
        view(&["d a\nd a/b\nf a/f 1\nl up ../../a/b\nl abs /a\nl loop loop\nl dead /x/y\nl a/rel ../abs/f"]);
    for (path, follow_last, existing, missing) in [
        ("", true, "", ""),
        ("/", true, "", ""),
        ("/a//b/.", true, "a/b", ""),
        ("up", true, "a/b", ""),
        ("up", false, "up", ""),
        ("up/../f", true, "a/f", ""),
        ("../../a", true, "a", ""),
        ("abs/new/x", true, "a", "new/x"),
        ("abs/new/../y", true, "a", "y"),
        ("dead", true, "", "x/y"),
        ("dead/z", false, "", "x/y/z"),
        ("a/rel", true, "a/f", ""),
        ("a/new/../../../f", true, "", "f"),
    ] {
        assert_eq!(view.resolve(path.as_bytes(), follow_last), resolved(existing, missing), "{path}");
    }
    assert_eq!(view.resolve(b"loop", true), Err(ResolveError::TooManySymlinks("loop".into())));
    assert_eq!(view.resolve(b"loop", false), resolved("loop", ""));
    assert_eq!(view.resolve(b"a/f/x", true), Err(ResolveError::NotADirectory("a/f".into())));
    assert!(view.is_dir(b"up") && view.is_dir(b"/") && !view.is_dir(b"a/f") && !view.is_dir(b"nothing"));
}

#[test]
fn listing_a_directory_skips_what_lies_deeper() {
    let view = view(&["d a\nf a/b 1\nf a/b-c 1\nd a/d\nf a/d/e 1\nf a/d0 1\nf ab 1"]);
    let names = |dir: &[u8]| -> Vec<String> {
        view.list(dir).map(|entry| String::from_utf8_lossy(entry.name()).into_owned()).collect()
    };
    assert_eq!(names(b"a"), ["b", "b-c", "d", "d0"]);
    assert_eq!(names(b"/"), ["a", "ab"]);
    assert_eq!(names(b"a/d/"), ["e"]);
    assert!(names(b"a/b").is_empty() && names(b"none").is_empty());
    assert_eq!(view.walk(b"a/d").map(|entry| entry.path.to_vec()).collect::<Vec<_>>(), [b"a/d/e"]);
}

#[test]
fn an_empty_view_has_a_root() {
    let view = RootView::new(Vec::new());
    assert!(view.is_empty() && view.is_dir(b"/"));
    assert_eq!(view.entry(b"/").unwrap().node.mode, 0o755);
    assert_eq!(view.resolve(b"/x", true), resolved("", "x"));
}
