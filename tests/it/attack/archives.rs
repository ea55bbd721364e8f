//! Hostile archives, added, as a context, and as the layer of a base, with and without a RUN on top.
//!
//! Nothing is written or read outside, whatever stands in them; what a RUN sees of a base is what an export of it has, and so is
//! what umoci, another program by others, unpacks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use super::{attempt, is_success, state};
use crate::support::attack::{Chance, Tally, is_long, rounds};
use crate::support::base::busybox;
use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;
use crate::support::registry::Registry;

/// One entry, as bytes of a tar.
struct Piece {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    content: Vec<u8>,
    /// Fields that are to stand there as they are: offset and bytes of the header.
    fields: Vec<(usize, Vec<u8>)>,
}

fn piece(kind: char, name: impl AsRef<[u8]>, link: impl AsRef<[u8]>, content: &[u8]) -> Piece {
    let (name, link) = (name.as_ref().to_vec(), link.as_ref().to_vec());
    Piece { kind: kind as u8, name, link, mode: 0o644, content: content.to_vec(), fields: Vec::new() }
}

impl Piece {
    fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    fn field(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        self.fields.push((at, bytes.as_ref().to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = vec![0_u8; 512];
        let mut put = |at: usize, bytes: &[u8], most: usize| {
            let bytes = &bytes[..bytes.len().min(most)];
            head[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.name, 100);
        put(100, format!("{:07o}", self.mode).as_bytes(), 7);
        put(108, b"0000000", 7);
        put(116, b"0000000", 7);
        put(124, format!("{:011o}", self.content.len()).as_bytes(), 11);
        put(136, b"13000000000", 11);
        put(156, &[self.kind], 1);
        put(157, &self.link, 100);
        put(257, b"ustar\x0000", 8);
        for (at, bytes) in &self.fields {
            put(*at, bytes, 512);
        }
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        head.extend_from_slice(&self.content);
        head.resize(head.len().next_multiple_of(512), 0);
        head
    }
}

/// Records of a PAX header for the next entry.
fn pax(records: &[(&str, &[u8])]) -> Piece {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        content.extend_from_slice(format!("{length} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    piece('x', "pax", "", &content)
}

/// What hostile archives are made of: each a few entries that belong together. `outside` is a folder of the machine.
#[allow(clippy::too_many_lines)] // A list.
fn fragments(outside: &Path) -> Vec<(&'static str, Vec<Piece>)> {
    let outside = outside.to_str().unwrap();
    let evil = |name: String| piece('0', name, "", b"evil\n");
    let up = "../".repeat(20);
    let there = outside.trim_start_matches('/');
    let long = "n".repeat(255);
    vec![
        ("a path with ..", vec![evil("../evil".into())]),
        ("many ..", vec![evil(format!("{up}{there}/evil"))]),
        (".. in the middle", vec![evil(format!("a/b/{up}{there}/evil"))]),
        ("an absolute path", vec![evil(format!("{outside}/evil"))]),
        ("slashes", vec![evil(format!("////{there}//evil"))]),
        ("a link out", vec![piece('2', "out", outside, b""), evil("out/evil".into())]),
        (
            "a relative link out",
            vec![piece('2', "rel", format!("{up}{there}"), b""), evil("rel/evil".into())],
        ),
        ("a link to the root", vec![piece('2', "root", "/", b""), evil(format!("root/{there}/evil"))]),
        (
            "links in a chain",
            vec![piece('2', "c1", "c2", b""), piece('2', "c2", outside, b""), evil("c1/evil".into())],
        ),
        (
            "a link to a file outside, written",
            vec![piece('2', "w", format!("{outside}/file"), b""), evil("w".into())],
        ),
        (
            "a loop of links",
            vec![piece('2', "l1", "l2", b""), piece('2', "l2", "l1", b""), evil("l1/x".into())],
        ),
        (
            "a hard link to a file outside",
            vec![piece('1', "hard", format!("{outside}/file"), b""), evil("hard".into())],
        ),
        ("a hard link with ..", vec![piece('1', "hard2", format!("{up}{there}/file"), b"")]),
        (
            "a hard link through a link",
            vec![piece('2', "hl", outside, b""), piece('1', "hard3", "hl/file", b"")],
        ),
        ("a hard link to itself", vec![piece('1', "self", "self", b"")]),
        ("a hard link to nothing", vec![piece('1', "none", "nowhere", b"")]),
        ("a hard link to a folder", vec![piece('5', "hd", "", b""), piece('1', "hd2", "hd", b"")]),
        (
            "a hard link to a link out",
            vec![
                piece('2', "lo", format!("{outside}/file"), b""),
                piece('1', "hlo", "lo", b""),
                evil("hlo".into()),
            ],
        ),
        (
            "devices",
            vec![
                piece('3', "null", "", b"").field(329, "0000001\0").field(337, "0000003\0"),
                piece('4', "disk", "", b"").field(329, "0000010\0").field(337, "0000000\0"),
            ],
        ),
        (
            "a device of huge numbers",
            vec![piece('3', "dev", "", b"").field(329, "7777777\0").field(337, "7777777\0")],
        ),
        ("a fifo", vec![piece('6', "fifo", "", b"")]),
        ("a file over a folder", vec![piece('5', "fd", "", b""), evil("fd/in".into()), evil("fd".into())]),
        ("a folder over a file", vec![evil("df".into()), piece('5', "df", "", b""), evil("df/in".into())]),
        (
            "a folder over a link out",
            vec![
                piece('2', "dl", outside, b""),
                piece('5', "dl", "", b"").mode(0o777),
                evil("dl/evil".into()),
            ],
        ),
        ("a file below a file", vec![evil("ff".into()), evil("ff/in".into())]),
        ("the same file twice", vec![evil("twice".into()), piece('0', "twice", "", b"second\n")]),
        ("whiteouts", vec![evil("w/a".into()), piece('0', "w/.wh.b", "", b"")]),
        ("a whiteout of ..", vec![piece('0', ".wh...", "", b"")]),
        ("a whiteout of .", vec![piece('0', ".wh..", "", b"")]),
        ("a whiteout of nothing", vec![piece('0', ".wh.", "", b"")]),
        (
            "a whiteout through a link",
            vec![piece('2', "wl", outside, b""), piece('0', "wl/.wh.file", "", b"")],
        ),
        (
            "an opaque marker through a link",
            vec![piece('2', "ol", outside, b""), piece('0', "ol/.wh..wh..opq", "", b"")],
        ),
        ("an opaque root", vec![piece('0', ".wh..wh..opq", "", b"")]),
        ("a whiteout with a slash at its end", vec![piece('0', "x/.wh.y/", "", b"")]),
        (
            "aufs' own files",
            vec![
                piece('5', ".wh..wh.plnk", "", b""),
                evil(".wh..wh.plnk/1.2".into()),
                piece('0', ".wh..wh.aufs", "", b""),
            ],
        ),
        (
            "a folder named as a whiteout",
            vec![piece('5', ".wh.folder", "", b""), evil(".wh.folder/x".into())],
        ),
        ("a link named as a whiteout", vec![piece('2', ".wh.link", outside, b"")]),
        ("a long name", vec![pax(&[("path", long.as_bytes())]), evil("short".into())]),
        ("a name that is too long", vec![pax(&[("path", "n".repeat(256).as_bytes())]), evil("short".into())]),
        ("a path of 5,000 bytes", vec![pax(&[("path", "d/".repeat(2500).as_bytes())]), evil("short".into())]),
        (
            "a PAX path with ..",
            vec![pax(&[("path", format!("{up}{there}/evil").as_bytes())]), evil("x".into())],
        ),
        (
            "a PAX link out",
            vec![
                pax(&[("linkpath", outside.as_bytes())]),
                piece('2', "pl", "x", b""),
                evil("pl/evil".into()),
            ],
        ),
        ("a PAX path with a zero byte", vec![pax(&[("path", b"a\0b")]), evil("x".into())]),
        ("an empty PAX path", vec![pax(&[("path", b"")]), evil("emptypax".into())]),
        ("a negative PAX size", vec![pax(&[("size", b"-5")]), evil("x".into())]),
        ("a huge PAX size", vec![pax(&[("size", b"9223372036854775807")]), evil("x".into())]),
        ("PAX times", vec![pax(&[("mtime", b"-99999999999999.5"), ("atime", b"1e9")]), evil("times".into())]),
        ("a huge PAX time", vec![pax(&[("mtime", b"99999999999999999999")]), evil("x".into())]),
        ("PAX owners", vec![pax(&[("uid", b"4294967295"), ("gid", b"-1")]), evil("owners".into())]),
        (
            "attributes of overlayfs",
            vec![
                pax(&[
                    ("SCHILY.xattr.trusted.overlay.redirect", outside.as_bytes()),
                    ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ]),
                piece('5', "ov", "", b"").mode(0o755),
            ],
        ),
        (
            "attributes of user.overlay",
            vec![
                pax(&[
                    ("SCHILY.xattr.user.overlay.redirect", outside.as_bytes()),
                    ("SCHILY.xattr.user.overlay.metacopy", b""),
                ]),
                evil("uov".into()),
            ],
        ),
        (
            "security attributes",
            vec![
                pax(&[
                    (
                        "SCHILY.xattr.security.capability",
                        b"\x01\0\0\x02\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0",
                    ),
                    ("SCHILY.xattr.security.selinux", b"x"),
                ]),
                evil("cap".into()).mode(0o755),
            ],
        ),
        (
            "broken capabilities",
            vec![pax(&[("SCHILY.xattr.security.capability", b"short")]), evil("cap2".into())],
        ),
        (
            "an attribute with a bad name",
            vec![pax(&[("SCHILY.xattr.", b"x"), ("SCHILY.xattr.nonsense", b"y")]), evil("attr".into())],
        ),
        ("a PAX record of a wrong length", vec![piece('x', "pax", "", b"99 path=x\n"), evil("x".into())]),
        (
            "a PAX record without an end",
            vec![piece('x', "pax", "", b"12345678901234567890"), evil("x".into())],
        ),
        (
            "a global PAX header",
            vec![piece('g', "g", "", b"16 path=global\n\n"), evil("g1".into()), evil("g2".into())],
        ),
        (
            "a PAX header of a PAX header",
            vec![pax(&[("path", b"one")]), pax(&[("path", b"two")]), evil("x".into())],
        ),
        ("a PAX header at the end", vec![pax(&[("path", b"nothing follows")])]),
        (
            "a GNU long name with ..",
            vec![piece('L', "././@LongLink", "", format!("{up}{there}/evil\0").as_bytes()), evil("x".into())],
        ),
        (
            "a GNU long link",
            vec![
                piece('K', "././@LongLink", "", format!("{outside}\0").as_bytes()),
                piece('2', "gl", "x", b""),
                evil("gl/evil".into()),
            ],
        ),
        (
            "a GNU sparse file",
            vec![
                piece('S', "sparse", "", b"data")
                    .field(386, "00000000000\0")
                    .field(398, "00000000004\0")
                    .field(483, "00000001000\0"),
            ],
        ),
        (
            "a sparse map that lies",
            vec![
                piece('S', "sparse2", "", b"data")
                    .field(386, "77777777777\0")
                    .field(398, "77777777777\0")
                    .field(483, "00000000001\0"),
            ],
        ),
        (
            "a PAX sparse file",
            vec![
                pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"99999999999"),
                ]),
                piece('0', "ps", "", b"1\n0\n4\n"),
            ],
        ),
        ("a negative size", vec![evil("neg".into()).field(124, [0xff; 12])]),
        (
            "a huge size in base 256",
            vec![
                evil("big".into())
                    .field(124, [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ],
        ),
        ("a size that is no number", vec![evil("nan".into()).field(124, "zzzzzzzzzzz\0")]),
        ("a time that is no number", vec![evil("nant".into()).field(136, "zzzzzzzzzzz\0")]),
        ("a negative time", vec![evil("negt".into()).field(136, [0xff; 12])]),
        ("set-id programs", vec![evil("suid".into()).mode(0o6755)]),
        ("a mode of all bits", vec![evil("mode".into()).mode(0o7777_7777 & 0x1f_ffff)]),
        ("bytes that are no text", vec![evil("x".into()).field(0, b"\xff\xfe\x80bad")]),
        ("a name with control characters", vec![evil("a\x1b[31mred\nline\r".into())]),
        ("a name with a backslash", vec![evil("a\\..\\..\\b".into())]),
        ("no name", vec![piece('0', "", "", b"x")]),
        (
            "a name of dots",
            vec![evil("./././".into()), piece('5', ".", "", b"").mode(0o700), piece('5', "..", "", b"")],
        ),
        ("a root that is a file", vec![evil("./".into()), evil("/".into())]),
        ("a root that is a link", vec![piece('2', ".", outside, b""), evil("evil".into())]),
        ("an empty link", vec![piece('2', "empty", "", b"")]),
        (
            "an unknown type",
            vec![
                piece('Z', "unknown", "", b"x"),
                piece('7', "contiguous", "", b"x"),
                piece('\0', "old", "", b"x"),
            ],
        ),
        ("a content for a link", vec![piece('2', "cl", "x", &[b'A'; 600]), evil("after".into())]),
        ("a content for a folder", vec![piece('5', "cd", "", &[b'A'; 600]), evil("after2".into())]),
        ("a checksum that is wrong", vec![evil("sum".into()).field(500, "x")]),
        (
            "the folders of a step",
            vec![
                piece('2', "proc", outside, b""),
                piece('2', "dev", outside, b""),
                piece('2', "sys", outside, b""),
                piece('2', "etc", outside, b""),
            ],
        ),
    ]
}

/// How an archive may end.
fn ended(mut bytes: Vec<u8>, chance: &mut Chance) -> (&'static str, Vec<u8>) {
    let zeros = [0; 1024];
    match chance.below(8) {
        0 => {
            let length = bytes.len();
            bytes.truncate(length - chance.below(length.min(700)));
            ("truncated", bytes)
        }
        1 => ("without an end", bytes),
        2 => {
            bytes.extend_from_slice(&zeros);
            bytes.extend_from_slice(b"trailing garbage");
            ("with garbage behind", bytes)
        }
        3 => {
            bytes.extend_from_slice(&zeros);
            bytes.extend(piece('0', "second-archive", "", b"x").bytes());
            bytes.extend_from_slice(&zeros);
            ("and another one behind", bytes)
        }
        _ => {
            bytes.extend_from_slice(&zeros);
            ("", bytes)
        }
    }
}

#[test]
fn nothing_comes_out_of_a_hostile_archive() {
    let registry = Registry::start();
    let world = World::new();
    let outside = world.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "not the image's\n").unwrap();
    let untouched = state(&outside);
    let (mut chance, mut tally) = (Chance::of("hostile archives"), Tally::of("hostile archives"));
    let mut beside = Tally::of("hostile bases beside umoci");
    // Each by itself; and some together, in the long form.
    let all = fragments(&outside);
    let mut chosen: Vec<Vec<usize>> = (0..all.len()).map(|number| vec![number]).collect();
    for _ in 0..rounds(0, 200) {
        chosen.push((0..2 + chance.below(3)).map(|_| chance.below(all.len())).collect());
    }
    let mut images_of_one = 0;
    for (number, parts) in chosen.iter().enumerate() {
        let mut bytes: Vec<u8> =
            parts.iter().flat_map(|part| all[*part].1.iter().flat_map(Piece::bytes)).collect();
        let mut end = "";
        if is_long() || number % 4 == 0 {
            (end, bytes) = ended(bytes, &mut chance);
        } else {
            bytes.resize(bytes.len() + 1024, 0);
        }
        let told =
            format!("archive {number}: {:?} {end}", parts.iter().map(|p| all[*p].0).collect::<Vec<_>>());
        // All ways in the long form, one of three each else.
        let ways = if is_long() { vec![0, 1, 2] } else { vec![number % 3] };
        for way in ways {
            let outcome = match way {
                0 => added(&world, &bytes, &told),
                1 => as_context(&world, &bytes, &told),
                _ => as_base(&world, &registry, (&bytes, number), &mut beside, &told),
            };
            assert_eq!(state(&outside), untouched, "{told}");
            tally.count(outcome);
            images_of_one += u32::from(parts.len() == 1 && outcome != ERROR);
        }
    }
    assert_eq!(beside.came_to(DIFFERENT), 0, "see DIFFERS above");
    assert!(beside.came_to(SAME) > beside.came_to(REFUSED), "most are unpacked by both");
    // One refused part refuses the whole, so of several parts few are.
    assert!(images_of_one as usize > all.len() / 3, "many that have one part are images: {images_of_one}");
}

const ERROR: &str = "a clear error";

fn outcome(is_image: bool) -> &'static str {
    if is_image { "an image" } else { ERROR }
}

fn added(world: &World, bytes: &[u8], told: &str) -> &'static str {
    world.file("a.tar", bytes).dockerfile(
        "FROM scratch AS a\nADD a.tar /d/\nFROM scratch\nCOPY --from=a / /\nCOPY --from=a /d /e\n",
    );
    let ran = attempt(world, &["--progress=plain", "."]).run();
    let succeeded = is_success(&ran, told);
    if succeeded {
        no_secret(world, &ran.digest(), told);
    }
    outcome(succeeded)
}

fn as_context(world: &World, bytes: &[u8], told: &str) -> &'static str {
    let mut archive = piece('0', "Dockerfile", "", b"FROM scratch\nCOPY . /\n").bytes();
    archive.extend_from_slice(bytes);
    let ran = attempt(world, &["--progress=plain", "-"]).stdin(archive).run();
    let succeeded = is_success(&ran, told);
    if succeeded {
        no_secret(world, &ran.digest(), told);
    }
    outcome(succeeded)
}

