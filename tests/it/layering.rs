//! The house has one direction: a module names only modules below it.

use std::path::{Path, PathBuf};

/// From the top to the foundation, as in `docs/architecture.md`.
const HOUSE: &[&str] = &[
    "cli",
    "pipeline",
    "transport",
    "solve",
    "source",
    "copy_files",
    "secrets",
    "key",
    "plan",
    "dockerfile",
    "import",
    "export",
    "registry",
    "http",
    "upkeep",
    "exec",
    "cache",
    "snapshot",
    "layer",
    "context",
    "image",
    "store",
    "config",
    "oci",
    "rootfs",
    "report",
    "text",
    "sync",
    "clock",
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The modules of the crate that a source names, in code and in `use` lines, comments left out.
fn named_modules(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let names = match rest.strip_prefix('{') {
                Some(list) => list.split(',').map(str::trim).collect(),
                None => vec![rest],
            };
            for name in names {
                let word: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push((number + 1, word));
            }
        }
    }
    found
}

#[test]
fn every_arrow_points_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floor = |module: &str| HOUSE.iter().position(|m| *m == module);
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut culprits = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).expect("found below src").to_string_lossy().into_owned();
        let own = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if matches!(own, "main" | "lib") {
            continue;
        }
        let Some(own_floor) = floor(own) else {
            culprits.push(format!("src/{inside}: module `{own}` has no floor in the house"));
            continue;
        };
        let text = std::fs::read_to_string(file).expect("sources are UTF-8");
        for (line, named) in named_modules(&text) {
            if floor(&named).is_some_and(|named_floor| named_floor < own_floor) {
                culprits.push(format!("src/{inside}:{line}: `{own}` names `{named}`, which is above it"));
            }
        }
    }
    assert!(culprits.is_empty(), "arrows that point up:\n{}", culprits.join("\n"));
}

/// Who may name the working directory to calls that take a directory and a path (`openat(CWD, path)`): such a call follows
/// links and `..` as any other, and clippy's `disallowed-methods` (see `clippy.toml`) does not see it.
const WORKING_DIRECTORY: [(&str, &str); 11] = [
    ("rootfs/", "it is what the others go through"),
    ("store/", "the store's own files"),
    ("exec/step/child.rs", "mounts on rbuild's own folders"),
    ("exec/step/extra.rs", "sources of mounts: rbuild's own folders"),
    ("exec/step/memory.rs", "mounts on rbuild's own folders"),
    ("exec/step/mounts.rs", "/dev, /sys and control groups of the machine"),
    ("exec/owners/", "the keeper is in the root of the step that asks"),
    ("exec/host/probe.rs", "rbuild's own folders"),
    ("exec/host/program.rs", "rbuild's own program"),
    ("solve/jobs.rs", "folders of cache mounts"),
    ("source/git/", "folders that git fills for rbuild alone"),
];

/// The text of an attribute from `at` to its end.
fn attribute(text: &str, at: usize) -> &str {
    text[at..].split(']').next().unwrap_or_default()
}

#[test]
fn paths_of_others_go_through_rootfs() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut culprits = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).expect("found below src").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).expect("sources are UTF-8");
        let may = WORKING_DIRECTORY.iter().any(|(place, _)| inside.starts_with(place));
        if !may && text.contains("CWD") {
            culprits.push(format!(
                "src/{inside}: names `CWD`; work on a descriptor, or say in this test why not"
            ));
        }
        for (at, _) in text.match_indices("clippy::disallowed_methods") {
            if !attribute(&text, at).contains("reason = ") {
                culprits.push(format!("src/{inside}: allows `disallowed_methods` without a reason"));
            }
        }
    }
    assert!(culprits.is_empty(), "paths that could lead out of an image:\n{}", culprits.join("\n"));
}
