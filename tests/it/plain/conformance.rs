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
    passes(&[], "(rung 4 of 4)", &DIFFERENCES);
}

/// With user namespaces and the container's own `/proc`, of which docker masks parts.
#[test]
fn every_case_passes_where_proc_is_masked() {
    let masked = ["--security-opt", "seccomp=unconfined"];
    let refused = ("run-security-insecure", "refused among processes of others");
    let devices = ("meta-run-special", "the kernel refuses to make devices in a user namespace");
    passes(&masked, "(rung 2 of 4)", &[devices, refused]);
    // Who may not change users has one id.
    let single = [&masked[..], &["--cap-drop=SETUID", "--cap-drop=SETGID"]].concat();
    let capabilities = ("run-caps-user", "a process of another user still has root's capabilities");
    passes(&single, "(rung 3 of 4)", &[capabilities, refused]);
}

/// All but these, at this rung.
#[track_caller]
fn passes(options: &[&str], rung: &str, differences: &[(&str, &str)]) {
    let plain = plain!();
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance");
    let suite = format!("{}:/suite:ro", suite.display());
    let script = "/work/rbuild doctor | head -n 1; \
        exec python3 /suite/run.py check --rbuild '/work/rbuild --root {state}' \
        --registry-port 5077 --http-port 5078 --timeout 120 --json /work/outcome.json";
    let (text, _) = plain.run(&[options, &["-v", &suite]].concat(), script);
    assert!(text.lines().next().unwrap_or_default().ends_with(rung), "{text}");
    let outcome = std::fs::read(plain.work().join("outcome.json")).unwrap_or_else(|e| panic!("{e}: {text}"));
    let outcome: serde_json::Value = serde_json::from_slice(&outcome).unwrap();
    let failed: BTreeSet<&str> = outcome["fail"].as_object().unwrap().keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = differences.iter().map(|(case, _)| *case).collect();
    assert_eq!(failed, known, "{text}");
    assert!(outcome["pass"].as_array().unwrap().len() > 400, "{text}");
}