/// Nothing of the machine is in the image.
#[track_caller]
fn no_secret(world: &World, digest: &str, told: &str) {
    let manifest = digest.replace(':', "/");
    let manifest = fs::read(world.store().join("blobs").join(manifest)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let blob = layer["digest"].as_str().unwrap().replace(':', "/");
        let blob = fs::read(world.store().join("blobs").join(blob)).unwrap();
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(blob.as_slice()), &mut tar)
            .unwrap();
        assert!(!tar.windows(15).any(|window| window == b"not the image's"), "{told}: a file of the machine");
    }
}

/// As the second layer of a base; without a RUN and with one.
fn as_base(
    world: &World,
    registry: &Registry,
    (bytes, number): (&[u8], usize),
    beside: &mut Tally,
    told: &str,
) -> &'static str {
    let mut image = busybox();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    image.layers.push(TestLayer { blob: gzip.finish().unwrap(), ..TestLayer::gzip(bytes) });
    let image = TestImage { config: image.config, ..TestImage::new("linux/amd64", image.layers) };
    let mut image = image;
    image.config.rootfs.diff_ids = image.layers.iter().map(|layer| layer.diff_id).collect();
    registry.push(&image, &format!("hostile{number}"), "1");
    let from = format!("FROM {}/hostile{number}:1\n", registry.host());
    world.file("new", "new\n").dockerfile(&format!("{from}COPY new /zz/new\n"));
    let out = world.path().join("out.tar");
    let dest = format!("type=tar,dest={}", out.display());
    let words = ["--progress=plain", "-t", "base:1", "-o", &dest, "."];
    let copied = is_success(&attempt(world, &words).run(), told);
    if copied && (is_long() || number % 2 == 0) {
        beside.count(as_umoci_has_it(world, &out, told));
    }
    let list = "/bin/busybox find / -xdev ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*' -print0";
    world.dockerfile(&format!(
        "{from}COPY new /zz/new\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"{list} >/zz/list\"]\n"
    ));
    let run_out = world.path().join("run");
    let run_dest = format!("type=tar,dest={}", run_out.display());
    let ran = is_success(&attempt(world, &["--progress=plain", "-o", &run_dest, "."]).run(), told);
    if copied && ran {
        let files = names(&out);
        let seen = fs::read(&run_out).unwrap();
        let seen = content(&seen, "zz/list");
        let seen: BTreeSet<Vec<u8>> = seen.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        let is_steps = |path: &[u8]| {
            let own: [&[u8]; 6] = [b"/proc", b"/sys", b"/dev", b"/etc", b"/zz/list", b"/"];
            path.is_empty()
                || own
                    .iter()
                    .any(|own| path == *own || path.starts_with(&[own, &b"/"[..]].concat()) && own.len() > 1)
        };
        let of_step: Vec<String> =
            seen.iter().filter(|path| !is_steps(path) && !files.contains(*path)).map(|p| text(p)).collect();
        let of_file: Vec<String> =
            files.iter().filter(|path| !is_steps(path) && !seen.contains(*path)).map(|p| text(p)).collect();
        assert!(
            of_step.is_empty() && of_file.is_empty(),
            "{told}: only a step sees {of_step:?}, only the export {of_file:?}"
        );
    }
    for file in [out, run_out] {
        let _ = fs::remove_file(file);
    }
    match (copied, ran) {
        (true, true) => "an image",
        (true, false) => "an image, and a clear error of its RUN",
        (false, _) => ERROR,
    }
}

