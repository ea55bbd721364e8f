#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::inventory::package::Kind;

/// `kind name version` of all packages that a file tells of.
fn read(path: &str, bytes: &[u8]) -> Vec<String> {
    let packages = read_all(path, bytes).into_iter().filter_map(|tells| match tells {
        Tells::Packages(packages) => Some(packages),
        Tells::Files(_) | Tells::Licences(_) | Tells::Origin(_) | Tells::Release(_) => None,
    });
    packages.flatten().map(|p| format!("{} {} {}", p.kind.name(), p.name, p.version)).collect()
}

#[test]
fn paths_are_joined_inside_the_root() {
    for (folder, name, expected) in [
        ("a/b", "c", "a/b/c"),
        ("a/b", "../c", "a/c"),
        ("a", "../../../etc", "etc"),
        ("a", "/b//./c/", "b/c"),
        ("", "x", "x"),
    ] {
        assert_eq!(join(folder, name), expected);
    }
}

#[test]
fn every_cataloger_is_asked_for_its_files_only() {
    let readers = |path| of_file(Candidate { path, size: 10, mode: 0o644 }).count();
    for path in
        ["var/lib/dpkg/status", "x/var/lib/dpkg/status", "lib/apk/db/installed", "a.jar", "etc/os-release"]
    {
        assert_eq!(readers(path), 1, "{path}");
    }
    for path in [
        "status",
        "lib/dpkg/status2",
        "xlib/dpkg/status",
        "a.jar.txt",
        "METADATA",
        "var/lib/rpm/Packages.db.x",
    ] {
        assert_eq!(readers(path), 0, "{path}");
    }
}

/// A program of the form before Go 1.18: addresses of strings, which the segments lead to.
#[test]
fn build_information_of_old_go() {
    let mut elf = vec![0_u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    // One program header at 64, PT_LOAD, writable, the whole file at 0x10000; no sections.
    put(0x20, &64_u64.to_le_bytes());
    put(0x36, &56_u16.to_le_bytes());
    put(0x38, &1_u16.to_le_bytes());
    put(64, &1_u32.to_le_bytes());
    put(68, &6_u32.to_le_bytes());
    put(64 + 0x10, &0x10000_u64.to_le_bytes());
    put(64 + 0x20, &0x400_u64.to_le_bytes());
    put(0x100, b"\xff Go buildinf:\x08\x00");
    put(0x110, &0x10140_u64.to_le_bytes());
    put(0x118, &0x10150_u64.to_le_bytes());
    put(0x140, &0x10200_u64.to_le_bytes());
    put(0x148, &8_u64.to_le_bytes());
    let list = "0123456789abcdefpath\ta.example/x\nmod\ta.example/x\tv1.0.0\nfoo\ndep\tb.example/y\tv2\n=>\tc.example/z\tv3\n0123456789abcdef";
    put(0x150, &0x10220_u64.to_le_bytes());
    put(0x158, &(list.len() as u64).to_le_bytes());
    put(0x200, b"go1.17.1");
    put(0x220, list.as_bytes());
    elf.resize(4096, 0);
    assert_eq!(
        read("usr/bin/x", &elf),
        ["go-module c.example/z v3", "go-module a.example/x v1.0.0", "go-module stdlib go1.17.1"]
    );
    // Every shorter file is read to its end, and no further.
    for end in (0..elf.len()).step_by(7) {
        read("usr/bin/x", &[&elf[..end], &vec![0; 4096 - end]].concat());
    }
}

/// Cut anywhere, changed anywhere: nothing panics, whatever is said.
#[test]
fn damaged_files_come_to_an_end() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sbom/roots");
    for (file, path) in [
        ("rpm-sqlite/usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite"),
        ("rpm-ndb/usr/lib/sysimage/rpm/Packages.db", "var/lib/rpm/Packages.db"),
        ("rpm-bdb/var/lib/rpm/Packages", "var/lib/rpm/Packages"),
        ("java/opt/app.jar", "a.jar"),
        ("programs/usr/bin/uv", "uv"),
        ("programs/usr/bin/umoci", "umoci"),
    ] {
        let bytes = std::fs::read(root.join(file)).unwrap();
        assert!(!read(path, &bytes).is_empty(), "{file}");
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let mut changed = bytes.clone();
            changed.truncate(at.max(4096.min(bytes.len())));
            read(path, &changed);
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            read(path, &changed);
        }
    }
}

