//! Any bytes as package databases, manifests, archives and programs: what is said of them is bounded, and becomes documents.
//! The first byte says which file it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::inventory::catalog::{Tells, read_all};

/// A path that each cataloger takes.
const PATHS: [&str; 20] = [
    "etc/os-release",
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/a",
    "var/lib/dpkg/info/a.list",
    "usr/share/doc/a/copyright",
    "lib/apk/db/installed",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "a-1.dist-info/METADATA",
    "a-1.dist-info/RECORD",
    "a-1.dist-info/direct_url.json",
    "a.egg-info",
    "node_modules/a/package.json",
    "a-1.0.jar",
    "specifications/a-1.gemspec",
    "vendor/composer/installed.json",
    "a.deps.json",
    "lib/a.so",
    "usr/bin/a",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let path = PATHS[usize::from(*which) % PATHS.len()];
    // Programs of less than a page are nobody's.
    let mut padded = bytes.to_vec();
    if path.ends_with(".so") || path.ends_with("bin/a") {
        padded.resize(padded.len().max(4096), 0);
    }
    for tells in read_all(path, &padded) {
        let Tells::Packages(packages) = tells else { continue };
        for package in packages {
            let purl = package.purl(None);
            assert!(purl.starts_with("pkg:") && purl.is_ascii(), "{purl}");
            assert!(!package.name.is_empty());
        }
    }
});
