//! Instructions over small trees: text in, a listing of the layer (or the error) out.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::tree::{LayerBytes, LayerTree, Range};
use super::*;
use crate::context::{Context, ignore};
use crate::layer::entry::{Content, Entry, EntryKind};
use crate::layer::index::Index;
use crate::layer::view::RootView;
use crate::plan::graph::{Chmod, StepId, TransferKind, TransferOp, TransferSource};

/// Layers in memory: a file's offset is its number.
struct Memory(Vec<Vec<u8>>);

impl LayerBytes for Memory {
    fn digests(&self, _: &RootView, wanted: &[Range]) -> io::Result<Vec<[u8; 32]>> {
        Ok(wanted.iter().map(|range| *blake3::hash(&self.0[range.offset as usize]).as_bytes()).collect())
    }

    fn contents(&self, wanted: &[Range]) -> io::Result<Vec<Content>> {
        let content = |range: &Range| Content::Bytes(self.0[range.offset as usize].as_slice().into());
        Ok(wanted.iter().map(content).collect())
    }
}

/// `dir/`, `file=text`, `link->target`, `name=>other` (hard link); `@MODE:UID:GID` may follow a name.
struct Line<'l> {
    path: &'l str,
    mode: Option<u32>,
    owner: (u32, u32),
    what: &'l str,
}

fn parse(line: &str) -> Line<'_> {
    let end = line.find(['=']).or(line.find("->")).unwrap_or(line.len());
    let (head, what) = line.split_at(end);
    let (path, attributes) = head.split_once('@').unwrap_or((head, ""));
    let mut numbers = attributes.trim_end_matches('/').split(':');
    let mode = numbers.next().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let mut id = || numbers.next().map_or(0, |id| id.parse().unwrap());
    Line { path, mode, owner: (id(), id()), what }
}

/// A root made of one layer.
fn image(lines: &[&str]) -> FileTree {
    let mut texts = Vec::new();
    let mut entries = Vec::new();
    for line in lines {
        let Line { path, mode, owner: (uid, gid), what } = parse(line);
        let kind = if let Some(target) = what.strip_prefix("=>") {
            EntryKind::HardLink(target.into())
        } else if let Some(target) = what.strip_prefix("->") {
            EntryKind::Symlink(target.into())
        } else if let Some(text) = what.strip_prefix('=') {
            EntryKind::File(Content::Bytes(text.as_bytes().into()))
        } else {
            EntryKind::Directory
        };
        texts.push(what.trim_start_matches('=').as_bytes().to_vec());
        let mode = mode.unwrap_or(if matches!(kind, EntryKind::Directory) { 0o755 } else { 0o644 });
        let path = path.trim_end_matches('/').as_bytes().to_vec();
        entries.push(Entry { path, kind, mode, uid, gid, mtime: 500, xattrs: Default::default() });
    }
    let offsets: Vec<u64> = (0..entries.len() as u64).collect();
    let index = Index::from_entries(&entries, &offsets).unwrap();
    FileTree::Layers(LayerTree { view: RootView::new(vec![Arc::new(index)]), bytes: Arc::new(Memory(texts)) })
}

/// A folder; every mtime is 1000, or that of `times`.
fn folder(dir: &Path, lines: &[&str]) {
    for line in lines {
        let Line { path, mode, what, .. } = parse(line);
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = what.strip_prefix("=>") {
            fs::hard_link(dir.join(target), &path).unwrap();
        } else if let Some(target) = what.strip_prefix("->") {
            symlink(target, &path).unwrap();
        } else if let Some(text) = what.strip_prefix('=') {
            fs::write(&path, text).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        } else {
            fs::create_dir_all(&path).unwrap();
        }
        if !what.starts_with("->") {
            let default = if path.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode.unwrap_or(default))).unwrap();
        }
    }
}

fn context(dir: &Path) -> FileTree {
    let ignore = ignore::load(dir, None).unwrap();
    FileTree::Context(Arc::new(Context::open(dir, ignore, None).unwrap()))
}

