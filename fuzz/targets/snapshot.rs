//! Any bytes as the manifest of a cache mount: what is accepted is written as what reads as the same, and leads nowhere but below the mount.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::shared_cache::mounts::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::parse(bytes);
    let Ok(manifest) = Manifest::decode(&[b"rbuild mount 1\n", bytes].concat()) else { return };
    assert_eq!(Manifest::decode(&manifest.encoded()).expect("it is one"), manifest);
    assert_eq!(Manifest::parse(&manifest.to_bytes()).expect("it is one"), manifest);
    let mut last: Option<&[u8]> = None;
    for entry in &manifest.entries {
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        assert!(entry.path.is_empty() || entry.path.split(|byte| *byte == b'/').all(is_name));
        assert!(last.is_none_or(|last| last < entry.path.as_slice()));
        last = Some(&entry.path);
    }
    let _ = (manifest.bytes(), manifest.files());
});
