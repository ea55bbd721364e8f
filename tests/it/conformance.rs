//! The conformance suite: what BuildKit makes of some hundred Dockerfiles, compared with what rbuild makes.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::support::{is_root, skip};

/// Cases in which rbuild differs on purpose, and why; `docs/dockerfile.md` tells users.
const DIFFERENCES: [(&str, &str); 0] = [];

#[test]
fn every_case_that_is_no_known_difference_passes() {
    if !is_root() {
        skip!("the conformance suite makes device nodes and foreign owners, which needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let outcome = dir.path().join("outcome.json");
    let ports = [free_port(), free_port()];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/conformance/run.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["check", "--rbuild", &format!("{} --root {{state}}", env!("CARGO_BIN_EXE_rbuild"))])
        .args(["--registry-port", &ports[0], "--http-port", &ports[1], "--timeout", "120", "--json"])
        .arg(&outcome)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let outcome = std::fs::read(&outcome).unwrap_or_else(|e| panic!("no outcome: {e}\n{text}{errors}"));
    let outcome: serde_json::Value = serde_json::from_slice(&outcome).unwrap();
    let failed: BTreeSet<&str> = outcome["fail"].as_object().unwrap().keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = DIFFERENCES.iter().map(|(case, _)| *case).collect();
    assert_eq!(failed, known, "{text}{errors}");
    assert!(outcome["pass"].as_array().unwrap().len() > 400, "{text}");
    let skipped = outcome["skip"].as_array().unwrap();
    if !skipped.is_empty() {
        skip!("cases whose programs are missing: {skipped:?}");
    }
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}