/// Parses an instruction of a test: `COPY --flags a <<NAME b /dest`.
fn op(text: &str) -> TransferOp {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let kind = if words.remove(0) == "ADD" { TransferKind::Add } else { TransferKind::Copy };
    let mut op = TransferOp {
        kind,
        sources: Vec::new(),
        destination: words.pop().unwrap().to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
        unpack: None,
        checksum: None,
        keep_git_dir: false,
        epoch: None,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--chown", owner) => op.chown = Some(owner.to_owned()),
            ("--chmod", mode) => {
                let octal = u32::from_str_radix(mode, 8).map(Chmod::Octal);
                op.chmod = Some(octal.unwrap_or_else(|_| Chmod::Symbolic(mode.to_owned())));
            }
            ("--link", _) => op.link = true,
            ("--parents", _) => op.parents = true,
            ("--exclude", pattern) => op.excludes.push(pattern.to_owned()),
            ("--unpack", value) => op.unpack = Some(value != "false"),
            ("--epoch", value) => op.epoch = value.parse().ok(),
            _ => op.sources.push(match word.strip_prefix("<<") {
                Some(name) => {
                    TransferSource::Inline { name: name.to_owned(), content: format!("{name} text") }
                }
                None => TransferSource::Path { from: StepId(0), pattern: word.to_owned(), span: None },
            }),
        }
    }
    op
}

/// Runs an instruction on files of `source`.
fn run(instruction: &str, source: &FileTree, parent: &FileTree) -> Result<Outcome, Error> {
    let op = op(instruction);
    let inputs: Vec<Input> = op.sources.iter().map(|_| Input::Tree(source.clone())).collect();
    let accounts = |file: &str| {
        Ok(match (parent.entry(file.as_bytes()).unwrap().is_some(), file) {
            (false, _) => None,
            (true, "etc/passwd") => Some(b"app:x:1000:1000::/:/bin/sh\n".to_vec()),
            (true, _) => Some(b"staff:x:50:\n".to_vec()),
        })
    };
    let scratch = || tempfile::tempfile();
    let destination = Destination { parent, parent_time: 700, accounts: &accounts, scratch: &scratch };
    land(&select(&op, &inputs)?, &op, &destination)
}

/// One line for each entry: `path mode uid:gid text`; an mtime other than 1000 (files) or 1000 as the step's
/// time (directories) is shown.
fn listing(outcome: &Result<Outcome, Error>) -> Vec<String> {
    match outcome {
        Err(error) => vec![format!("error: {error}")],
        Ok(outcome) => outcome.entries.iter().map(line).collect(),
    }
}

fn line(entry: &Entry) -> String {
    let Entry { path, kind, mode, uid, gid, .. } = entry;
    let path = String::from_utf8_lossy(path);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match kind {
        EntryKind::Directory => format!("{path}/ {mode:o} {uid}:{gid}"),
        EntryKind::File(content) => format!("{path} {mode:o} {uid}:{gid} {}", text(&read(content))),
        EntryKind::Symlink(target) => format!("{path} -> {} {uid}:{gid}", text(target)),
        EntryKind::HardLink(target) => format!("{path} => {}", text(target)),
        EntryKind::OpaqueWhiteout => format!("{path} opaque"),
        other => format!("{path} {mode:o} {uid}:{gid} {other:?}"),
    }
}

fn read(content: &Content) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::Slice { file, offset, len } => {
            let mut bytes = vec![0; *len as usize];
            file.read_exact_at(&mut bytes, *offset).unwrap();
            bytes
        }
        Content::Disk(file) => {
            let fd = rustix::fs::openat(
                &file.root,
                &file.path,
                rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty(),
            );
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut fs::File::from(fd.unwrap()), &mut bytes).unwrap();
            bytes
        }
    }
}

const CONTEXT: &[&str] = &[
    "a=aa",
    "b.txt=bb",
    "d/",
    "d/x=x",
    "d/sub@700/",
    "d/sub/y.txt=y",
    "d/sub/z@600=z",
    "link->a",
    "dlink->d/sub",
    "esc->../../../d/x",
    "x1.txt=glob",
];

const PARENT: &[&str] = &[
    "etc/",
    "etc/passwd=",
    "etc/group=",
    "tmp@1777/",
    "have@700:5:6/",
    "have/sub@755:5:6/",
    "have/x@600:5:6=old",
    "file=f",
    "real/",
    "real/target=t",
    "alias->real",
    "filelink->real/target",
    "loop->loop",
    "dangling->nowhere/file",
];

/// Each instruction on [`CONTEXT`] and [`PARENT`].
fn check(cases: &[(&str, &[&str])]) {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), CONTEXT);
    let parent = image(PARENT);
    for (instruction, expected) in cases {
        assert_eq!(listing(&run(instruction, &context(dir.path()), &parent)), *expected, "{instruction}");
    }
}