const SAME: &str = "the same files";
const REFUSED: &str = "refused by umoci";
const DIFFERENT: &str = "other files";
/// What umoci takes otherwise, and why that is no fault.
const OTHERWISE: &[(&str, &str)] = &[
    (
        "an opaque marker through a link",
        "rbuild makes the folder that a marker stands in, as for any file, also where a link leads to it",
    ),
    ("aufs' own files", "rbuild leaves them out, as docker and containerd do"),
];

/// The files of the image `base:1` as umoci unpacks it, beside those of the export `out`.
fn as_umoci_has_it(world: &World, out: &Path, told: &str) -> &'static str {
    let bundle = world.path().join("bundle");
    let image = format!("{}:docker.io/library/base:1", world.store().display());
    let mut words = vec!["unpack", "--image", &image, bundle.to_str().unwrap()];
    if !crate::support::is_root() {
        words.insert(1, "--rootless");
    }
    let ran = Command::new("umoci").args(words).output().unwrap();
    let outcome = if ran.status.success() {
        let (theirs, ours) = (unpacked(&bundle.join("rootfs")), exported(&fs::read(out).unwrap()));
        let only = |one: &BTreeMap<Vec<u8>, String>, other: &BTreeMap<Vec<u8>, String>| -> Vec<String> {
            let differs = one.iter().filter(|(path, what)| other.get(*path) != Some(what));
            differs.map(|(path, what)| format!("{} {what}", text(path))).collect()
        };
        let (of_umoci, of_rbuild) = (only(&theirs, &ours), only(&ours, &theirs));
        match of_umoci.is_empty() && of_rbuild.is_empty() {
            true => SAME,
            false if OTHERWISE.iter().any(|(known, _)| told.contains(known)) => {
                "files that differ for a reason"
            }
            false => {
                println!("DIFFERS {told}: only umoci has {of_umoci:?}, only rbuild {of_rbuild:?}");
                DIFFERENT
            }
        }
    } else {
        REFUSED
    };
    let _ = fs::remove_dir_all(bundle);
    outcome
}

