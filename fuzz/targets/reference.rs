//! Any text as the name of an image, as a digest and as a platform: what is accepted is printed as what is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::oci::{Digest, Platform, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        name(&reference);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse(), Ok(platform.clone()));
        assert_eq!(platform.clone().normalised(), platform);
        assert_eq!(platform.match_rank(&platform), Some(0));
    }
});

fn name(reference: &Reference) {
    let with_tag = reference.clone().with_default_tag();
    assert_eq!(reference.full().parse(), Ok(with_tag));
    assert_eq!(reference.to_string().parse().as_ref(), Ok(reference));
    let (registry, repository) = (reference.registry(), reference.repository());
    // What becomes a part of a URL and of a path.
    for part in [registry, repository] {
        assert!(!part.is_empty() && part.is_ascii());
        assert!(!part.split('/').any(|part| matches!(part, "" | "." | "..")));
        assert!(!part.contains(['?', '#', '%', '@', '\\', ' ']));
    }
    assert!(!registry.contains('/'));
    let digest = Digest::of(b"");
    for other in [reference.pinned(digest), reference.without_digest()] {
        assert_eq!(other.full().parse(), Ok(other.clone()));
    }
}
