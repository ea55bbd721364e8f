//! The conformance suite at the fourth rung.

use std::collections::BTreeSet;
use std::path::Path;

use super::plain;

/// What cannot be the same without namespaces and mounts; `docs/run.md` tells users.
const DIFFERENCES: [(&str, &str); 12] = [
    ("build-network-none", "no network of one's own"),
    ("mount-bind-context", "what is written to a mount that is read-only is lost, not refused"),
    ("mount-cache-ro", "the same"),
    ("mount-tmpfs", "a tmpfs is a folder on disk"),
    ("run-caps", "no CAP_SYS_CHROOT, and no_new_privs"),
    ("run-caps-user", "a process of another user still has root's capabilities"),
    ("run-network-none", "no network of one's own"),
    ("run-proc-masked", "`/sys` is a folder that can be written to"),
    ("run-security-insecure", "refused"),
    ("run-security-sandbox", "no CAP_SYS_CHROOT"),
    ("run-shm-size", "`/dev/shm` is a folder on disk"),
    ("run-signal", "the command is not process 1, which no signal of its own ends"),
];

#[test]
fn every_case_passes_that_can() {
    let plain = plain!();
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance");
    let suite = format!("{}:/suite:ro", suite.display());
    let script = "exec python3 /suite/run.py check --rbuild '/work/rbuild --root {state}' \
        --registry-port 5077 --http-port 5078 --timeout 120 --json /work/outcome.json";
    let (text, _) = plain.run(&["-v", &suite], script);
    let outcome = std::fs::read(plain.work().join("outcome.json")).unwrap_or_else(|e| panic!("{e}: {text}"));
    let outcome: serde_json::Value = serde_json::from_slice(&outcome).unwrap();
    let failed: BTreeSet<&str> = outcome["fail"].as_object().unwrap().keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = DIFFERENCES.iter().map(|(case, _)| *case).collect();
    assert_eq!(failed, known, "{text}");
    assert!(outcome["pass"].as_array().unwrap().len() > 400, "{text}");
}