#[test]
fn where_files_land() {
    check(&[
        ("COPY a /new", &["new 644 0:0 aa"]),
        ("COPY a /new/", &["new/ 755 0:0", "new/a 644 0:0 aa"]),
        ("COPY a /n/o/p", &["n/ 755 0:0", "n/o/ 755 0:0", "n/o/p 644 0:0 aa"]),
        ("COPY a /tmp", &["tmp/a 644 0:0 aa"]),
        ("COPY a /", &["a 644 0:0 aa"]),
        ("COPY a /file", &["file 644 0:0 aa"]),
        ("COPY a b.txt /t", &["t 644 0:0 bb"]),
        ("COPY a b.txt /t/", &["t/ 755 0:0", "t/a 644 0:0 aa", "t/b.txt 644 0:0 bb"]),
        (
            "COPY d a /t",
            &[
                "t/ 755 0:0",
                "t/a 644 0:0 aa",
                "t/sub/ 700 0:0",
                "t/sub/y.txt 644 0:0 y",
                "t/sub/z 600 0:0 z",
                "t/x 644 0:0 x",
            ],
        ),
        ("COPY *.txt /t/", &["t/ 755 0:0", "t/b.txt 644 0:0 bb", "t/x1.txt 644 0:0 glob"]),
        ("COPY d/*/*.txt /t/", &["t/ 755 0:0", "t/y.txt 644 0:0 y"]),
        ("COPY x[1].txt /t", &["t 644 0:0 glob"]),
        ("COPY *.absent /t/", &[]),
        ("COPY ../../a /x", &["x 644 0:0 aa"]),
        ("COPY <<one a /t/", &["t/ 755 0:0", "t/a 644 0:0 aa", "t/one 644 0:0 one text"]),
    ]);
}

#[test]
fn existing_directories_keep_mode_and_owner_but_nested_ones_do_not() {
    check(&[
        (
            "COPY d /have",
            &["have/sub/ 700 0:0", "have/sub/y.txt 644 0:0 y", "have/sub/z 600 0:0 z", "have/x 644 0:0 x"],
        ),
        (
            "COPY --chown=7:8 d /have/",
            &["have/sub/ 700 7:8", "have/sub/y.txt 644 7:8 y", "have/sub/z 600 7:8 z", "have/x 644 7:8 x"],
        ),
        (
            "COPY --chmod=755 --chown=5:6 d/sub /have/sub",
            &["have/sub/y.txt 755 5:6 y", "have/sub/z 755 5:6 z"],
        ),
    ]);
}

#[test]
fn symlinks_of_source_and_destination() {
    check(&[
        ("COPY link /t", &["t 644 0:0 aa"]),
        ("COPY link /t/", &["t/ 755 0:0", "t/link 644 0:0 aa"]),
        ("COPY dlink /t", &["t/ 755 0:0", "t/y.txt 644 0:0 y", "t/z 600 0:0 z"]),
        ("COPY dlink/z /t", &["t 600 0:0 z"]),
        ("COPY esc /t", &["t 644 0:0 x"]),
        ("COPY a /alias/sub/a", &["real/sub/ 755 0:0", "real/sub/a 644 0:0 aa"]),
        ("COPY a /filelink", &["real/target 644 0:0 aa"]),
        ("COPY a /dangling", &["nowhere/ 755 0:0", "nowhere/file 644 0:0 aa"]),
        ("COPY a /alias", &["real/a 644 0:0 aa"]),
        ("COPY a /loop", &["error: too many levels of symbolic links in `/loop`"]),
    ]);
}

#[test]
fn owners_and_modes() {
    check(&[
        ("COPY --chown=app a /n/a", &["n/ 755 1000:1000", "n/a 644 1000:1000 aa"]),
        ("COPY --chown=app:staff a /a", &["a 644 1000:50 aa"]),
        ("COPY --chown=ghost a /a", &["a 644 0:0 aa"]),
        ("COPY --chown=56 a /a", &["a 644 56:56 aa"]),
        ("COPY --chmod=7 a /4/5/6", &["4/ 7 0:0", "4/5/ 7 0:0", "4/5/6 7 0:0 aa"]),
        ("COPY --chmod=4755 a /n/a", &["n/ 755 0:0", "n/a 4755 0:0 aa"]),
        ("COPY --chmod=g=u d/sub /4", &["4/ 755 0:0", "4/y.txt 664 0:0 y", "4/z 660 0:0 z"]),
        (
            "COPY --chmod=a+x d /4",
            &["4/ 755 0:0", "4/sub/ 711 0:0", "4/sub/y.txt 755 0:0 y", "4/sub/z 711 0:0 z", "4/x 755 0:0 x"],
        ),
        (
            "COPY --chown=app --chmod=750 <<run.sh /opt/",
            &["opt/ 750 1000:1000", "opt/run.sh 750 1000:1000 run.sh text"],
        ),
    ]);
}

