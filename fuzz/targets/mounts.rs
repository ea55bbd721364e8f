//! Any text as the value of `--mount` or `--device`: fields that are quoted again are the same, and what is accepted holds
//! to the rules of its type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::dockerfile::mount::{Device, Mount, MountType, fields, from};

fuzz_target!(|text: &str| {
    let _ = Device::parse(text);
    let Ok(fields) = fields(text) else { return };
    assert_eq!(self::fields(&quoted(&fields)).as_ref(), Ok(&fields));
    let Ok(mount) = Mount::parse(&fields) else { return };
    is_right(&mount);
    // What `from` says without expansion is what the mount needs, unless it does not look at it.
    if let Ok(from) = from(text) {
        assert_eq!(from, mount.from);
    }
});

/// The fields as text, each in quotes.
fn quoted(fields: &[String]) -> String {
    let quoted = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(",")
}

fn is_right(mount: &Mount) {
    let kind = mount.kind;
    assert!(mount.size_bytes >= 0);
    assert!(mount.sharing.is_none() || kind == MountType::Cache);
    assert!(mount.from.is_none() || kind != MountType::Secret);
    for text in [&mount.from, &mount.source, &mount.target, &mount.id].into_iter().flatten() {
        assert!(!text.is_empty());
    }
    if matches!(kind, MountType::Bind | MountType::Tmpfs) {
        assert_eq!((mount.mode, mount.uid, mount.gid), (None, None, None));
    }
}
