//! Any bytes as what lies beside an image: a statement, a manifest of statements, an index that names these, a signed envelope. What is
//! signed comes back as it was, and nothing is believed that no key signed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rbuild::attest::{attesting, check_statement, statements};
use rbuild::oci::{Digest, Index};
use rbuild::signature::image::{Envelope, PrivateKey};

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n-----END PRIVATE KEY-----\n";
static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::parse(PEM, None).unwrap());

fuzz_target!(|bytes: &[u8]| {
    let subject = Digest::of(b"image");
    let _ = check_statement(bytes, None, &subject);
    for listed in statements(bytes, None).unwrap_or_default() {
        assert_eq!(listed.artifact_type.as_deref(), Some("application/vnd.in-toto+json"));
    }
    if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
        assert!(attesting(&index).len() <= index.manifests.len());
    }
    let keys = [KEY.public()];
    assert!(Envelope::verified(bytes, &keys).is_err(), "nobody signed this");
    assert_eq!(Envelope::verified(&Envelope::sign(bytes, &KEY).to_bytes(), &keys).as_deref(), Ok(bytes));
});
