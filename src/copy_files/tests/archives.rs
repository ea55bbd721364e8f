//! Archives, and what is said to the cache key.

use super::*;
use crate::cache::{Preimage, Reasons};

/// An archive of `member` entries, as the tar crate writes them.
fn tar(members: &[(&str, u8, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, mode, text) in members {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(*mode);
        header.set_uid(11);
        header.set_gid(22);
        header.set_mtime(1400);
        let is_link = matches!(kind, b'1' | b'2');
        if is_link {
            header.set_link_name(text).unwrap();
        }
        let data = if is_link { "" } else { text };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives() {
    let members: &[(&str, u8, u32, &str)] = &[
        ("./", b'5', 0o700, ""),
        ("p/one", b'0', 0o644, "one"),
        ("alias/", b'5', 0o755, ""),
        ("alias/in", b'0', 0o640, "in"),
        ("hl", b'1', 0o644, "p/one"),
        ("sl", b'2', 0o777, "p"),
        ("sl/two", b'0', 0o644, "two"),
        ("../escape", b'0', 0o4755, "e"),
        ("lower", b'1', 0o644, "keep"),
    ];
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.tar"), tar(members)).unwrap();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, &tar(members)).unwrap();
        encoder.finish().unwrap()
    };
    fs::write(dir.path().join("y"), gzip).unwrap();
    fs::write(dir.path().join("n.gz"), "no archive").unwrap();
    let parent = image(&["o@700:1:1/", "o/alias->p", "o/keep@600:3:4=kept", "o/p/", "o/p/old=old"]);
    let unpacked = [
        "o/alias/ 755 11:22",
        "o/alias/in 640 11:22 in",
        "o/escape 4755 11:22 e",
        "o/hl => o/p/one",
        "o/lower 600 3:4 kept",
        "o/p/one 644 11:22 one",
        "o/p/two 644 11:22 two",
        "o/sl -> p 11:22",
    ];
    for instruction in ["ADD x.tar /o/", "ADD y /o", "ADD --chmod=711 x.tar /o", "COPY --unpack=true y /o"] {
        assert_eq!(listing(&run(instruction, &context(dir.path()), &parent)), unpacked, "{instruction}");
    }
    let outcome = run("ADD --chown=5:6 x.tar /q", &context(dir.path()), &image(&["q/keep=k"])).unwrap();
    let lines = listing(&Ok(outcome));
    assert!(lines.contains(&"q/p/ 755 0:0".to_owned()) && lines.contains(&"q/p/one 644 5:6 one".to_owned()));
    assert_eq!(run("ADD x.tar /o", &context(dir.path()), &parent).unwrap().time, 1400);
    // The destination is `/` in an archive; `./` says nothing of it.
    fs::write(dir.path().join("r.tar"), tar(&[("/", b'5', 0o750, ""), ("f", b'0', 0o644, "f")])).unwrap();
    let listed = listing(&run("ADD r.tar /o/", &context(dir.path()), &parent));
    assert_eq!(listed, ["o/ 750 11:22", "o/f 644 11:22 f"]);
    let listed = listing(&run("ADD r.tar /", &context(dir.path()), &parent));
    assert_eq!(listed, ["f 644 11:22 f"]);
    for instruction in ["ADD n.gz /o/n.gz", "ADD --unpack=false y /o/"] {
        assert_eq!(
            run(instruction, &context(dir.path()), &parent).unwrap().entries.len(),
            1,
            "{instruction}"
        );
    }
}

#[test]
fn a_file_of_an_archive_replaces_a_whole_directory() {
    let dir = tempfile::tempdir().unwrap();
    let members: &[(&str, u8, u32, &str)] = &[
        ("d", b'0', 0o644, "file"),
        ("e", b'0', 0o644, ""),
        ("e/", b'5', 0o755, ""),
        ("e/new", b'0', 0o644, ""),
    ];
    fs::write(dir.path().join("x.tar"), tar(members)).unwrap();
    let parent = image(&["d/", "d/in=x", "e/", "e/old=x"]);
    assert_eq!(
        listing(&run("ADD x.tar /", &context(dir.path()), &parent)),
        ["d 644 11:22 file", "e opaque", "e/ 755 11:22", "e/new 644 11:22 "]
    );
}

/// What is remembered of ways is forgotten when something on one of them is replaced.
#[test]
fn members_replace_what_others_lead_through() {
    let dir = tempfile::tempdir().unwrap();
    let members: &[(&str, u8, u32, &str)] = &[
        ("s", b'2', 0o777, "one"),
        ("s/a", b'0', 0o644, "a"),
        ("s", b'2', 0o777, "two"),
        ("s/b", b'0', 0o644, "b"),
        ("hl", b'1', 0o644, "s/b"),
        ("p/q/f", b'0', 0o644, "f"),
        ("p", b'2', 0o777, "o"),
        ("p/q/g", b'0', 0o644, "g"),
        ("d/in/x", b'0', 0o644, "x"),
        ("d-", b'0', 0o644, "before"),
        ("d0", b'0', 0o644, "behind"),
        ("d", b'0', 0o644, "file"),
        ("d/", b'5', 0o755, ""),
        ("d/in/y", b'0', 0o644, "y"),
        ("d/in", b'0', 0o644, "file"),
    ];
    fs::write(dir.path().join("x.tar"), tar(members)).unwrap();
    let below = ["d opaque", "d/ 755 11:22"];
    for (parent, d) in [(image(&[]), &below[1..]), (image(&["d/", "d/in/", "d/in/old=x"]), &below)] {
        let expected = [
            d,
            &[
                "d- 644 11:22 before",
                "d/in 644 11:22 file",
                "d0 644 11:22 behind",
                "hl => two/b",
                "o/ 755 0:0",
                "o/q/ 755 0:0",
                "o/q/g 644 11:22 g",
                "one/ 755 0:0",
                "one/a 644 11:22 a",
                "p -> o 11:22",
                "s -> two 11:22",
                "two/ 755 0:0",
                "two/b 644 11:22 b",
            ],
        ]
        .concat();
        assert_eq!(listing(&run("ADD x.tar /", &context(dir.path()), &parent)), expected);
    }
}

/// A member takes away what is in its place before it links, as docker has it.
#[test]
fn a_hard_link_in_the_place_of_another_name() {
    let unpacked = |members: &[(&str, u8, u32, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.tar"), tar(members)).unwrap();
        listing(&run("ADD x.tar /", &context(dir.path()), &image(&[])))
    };
    let file = ("f", b'0', 0o644, "text");
    assert_eq!(unpacked(&[file, ("l", b'1', 0, "f"), ("f", b'1', 0, "l")]), ["f => l", "l 644 11:22 text"]);
    // Each in turn loses the name that has the content.
    let (b, c) = (("b", b'1', 0, "f"), ("c", b'1', 0, "f"));
    let (new, d) = (("f", b'0', 0o600, "new"), ("d", b'1', 0, "f"));
    assert_eq!(
        unpacked(&[file, b, c, new, d, ("b", b'2', 0, "x"), ("e", b'1', 0, "c")]),
        ["b -> x 11:22", "c 644 11:22 text", "d => f", "e => c", "f 600 11:22 new"]
    );
    for members in [&[file, ("f", b'1', 0, "f")][..], &[("d/f", b'0', 0o644, ""), ("d", b'1', 0, "d/f")]] {
        let lines = unpacked(members);
        assert!(lines[0].contains("leads to `/") && lines[0].contains("which is not there"), "{lines:?}");
    }
}

/// The key was made of the digest; so what is unpacked has that digest, also where no time tells of a change.
#[test]
fn an_archive_that_does_not_have_its_digest_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    // Something behind the archive, which nobody unpacks.
    let bytes = [tar(&[("f", b'0', 0o644, "file")]), vec![7; 300_000]].concat();
    fs::write(dir.path().join("x.tar"), &bytes).unwrap();
    let op = op("ADD x.tar /");
    let mut selected = select(&op, &sources(&op, &context(dir.path()))).unwrap();
    let copied = |selected: &Selected| {
        let (parent, scratch) = (image(&[]), || tempfile::tempfile());
        let accounts = |_: &str| Ok(None);
        let destination =
            Destination { parent: &parent, parent_time: 0, accounts: &accounts, scratch: &scratch };
        listing(&copy_into(selected, &op, &destination))
    };
    assert_eq!(copied(&selected), ["f 644 11:22 file"]);
    let crate::copy_files::select::What::Archive(_, digest) = &mut selected.picks[0].what else {
        panic!("no archive")
    };
    let other = [&bytes[..bytes.len() - 1], &[8]].concat();
    digest.content = *blake3::hash(&other).as_bytes();
    let lines = copied(&selected);
    assert!(lines[0].starts_with("error: `/x.tar` does not hold what it held"), "{lines:?}");
}

#[test]
fn key_fields_tell_content_and_mode_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["d/run.sh@755=x", "d/l->run.sh", "d/sub/", "z=z"]);
    let fields = |instruction: &str| {
        let op = op(instruction);
        let selected = select(&op, &sources(&op, &context(dir.path()))).unwrap();
        let reasons = FileReasons::new(Preimage::default(), &selected, &op).unwrap();
        let preimage = reasons.to_preimage();
        assert_eq!(preimage.key(), reasons.key());
        preimage
    };
    let hex = blake3::hash(b"x").to_hex();
    let first = fields("COPY d /o");
    let shown: Vec<String> = first.fields().map(|field| format!("{}: {}", field.name, field.value)).collect();
    let expected = [
        "file:d: contents - -".to_owned(),
        "file:d/l: symlink 0777 0:0 target=6:run.sh".to_owned(),
        format!("file:d/run.sh: file 0755 0:0 {hex}"),
        "file:d/sub: dir 0755 0:0".to_owned(),
        "end: ".to_owned(),
    ];
    assert_eq!(shown, expected);
    let touched = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
    fs::File::options().write(true).open(dir.path().join("d/run.sh")).unwrap().set_modified(touched).unwrap();
    fs::write(dir.path().join("z"), "changed").unwrap();
    assert_eq!(fields("COPY d /o"), first);
    let with_mode = fields("COPY --chmod=600 d/run.sh /o");
    fs::set_permissions(dir.path().join("d/run.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(fields("COPY --chmod=600 d/run.sh /o"), with_mode);
    assert_ne!(fields("COPY d /o"), first);
}