/// What a file is, its mode, and what is in it.
fn described(kind: tar::EntryType, mode: u32, content: &[u8]) -> String {
    let sum = crate::support::layout::sha256(content);
    match kind {
        tar::EntryType::Directory => format!("folder {mode:04o}"),
        tar::EntryType::Symlink => format!("link to {}", text(content)),
        tar::EntryType::Fifo => format!("fifo {mode:04o}"),
        tar::EntryType::Char | tar::EntryType::Block => format!("device {mode:04o}"),
        _ => format!("file {mode:04o} {} {}", content.len(), &sum[..15]),
    }
}

fn unpacked(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let (kind, content) = match () {
                () if kind.is_dir() => (tar::EntryType::Directory, Vec::new()),
                () if kind.is_symlink() => {
                    (tar::EntryType::Symlink, fs::read_link(&path).unwrap().into_os_string().into_vec())
                }
                () if kind.is_file() => (tar::EntryType::Regular, fs::read(&path).unwrap()),
                () if kind.is_fifo() => (tar::EntryType::Fifo, Vec::new()),
                () => (tar::EntryType::Char, Vec::new()),
            };
            let name = [b"/", path.strip_prefix(root).unwrap().as_os_str().as_bytes()].concat();
            found.insert(name, described(kind, meta.mode() & 0o7777, &content));
            folders.extend(meta.is_dir().then_some(path));
        }
    }
    found
}

