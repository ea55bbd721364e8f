//! One set of inputs has one digest: on every run, for every user, umask, number of threads, processor and clock, from
//! a cold and a warm cache.

use std::fs;
use std::path::Path;

use crate::support::accounts::Account;
use crate::support::program::World;
use crate::support::tools;

const DOCKERFILE: &str = "FROM scratch AS made\n\
    COPY tree /tree/\n\
    ADD archive.tar /unpacked/\n\
    FROM scratch\n\
    WORKDIR /work\n\
    COPY --chown=12:34 --chmod=750 tree/big /bin/\n\
    COPY --from=made /tree /copied\n\
    COPY . .\n\
    COPY <<EOF /heredoc\n\
    text\n\
    EOF\n\
    ENV A=b\n\
    CMD [\"/bin/big\"]\n";

/// Fills a context, its files made in one order or the other.
fn fill(world: &World, reversed: bool) {
    let mut files: Vec<(String, Vec<u8>)> = (0..200)
        .map(|i| (format!("tree/d{}/f{i}", i % 7), format!("file {i}\n").repeat(i).into_bytes()))
        .collect();
    // Of several segments, so that threads have something to divide.
    let big = (0..3_000_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes());
    files.push(("tree/big".to_owned(), big.collect()));
    files.push(("archive.tar".to_owned(), archive()));
    files.push((".dockerignore".to_owned(), b".dockerignore\n".to_vec()));
    files.push(("Dockerfile".to_owned(), DOCKERFILE.into()));
    if reversed {
        files.reverse();
    }
    for (number, (name, content)) in files.iter().enumerate() {
        world.file(name, content);
        let seconds = 1_700_000_000 + if reversed { files.len() - 1 - number } else { number };
        world.set_mtime(name, seconds as u64);
    }
    std::os::unix::fs::symlink("big", world.context().join("tree/link")).unwrap();
    tools::run("touch", ["-h", "-d", "@1650000000", world.context().join("tree/link").to_str().unwrap()]);
}

fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    header.set_mtime(1_500_000_000);
    tar.append_data(&mut header, "in/side", &b"abc"[..]).unwrap();
    tar.into_inner().unwrap()
}

fn digest(world: &World, env: &[(&str, &str)]) -> String {
    env.iter().fold(world.build([""; 0]), |build, (name, value)| build.env(name, value)).run().digest()
}

fn reference() -> (World, String) {
    let world = World::new();
    fill(&world, false);
    let digest = digest(&world, &[]);
    (world, digest)
}

/// What each compression may be asked for; all but the first write other layers.
const COMPRESSIONS: [&str; 5] = ["gzip", "gzip,compression-level=6", "zstd", "estargz", "uncompressed"];

/// The same build from an empty store for each of [`COMPRESSIONS`], the program started by `wrapper`.
fn digests(world: &World, wrapper: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    let digest = |compression: &&str| {
        if world.store().exists() {
            fs::remove_dir_all(world.store()).unwrap();
        }
        let output = format!("type=image,compression={compression}");
        let build = world.through(wrapper, ["--progress=plain", "-o", &output, "."]);
        env.iter().fold(build, |build, (name, value)| build.env(name, value)).run().digest()
    };
    COMPRESSIONS.iter().map(digest).collect()
}

#[test]
fn threads_do_not_show() {
    let (world, usual) = reference();
    let expected = digests(&world, &[], &[]);
    assert_eq!(expected[0], usual);
    assert!(expected[1..].iter().all(|digest| *digest != usual), "each compression has its own bytes");
    for threads in ["1", "2", "8"] {
        let threads_env = [("RAYON_NUM_THREADS", threads)];
        assert_eq!(digests(&world, &[], &threads_env), expected, "{COMPRESSIONS:?}, {threads} threads");
    }
}

/// Compressors and hashes have a form for each generation of processors. The emulator knows no openat2(2), by which files are opened
/// where there is one.
#[test]
fn the_processor_does_not_show() {
    let world = World::new();
    world.file("files/deep/text", "text\n");
    world.dockerfile(&format!("{}COPY files /files/\n", with_large_documents()));
    let expected = digests(&world, &[], &[]);
    let emulator = format!("qemu-{}-static", std::env::consts::ARCH);
    let processors: &[&str] = match std::env::consts::ARCH {
        // Without SSSE3; without AVX; the most that the emulator has.
        "x86_64" => &["qemu64", "Nehalem", "max"],
        "aarch64" => &["cortex-a53", "max"],
        _ => &["max"],
    };
    for processor in processors {
        let emulated = digests(&world, &[&emulator, "-cpu", processor], &[]);
        assert_eq!(emulated, expected, "{COMPRESSIONS:?} on a {processor}");
    }
}