#[test]
fn link_knows_nothing_of_the_parent() {
    check(&[
        ("COPY --link a /tmp", &["tmp 644 0:0 aa"]),
        ("COPY --link d/sub /have/", &["have/ 755 0:0", "have/y.txt 644 0:0 y", "have/z 600 0:0 z"]),
        ("COPY --link a /alias/a", &["alias/ 755 0:0", "alias/a 644 0:0 aa"]),
        ("COPY --link --chmod=701 a /alias/a", &["real/a 701 0:0 aa"]),
        ("COPY --link --chown=1000:50 a /a", &["a 644 1000:50 aa"]),
        (
            "COPY --link --chown=app a /a",
            &[
                "error: invalid user index: `--chown=app` names an account, but --link has no base to look it up in",
            ],
        ),
    ]);
}

#[test]
fn parents_and_exclude() {
    check(&[
        (
            "COPY --parents d/sub/z /o/",
            &["o/ 755 0:0", "o/d/ 755 0:0", "o/d/sub/ 700 0:0", "o/d/sub/z 600 0:0 z"],
        ),
        ("COPY --parents d/./sub/z /o/", &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/z 600 0:0 z"]),
        (
            "COPY --parents ./d/./sub /o/",
            &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/y.txt 644 0:0 y", "o/sub/z 600 0:0 z"],
        ),
        (
            "COPY --parents **/*.txt /o/",
            &[
                "o/ 755 0:0",
                "o/b.txt 644 0:0 bb",
                "o/d/ 755 0:0",
                "o/d/sub/ 700 0:0",
                "o/d/sub/y.txt 644 0:0 y",
                "o/x1.txt 644 0:0 glob",
            ],
        ),
        (
            "COPY --parents --chown=9:9 d/*/z /o/",
            &["o/ 755 9:9", "o/d/ 755 9:9", "o/d/sub/ 700 9:9", "o/d/sub/z 600 9:9 z"],
        ),
        ("COPY --parents d/nope /o/", &["error: `/d/nope` not found in the build context"]),
        (
            "COPY --exclude=sub/z d /o",
            &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/y.txt 644 0:0 y", "o/x 644 0:0 x"],
        ),
        ("COPY --exclude=sub d /o", &["o/ 755 0:0", "o/x 644 0:0 x"]),
        (
            "COPY --exclude=sub --exclude=!sub/z d /o",
            &["o/ 755 0:0", "o/sub/ 700 0:0", "o/sub/z 600 0:0 z", "o/x 644 0:0 x"],
        ),
        ("COPY --exclude=*.txt *.txt /o/", &["o/ 755 0:0", "o/b.txt 644 0:0 bb", "o/x1.txt 644 0:0 glob"]),
        ("COPY --exclude=a[ a /o/", &["error: syntax error in pattern `a[` of --exclude"]),
    ]);
}

#[test]
fn what_is_in_the_way() {
    check(&[
        ("COPY d /file", &["error: cannot copy a directory onto `/file`: it is a file, not a directory"]),
        (
            "COPY a /etc/passwd/x",
            &["error: cannot make the directory `/etc/passwd`: `/etc/passwd` is not a directory"],
        ),
        ("COPY nope /x", &["error: `/nope` not found in the build context"]),
        (
            "COPY ../Dockerfile /x",
            &[
                "error: `/Dockerfile` not found in the build context: `../Dockerfile` is forbidden, it leads outside",
            ],
        ),
        ("COPY a[ /x", &["error: syntax error in pattern `a[`"]),
    ]);
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["n/sub=file", "m/alias/in=in"]);
    let parent = image(&["t/", "t/sub/", "t/sub/in=x", "alias->t"]);
    for (instruction, expected) in [
        ("COPY n /t", "error: cannot replace the directory `/t/sub` with a file"),
        ("COPY m /", "error: cannot copy a directory onto `/alias`: it is a symlink, not a directory"),
    ] {
        assert_eq!(listing(&run(instruction, &context(dir.path()), &parent)), [expected]);
    }
}

#[test]
fn a_missing_source_says_why_and_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["a.txt=", "src/main.rs=", "package.json=", ".dockerignore=# x\na.txt\n"]);
    let parent = FileTree::empty();
    let error = |text| run(text, &context(dir.path()), &parent).unwrap_err();
    let ignored = error("COPY a.txt /");
    assert_eq!(
        ignored.to_string(),
        "`/a.txt` not found in the build context: excluded by .dockerignore line 2: `a.txt`"
    );
    assert_eq!(ignored.help(), ["add the line `!a.txt` below it in .dockerignore to keep the file"]);
    assert_eq!(error("COPY pakage.json /").help(), ["did you mean `package.json`?"]);
    assert_eq!(error("COPY src/mian.rs /").help(), ["did you mean `src/main.rs`?"]);
}