fn exported(tar: &[u8]) -> BTreeMap<Vec<u8>, String> {
    let mut archive = tar::Archive::new(tar);
    let mut found: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = with_slash(&entry.path_bytes());
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let (kind, mode) = (entry.header().entry_type(), entry.header().mode().unwrap());
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        let what = match (kind, link) {
            (tar::EntryType::Link, Some(link)) => found[&with_slash(&link)].clone(),
            (tar::EntryType::Symlink, Some(link)) => described(kind, mode, &link),
            _ => described(kind, mode, &content),
        };
        found.insert(path, what);
    }
    found.remove(&b"/"[..]);
    found
}

/// A path of a tar with a slash at its front and none at its end.
fn with_slash(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    [b"/", path.strip_suffix(b"/").unwrap_or(path)].concat()
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The paths in a tar, with a slash at the front and none at the end.
fn names(tar: &Path) -> BTreeSet<Vec<u8>> {
    let bytes = fs::read(tar).unwrap();
    entries(&bytes).into_keys().collect()
}

fn content(tar: &[u8], name: &str) -> Vec<u8> {
    entries(tar).remove(format!("/{name}").as_bytes()).unwrap_or_default()
}

fn entries(tar: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = with_slash(&entry.path_bytes());
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        found.insert(path, content);
    }
    found
}
