//! What a mount shows, and that nothing is told by a digest that nobody took.

use super::*;

#[test]
fn a_mount_is_told_by_everything_that_it_shows() {
    let key = |lines: &[&str]| mounted(&image(lines), b"/d").unwrap().map(|fields| fields.key());
    let first = key(&["d/", "d/f=x", "d/l->f", "other=y"]);
    assert!(first.is_some());
    for same in [
        &["d/", "d/f=x", "d/l->f", "other=z"][..],
        &["d->e", "e/", "e/f=x", "e/l->f"],
        &["a/", "d->a/e", "a/e/", "a/e/f=x", "a/e/l->f"],
    ] {
        assert_eq!(key(same), first, "{same:?}");
    }
    let others = [
        &["d/", "d/f=x", "d/l->f"][..],
        &["d@700/", "d/f=x", "d/l->f"],
        &["d@755:7:0/", "d/f=x", "d/l->f"],
        &["d/", "d/f=y", "d/l->f"],
        &["d/", "d/f@600=x", "d/l->f"],
        &["d/", "d/f@644:0:7=x", "d/l->f"],
        &["d/", "d/f=x", "d/l->g"],
        &["d/", "d/f=x", "d/l=>d/f"],
        &["d/", "d/f=x", "d/l=x"],
        &["d/", "d/g=x", "d/l->f"],
        &["d/", "d/f=x"],
        &["d/", "d/f/", "d/l->f"],
        &["d=x"],
    ];
    for (at, other) in others.iter().enumerate() {
        let seen = others[..at].iter().position(|lines| key(lines) == key(other));
        assert!(seen.is_none(), "{other:?} is as {seen:?}");
    }
    // The whole root is told by its layers, and what is not there by nothing.
    for source in ["/", "/none", "/d/..", "/up"] {
        let root = image(&["d/", "d/f=x", "up->/"]);
        assert!(mounted(&root, source.as_bytes()).unwrap().is_none(), "{source}");
    }
}

#[test]
fn extended_attributes_that_a_mount_shows_count() {
    let key = |attributes: &[(&str, &str)]| {
        let xattrs =
            attributes.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let kind = EntryKind::Directory;
        let xattrs = xattrs.collect();
        let entries = [Entry { path: b"d".to_vec(), kind, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs }];
        let view = RootView::new(vec![Arc::new(Index::from_entries(&entries, &[0]).unwrap())]);
        let tree = FileTree::Layers(LayerTree { view, bytes: Arc::new(Memory(Vec::new())) });
        mounted(&tree, b"d").unwrap().unwrap().key()
    };
    let keys = [
        &[][..],
        &[("user.a", "b")],
        &[("user.a", "c")],
        &[("user.b", "b")],
        &[("user.a", "b"), ("user.b", "")],
    ];
    let keys: std::collections::HashSet<_> = keys.map(key).into_iter().collect();
    assert_eq!(keys.len(), 5);
}

/// Gives a digest less than it was asked for.
struct Forgetful;

impl LayerBytes for Forgetful {
    fn digests(&self, _: &RootView, wanted: &[Range]) -> io::Result<Vec<[u8; 32]>> {
        Ok(vec![[1; 32]; wanted.len().saturating_sub(1)])
    }

    fn contents(&self, _: &[Range]) -> io::Result<Vec<Content>> {
        Ok(Vec::new())
    }
}

#[test]
fn a_file_without_a_digest_is_an_error() {
    let FileTree::Layers(LayerTree { view, .. }) = image(&["d/", "d/a=x", "d/b=y", "f=z"]) else {
        unreachable!()
    };
    let tree = FileTree::Layers(LayerTree { view, bytes: Arc::new(Forgetful) });
    for instruction in ["COPY d /o", "COPY f /o", "ADD f /o"] {
        let op = op(instruction);
        assert!(select(&op, &sources(&op, &tree)).is_err(), "{instruction}");
    }
    assert!(mounted(&tree, b"/d").is_err());
}
