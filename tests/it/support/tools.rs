//! Other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program that must succeed; gives its standard output.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let mut command = Command::new(program);
    command.args(args);
    let output = command.output().unwrap_or_else(|e| panic!("{program}: {e}; `tests/run` installs it"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same for a program that prints JSON.
#[track_caller]
pub fn json<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> serde_json::Value {
    serde_json::from_str(&run(program, args)).unwrap()
}

/// The documents of a file in YAML (Debian's package `python3-yaml` reads it).
#[track_caller]
pub fn yaml(path: &Path) -> serde_json::Value {
    let script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    json("python3", [OsStr::new("-c"), OsStr::new(script), path.as_os_str()])
}

/// Two long listings must be the same; else only the difference is shown.
#[track_caller]
pub fn same_lines(what: &str, left: &[String], right: &[String]) {
    let only = |of: &[String], not_in: &[String]| -> Vec<String> {
        let other: std::collections::HashSet<&String> = not_in.iter().collect();
        of.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    assert!(
        left == right,
        "{what} differ: only the first has {:#?}, only the second {:#?}",
        only(left, right),
        only(right, left)
    );
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// `skopeo inspect` of an image in a layout.
#[track_caller]
pub fn skopeo_inspect(layout: &Path, name: &str) -> serde_json::Value {
    json("skopeo", ["inspect", &format!("oci:{}:{name}", layout.display())])
}

/// Every path below a directory with type, mode, and for files their bytes; sorted. What owners there are
/// depends on who unpacked it.
pub fn listing(root: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut lines = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let name = path.strip_prefix(root).unwrap().display();
            let mode = meta.permissions().mode() & 0o7777;
            lines.push(if meta.is_dir() {
                folders.push(path.clone());
                format!("{name} dir {mode:04o}")
            } else if meta.is_symlink() {
                format!("{name} -> {}", std::fs::read_link(&path).unwrap().display())
            } else {
                format!("{name} {mode:04o} {}", String::from_utf8_lossy(&std::fs::read(&path).unwrap()))
            });
        }
    }
    lines.sort();
    lines
}

/// Where `tests/run` installs the library of docker's actions for GitHub, which brings Sigstore's packages, and a node beside it.
pub fn toolkit() -> Option<(PathBuf, PathBuf)> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let toolkit = target.join("actions-toolkit");
    if !toolkit.join("node_modules/@docker/actions-toolkit/lib").is_dir() {
        return None;
    }
    let own = target.join("node/bin/node");
    Some((toolkit, if own.is_file() { own } else { PathBuf::from("node") }))
}
