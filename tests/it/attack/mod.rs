//! Attacks: what a hostile Dockerfile, context, archive, image, registry or machine tries, and that nothing comes of it.
//!
//! One file per attack. Each is short in CI; `tests/run --long` tries much more, with another seed each time, and prints how
//! often what was tried ([`crate::support::attack`]).

mod archives;
mod claims;
mod crowd;
mod damage;
mod disks;
mod fresh_store;
mod kills;
mod links;
mod made_again;
mod manifests;
mod run_probe;
mod secrets;
mod unseen_writes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::support::program::{Ran, Rbuild, World};

/// `rbuild --root STORE …` that is killed after two minutes: then it hangs.
fn attempt<'w>(world: &'w World, args: &[&str]) -> Rbuild<'w> {
    world.through(&["timeout", "--signal=KILL", "120"], args).any_status().any_stdout().remarks()
}

/// Whether a run succeeded. Else it ended with 1, or 75 where a network failed, and an error in words, as the program ends whatever a Dockerfile, an
/// image, a disk or a server does to it: any other end is a panic, a crash, a hang, or an error that nobody told.
#[track_caller]
fn is_success(ran: &Ran, told: &str) -> bool {
    let text = &ran.stderr;
    assert!(!text.contains("panicked") && !text.contains("rbuild: bug"), "{told}: a panic: {text}");
    let errors: Vec<&str> = text.lines().filter(|line| is_error(line)).collect();
    match (ran.status, errors.is_empty()) {
        (Some(0), true) => true,
        (Some(1 | 75), false) => false,
        (status, _) => panic!("{told}: it ended with {status:?} (none: it hung): {text}\n{}", ran.stdout),
    }
}

/// Whether a line is the first of a diagnostic that says what went wrong, in text or in JSON.
fn is_error(line: &str) -> bool {
    match line.strip_prefix("error: ") {
        Some(message) => !message.trim().is_empty(),
        None => serde_json::from_str::<serde_json::Value>(line).is_ok_and(|event| {
            let told = &event["diagnostic"];
            told["severity"] == "error" && told["message"].as_str().is_some_and(|message| !message.is_empty())
        }),
    }
}

/// Everything below a folder: mode, owner, and what is in files. What is the same later was not touched.
fn state(folder: &Path) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let content = match () {
                () if kind.is_file() => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
                () if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                () if kind.is_fifo() => "fifo".to_owned(),
                () => String::new(),
            };
            if meta.is_dir() {
                folders.push(path.clone());
            }
            let line = format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid());
            state.insert(path.display().to_string(), line);
        }
    }
    state
}
