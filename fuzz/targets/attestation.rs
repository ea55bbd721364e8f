//! Any bytes as what lies beside an image: a statement, a manifest of statements, an index that names these, a signed envelope, a bundle, a
//! signature of an image, a key. What is signed comes back as it was, and nothing is believed that no key signed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rbuild::attest::{attesting, check_statement, statements};
use rbuild::oci::{Digest, Index};
use rbuild::signature::image::{Bundle, Envelope, Payload, PrivateKey, PublicKey};

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
    assert!(Payload::verified(bytes, bytes, &keys, &subject).is_err(), "nobody signed this");
    // What somebody signed may be any bytes.
    let _ = Payload::verified(bytes, &KEY.sign(bytes), &keys, &subject);
    let _ = PublicKey::parse(&String::from_utf8_lossy(bytes));
    let _ = Bundle::statement(bytes);
    assert!(Bundle::verified(bytes, &keys).is_err(), "nobody signed this");
    assert_eq!(Bundle::verified(&Bundle::sign(bytes, &KEY).to_bytes(), &keys).as_deref(), Ok(bytes));
    assert_eq!(Envelope::verified(&Envelope::sign(bytes, &KEY).to_bytes(), &keys).as_deref(), Ok(bytes));
});