/// A Dockerfile that writes two files of 200 kB: one compresses well, the other hardly.
fn with_large_documents() -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    };
    let text: String = (0..12_000).map(|_| format!("a line about {}\n", next() >> 54)).collect();
    let dense: String = (0..12_000).map(|_| format!("{:016x}\n", next())).collect();
    format!("FROM scratch\nCOPY <<EOF /text\n{text}EOF\nCOPY <<EOF <<END /both/\n{dense}EOF\nmore\nEND\n")
}

#[test]
fn a_warm_cache_a_partly_cold_one_and_no_cache_agree() {
    let (world, expected) = reference();
    assert_eq!(digest(&world, &[]), expected, "warm");
    assert_eq!(world.build(["--no-cache"]).run().digest(), expected, "--no-cache");
    assert_eq!(digest(&world, &[]), expected, "warm after --no-cache");
    // Every other record is gone, and some blobs.
    for (number, record) in files(&world.store().join("rbuild/records")).iter().enumerate() {
        if number % 2 == 0 {
            fs::remove_file(record).unwrap();
        }
    }
    assert_eq!(digest(&world, &[]), expected, "partly cold");
}

#[test]
fn the_order_of_directories_and_the_place_do_not_show() {
    let (_world, expected) = reference();
    let other = World::new();
    fill(&other, true);
    assert_eq!(digest(&other, &[]), expected);
}

#[test]
fn the_umask_does_not_show() {
    let (world, expected) = reference();
    for mask in ["000", "077"] {
        fs::remove_dir_all(world.store()).unwrap();
        let script = format!("umask {mask} && exec \"$@\"");
        let ran = world.through(&["sh", "-c", &script, "sh"], ["--progress=plain", "."]).run();
        assert_eq!(ran.digest(), expected, "umask {mask}");
    }
}

#[test]
fn the_user_does_not_show() {
    let (_world, expected) = reference();
    let other = World::of(Account::without_ranges());
    fill(&other, false);
    assert_eq!(digest(&other, &[]), expected);
}

#[test]
fn the_clock_and_the_time_zone_do_not_show() {
    let (world, expected) = reference();
    fs::remove_dir_all(world.store()).unwrap();
    // A time namespace does not shift the clock of the day; what reads it can only be told another zone. The
    // clock itself has moved on since the first build, by more than the second that layers resolve.
    let first = std::time::SystemTime::now();
    while first.elapsed().unwrap() < std::time::Duration::from_millis(1100) {
        assert_eq!(digest(&world, &[("TZ", "Pacific/Kiritimati")]), expected);
        fs::remove_dir_all(world.store()).unwrap();
    }
    assert_eq!(digest(&world, &[("TZ", "America/Adak")]), expected);
}

#[test]
fn the_times_of_files_are_inputs() {
    let (world, expected) = reference();
    let directories = ["tree", "tree/d1", "."];
    directories.iter().for_each(|name| world.set_mtime(name, 5));
    fs::remove_dir_all(world.store()).unwrap();
    assert_eq!(digest(&world, &[]), expected, "directories' times never count");
    world.set_mtime("tree/d1/f1", 1_800_000_000);
    assert_eq!(digest(&world, &[]), expected, "a cached layer is used as it is");
    fs::remove_dir_all(world.store()).unwrap();
    assert_ne!(digest(&world, &[]), expected, "a new layer has the file's time");
}

#[test]
fn source_date_epoch_is_the_time_of_everything_made() {
    let (world, _) = reference();
    let first = digest(&world, &[("SOURCE_DATE_EPOCH", "1234567890")]);
    fs::remove_dir_all(world.store()).unwrap();
    assert_eq!(digest(&world, &[("SOURCE_DATE_EPOCH", "1234567890")]), first);
    let image = world.images().image(&first);
    assert_eq!(image.config.created().as_deref(), Some("2009-02-13T23:31:30Z"));
    assert_eq!(image.files()["work"].mtime, 1_234_567_890);
}

#[test]
fn a_cached_run_keeps_its_digest() {
    let registry = crate::support::base::busybox_registry();
    let world = World::new();
    world.dockerfile(&format!("FROM {}/busybox\nRUN date >/now\nRUN date >/later\n", registry.host()));
    let first = world.build(["-t", "a"]).run().digest();
    assert_eq!(world.build(["-t", "b"]).run().digest(), first);
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