#[test]
fn archives_within_themselves_are_bounded() {
    // An archive whose only entry is stored, and is the archive's own bytes: a header at 0 that points at itself.
    let name = b"a.jar";
    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend([0; 22]);
    zip.extend((name.len() as u16).to_le_bytes());
    zip.extend([0, 0]);
    zip.extend(name);
    let start = zip.len();
    zip.extend(b"PK\x01\x02");
    zip.extend([0; 16]);
    let whole = (start + 46 + name.len() + 22) as u32;
    zip.extend((whole - 35).to_le_bytes());
    zip.extend((whole - 35).to_le_bytes());
    zip.extend((name.len() as u16).to_le_bytes());
    zip.extend([0; 16]);
    zip.extend(name);
    let len = zip.len() - start;
    zip.extend(b"PK\x05\x06");
    zip.extend([0, 0, 0, 0, 1, 0, 1, 0]);
    zip.extend((len as u32).to_le_bytes());
    zip.extend((start as u32).to_le_bytes());
    zip.extend([0, 0]);
    assert_eq!(read("x.jar", &zip), Vec::<String>::new());
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
}

/// `fuzz/targets/inventory.rs` has paths that lead to each reader.
#[test]
fn every_reader_is_fuzzed() {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/targets/inventory.rs");
    let text = std::fs::read_to_string(target).unwrap();
    let list = text.split_once("const PATHS").unwrap().1.split_once("];").unwrap().0;
    let paths: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    for (number, cataloger) in CATALOGERS.iter().enumerate() {
        let is_wanted = |path: &&str| cataloger.wants(&Candidate { path, size: 8192, mode: 0o755 });
        assert!(paths.iter().any(is_wanted), "number {number} of the catalogers");
    }
}

/// What is read of a program alone says the same.
#[test]
fn a_part_of_a_program_says_what_the_whole_does() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sbom/roots/programs/usr/bin");
    let mut programs: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.push(std::env::current_exe().unwrap());
    for path in &programs {
        let whole = std::fs::read(path).unwrap();
        let (mut part, mut count) = (vec![0; whole.len()], 0);
        let read = |range: std::ops::Range<usize>, into: &mut [u8]| {
            into.copy_from_slice(&whole[range]);
            count += into.len();
            Ok::<(), ()>(())
        };
        read_parts(&mut part, read).unwrap();
        assert!(read_all("usr/bin/a", &part) == read_all("usr/bin/a", &whole), "{}", path.display());
        if Some(path) == programs.last() {
            assert!(count < whole.len() / 2, "{count} of {}", whole.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same of headers that no linker writes.
    #[test]
    fn a_part_says_what_the_whole_does_whatever_its_headers_say(
        which in any::<usize>(),
        changes in proptest::collection::vec((4_usize..64, any::<u8>()), 1..4),
    ) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/sbom/roots/programs/usr/bin");
        let mut programs: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        programs.sort();
        let mut whole = std::fs::read(&programs[which % programs.len()]).unwrap();
        for (at, byte) in changes {
            whole[at] = byte;
        }
        let mut part = vec![0; whole.len()];
        let read = |range: std::ops::Range<usize>, into: &mut [u8]| {
            into.copy_from_slice(&whole[range]);
            Ok::<(), ()>(())
        };
        read_parts(&mut part, read).unwrap();
        prop_assert!(read_all("usr/bin/a", &part) == read_all("usr/bin/a", &whole));
    }
}

/// Thousands of parts that are each the whole file.
#[test]
fn a_program_is_not_read_thousands_of_times() {
    let mut elf = vec![0_u8; 512 << 10];
    let len = elf.len() as u64;
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(0x20, &64_u64.to_le_bytes());
    put(0x36, &56_u16.to_le_bytes());
    put(0x38, &1000_u16.to_le_bytes());
    for number in 0..1000 {
        let at = 64 + 56 * number;
        put(at, &1_u32.to_le_bytes());
        put(at + 4, &6_u32.to_le_bytes());
        put(at + 0x20, &len.to_le_bytes());
    }
    let (mut part, mut count) = (vec![0; elf.len()], 0);
    let read = |range: std::ops::Range<usize>, into: &mut [u8]| {
        into.copy_from_slice(&elf[range]);
        count += into.len();
        Ok::<(), ()>(())
    };
    read_parts(&mut part, read).unwrap();
    assert!(count <= 3 * elf.len(), "{count}");
    assert!(read_all("usr/bin/a", &elf).is_empty());
}