#[test]
fn files_of_an_image() {
    let source = image(&[
        "o@2750:7:8/",
        "o/x@4755:7:8=x",
        "o/l->/no/where",
        "o/h@4755:7:8=>o/x",
        "up->../../o",
        "top=t",
    ]);
    for (instruction, expected) in [
        ("COPY o /o", vec!["o/ 755 0:0", "o/h 4755 7:8 x", "o/l -> /no/where 0:0", "o/x => o/h"]),
        ("COPY up/x /new/", vec!["new/ 755 0:0", "new/x 4755 7:8 x"]),
        ("COPY --chown=1 o/x /x", vec!["x 4755 1:1 x"]),
        ("COPY /top /", vec!["top 644 0:0 t"]),
        ("COPY none /x", vec!["error: `/none` not found in the files of the stage or image"]),
    ] {
        assert_eq!(listing(&run(instruction, &source, &FileTree::empty())), expected, "{instruction}");
    }
}

#[test]
fn hard_links_survive_the_loss_of_their_first_name() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["d/h1=h", "d/h2=>d/h1", "d/h3=>d/h1", "e/h1=new"]);
    let outcome = run("COPY d e /o/", &context(dir.path()), &FileTree::empty());
    let expected = ["o/ 755 0:0", "o/h1 644 0:0 new", "o/h2 644 0:0 h", "o/h3 => o/h2"];
    assert_eq!(listing(&outcome), expected);
}

#[test]
fn times() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["d/sub/", "d/x=x"]);
    let mtimes = |instruction: &str, parent: &FileTree| {
        let outcome = run(instruction, &context(dir.path()), parent).unwrap();
        let times: Vec<_> = outcome.entries.iter().map(|entry| entry.mtime).collect();
        (outcome.time, times)
    };
    let empty = FileTree::empty();
    assert_eq!(mtimes("COPY d /o", &empty), (1000, vec![1000, 1000, 1000]));
    assert_eq!(mtimes("COPY --epoch=9 d /o", &empty), (9, vec![9, 9, 1000]));
    assert_eq!(mtimes("COPY <<f /o/", &empty), (700, vec![700, 700]));
    assert_eq!(mtimes("COPY d/sub /o/", &empty), (700, vec![700]));
}

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

#[test]
fn key_fields_tell_content_and_mode_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), &["d/run.sh@755=x", "d/l->run.sh", "d/sub/", "z=z"]);
    let fields = |instruction: &str| {
        let op = op(instruction);
        let inputs: Vec<_> = op.sources.iter().map(|_| Input::Tree(context(dir.path()))).collect();
        digest_fields(&select(&op, &inputs).unwrap(), &op).unwrap()
    };
    let hex = blake3::hash(b"x").to_hex();
    let first = fields("COPY d /o");
    let shown: Vec<String> = first.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let expected = [
        "/d: directory contents".to_owned(),
        "/d/l: symlink to run.sh".to_owned(),
        format!("/d/run.sh: file 0755 {hex}"),
        "/d/sub: directory 0755".to_owned(),
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

#[test]
fn workdir_makes_what_is_missing() {
    let parent = image(PARENT);
    let accounts = |file: &str| Ok((file == "etc/passwd").then(|| b"app:x:1000:1000:::\n".to_vec()));
    for (path, user, expected) in [
        ("/a/b", "", vec!["a/ 755 0:0", "a/b/ 755 0:0"]),
        ("/tmp/deep/er", "app", vec!["tmp/deep/ 755 1000:1000", "tmp/deep/er/ 755 1000:1000"]),
        ("/num", "77:88", vec!["num/ 755 77:88"]),
        ("/tmp", "app", vec![]),
        ("/alias/x", "", vec!["real/x/ 755 0:0"]),
        ("/file/x", "", vec!["error: cannot make the directory `/file/x`: `/file` is not a directory"]),
    ] {
        let op = crate::plan::graph::WorkdirOp { path: path.to_owned(), user: user.to_owned(), epoch: None };
        let outcome = crate::solve::ops::workdir::workdir(&op, &parent, &accounts, 700);
        assert_eq!(listing(&outcome), expected, "{path}");
    }
}
