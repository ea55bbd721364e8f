//! The house has one direction: a module names only modules below it.

use std::path::{Path, PathBuf};

/// From the top to the foundation, as in `docs/architecture.md`.
const HOUSE: &[&str] = &[
    "cli",
    "api",
    "pipeline",
    "bake",
    "transport",
    "compare",
    "solve",
    "copy_files",
    "key",
    "plan",
    "dockerfile",
    "attest",
    "shared_cache",
    "engine",
    "import",
    "export",
    "registry",
    "source",
    "reapi",
    "kubernetes",
    "grpc",
    "secrets",
    "http",
    "page",
    "insight",
    "inventory",
    "upkeep",
    "record",
    "exec",
    "cache",
    "snapshot",
    "layer",
    "context",
    "image",
    "store",
    "config",
    "signature",
    "tripwire",
    "oci",
    "rootfs",
    "yaml",
    "report",
    "text",
    "busy",
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

/// The source without comments and without what stands in quotes, its lines where they were.
fn code_of(text: &str) -> String {
    let (mut code, mut chars) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    match c {
                        '\\' => drop(chars.next_if(|c| *c != '\n')),
                        '\n' => code.push('\n'),
                        _ => {}
                    }
                }
            }
            // A quotation mark as a character.
            '\'' if chars.peek() == Some(&'"') => drop(chars.next()),
            c => code.push(c),
        }
    }
    code
}

/// The modules of the crate's top that a source names, in code and in `use`, with their lines. `depth` says how many modules
/// the source is in, itself included: from there, so many `super::` lead to the top.
fn named_modules(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code = code_of(text);
    let tests = code.find("\nmod tests {").unwrap_or(code.len());
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(length) = code[at..].find("crate::").into_iter().chain(code[at..].find("super::")).min() {
        let start = at + length;
        let depth = if start > tests { depth + 1 } else { depth };
        let (rest, is_top) = match code[start..].strip_prefix("crate::") {
            Some(rest) => (rest, true),
            None => up(&code[start..], depth),
        };
        if is_top {
            let line = code[..start].lines().count().max(1);
            found.extend(first_words(rest).into_iter().map(|word| (line, word)));
        }
        at = code.len() - rest.len();
    }
    found
}

/// What follows `super::super::…`, and whether that is at the crate's top.
fn up(mut rest: &str, depth: usize) -> (&str, bool) {
    let mut steps = 0;
    while let Some(more) = rest.strip_prefix("super::") {
        (rest, steps) = (more, steps + 1);
    }
    (rest, steps >= depth)
}

/// The first word of a path, or of each path in braces.
fn first_words(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut words, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                words.push(word(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    words
}

/// How many modules a file is in, itself included: `plan/graph/op.rs` three, `plan/mod.rs` one.
fn depth_of(inside: &str) -> usize {
    inside.split('/').filter(|part| *part != "mod.rs").count()
}

/// The arrows of one source that point up.
fn upward(inside: &str, text: &str) -> Vec<String> {
    let floor = |module: &str| HOUSE.iter().position(|m| *m == module);
    let own = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if matches!(own, "main" | "lib") {
        return Vec::new();
    }
    let Some(own_floor) = floor(own) else {
        return vec![format!("src/{inside}: module `{own}` has no floor in the house")];
    };
    let named = named_modules(text, depth_of(inside)).into_iter();
    let above = named.filter(|(_, named)| floor(named).is_some_and(|floor| floor < own_floor));
    above
        .map(|(line, named)| format!("src/{inside}:{line}: `{own}` names `{named}`, which is above it"))
        .collect()
}

#[test]
fn arrows_that_point_up_are_seen() {
    let up = |inside: &str, text: &str| -> Vec<String> {
        let told = upward(inside, text).into_iter();
        told.map(|told| told.split('`').nth(3).unwrap_or_default().to_owned()).collect()
    };
    for (inside, text, culprits) in [
        ("plan/mod.rs", "use crate::solve;", &["solve"][..]),
        ("plan/mod.rs", "use crate::{\n    oci,\n    solve::{self, Files},\n    cli,\n};", &["solve", "cli"]),
        ("plan/mod.rs", "use super::solve::Files;", &["solve"]),
        ("plan/mod.rs", "use super::{oci, solve};", &["solve"]),
        ("plan/graph/op.rs", "use super::super::super::pipeline;", &["pipeline"]),
        ("plan.rs", "fn f() { super::cli::run() }", &["cli"]),
        ("plan/mod.rs", "\n#[cfg(test)]\nmod tests {\n    use super::super::cli;\n}", &["cli"]),
        ("report.rs", "const QUOTE: char = '\"'; use crate::cli; // \"", &["cli"]),
        // Rooms of one's own that have the name of a floor.
        ("plan/graph/op.rs", "use super::{pipeline, solve};", &[]),
        ("plan/config.rs", "use super::export::Kind;", &[]),
        ("plan/mod.rs", "\n#[cfg(test)]\nmod tests {\n    use super::solve;\n}", &[]),
        ("plan/mod.rs", "use crate::oci; // never crate::cli\nconst TEXT: &str = \"crate::solve\";", &[]),
    ] {
        assert_eq!(up(inside, text), culprits, "{inside}: {text}");
    }
    assert_eq!(
        upward("plan/mod.rs", "\n\nuse crate::cli;")[0],
        "src/plan/mod.rs:3: `plan` names `cli`, which is above it"
    );
    assert_eq!(upward("attic/mod.rs", ""), ["src/attic/mod.rs: module `attic` has no floor in the house"]);
}

#[test]
fn every_arrow_points_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut culprits = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).expect("found below src").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).expect("sources are UTF-8");
        culprits.extend(upward(&inside, &text));
    }
    assert!(culprits.is_empty(), "arrows that point up:\n{}", culprits.join("\n"));
}

/// Who may name the working directory to calls that take a directory and a path (`openat(CWD, path)`): such a call follows
/// links and `..` as any other, and clippy's `disallowed-methods` (see `clippy.toml`) does not see it.
const WORKING_DIRECTORY: [(&str, &str); 14] = [
    ("rootfs/", "it is what the others go through"),
    ("store/", "the store's own files"),
    ("exec/step/child.rs", "mounts on rbuild's own folders"),
    ("exec/step/extra.rs", "sources of mounts: rbuild's own folders"),
    ("exec/step/memory.rs", "mounts on rbuild's own folders"),
    ("exec/step/mounts.rs", "/dev, /sys and control groups of the machine"),
    ("exec/owners/", "the owner supervisor is in the root of the step that asks"),
    ("exec/plain/supervisor/", "the supervisor has the step's root as its own"),
    ("exec/plain/furnish.rs", "what comes to a place lies in rbuild's own folders"),
    ("exec/host/probe.rs", "rbuild's own folders"),
    ("exec/host/program.rs", "rbuild's own program"),
    ("solve/jobs.rs", "folders of cache mounts"),
    ("pipeline/placing/worker.rs", "links that rbuild has just made in a folder of its own"),
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
