//! What a definition may do beyond its folder: who runs it has to allow it by name.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::fault::{Result, did_you_mean, fault, with_help};

/// What `--allow` gives.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    network_host: bool,
    security_insecure: bool,
    ssh: bool,
    local_delete: bool,
    /// Names; `None` in it is every device.
    devices: Vec<Option<String>>,
    read: Vec<String>,
    write: Vec<String>,
}

/// What the command line gives by naming it in `--set`.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    pub(super) read: Vec<String>,
    pub(super) write: Vec<String>,
    pub(super) network_host: bool,
    pub(super) security_insecure: bool,
}

/// What a build of the definition would do.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// Paths that are read.
    pub read: BTreeSet<PathBuf>,
    /// Paths that are written.
    pub write: BTreeSet<PathBuf>,
    /// The agent of the environment.
    pub ssh: bool,
    /// `entitlements`
    pub entitlements: BTreeSet<String>,
    /// A folder that is written loses what is not new.
    pub local_delete: bool,
}

/// What is wanted and not allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// In words, each.
    pub what: Vec<String>,
    /// Values of `--allow` that give it.
    pub flags: Vec<String>,
}

impl Asked {
    /// Leaves only what has such flags.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        let kept: Vec<bool> = self.flags.iter().map(|flag| wanted(flag)).collect();
        let mut at = kept.iter();
        self.what.retain(|_| at.next().copied().unwrap_or(false));
        let mut at = kept.iter();
        self.flags.retain(|_| at.next().copied().unwrap_or(false));
    }
}

const KEYS: [&str; 11] = [
    "network.host",
    "security.insecure",
    "ssh",
    "buildx.local.delete",
    "device",
    "fs.read",
    "fs.write",
    "fs",
    "image.push",
    "image.load",
    "image",
];

impl Allowed {
    /// Reads all of `--allow`, each `KEY` or `KEY=VALUE`.
    ///
    /// # Errors
    /// A key that there is not.
    pub fn parse(given: &[String]) -> Result<Self> {
        let mut allowed = Self::default();
        for text in given {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let value = value.to_owned();
            match key {
                "network.host" if *text == key => allowed.network_host = true,
                "security.insecure" if *text == key => allowed.security_insecure = true,
                "ssh" if *text == key => allowed.ssh = true,
                "buildx.local.delete" if *text == key => allowed.local_delete = true,
                "device" => allowed.devices.push(Some(value).filter(|name| !name.is_empty())),
                "fs.read" => allowed.read.push(value),
                "fs.write" => allowed.write.push(value),
                "fs" => {
                    allowed.read.push(value.clone());
                    allowed.write.push(value);
                }
                // Nothing in a definition asks for these.
                "image.push" | "image.load" | "image" => {}
                "network.host" | "security.insecure" | "ssh" | "buildx.local.delete" => {
                    return Err(fault(format!("bad value `{text}` for --allow: `{key}` takes no value")));
                }
                key => {
                    let fault = fault(format!("bad value `{text}` for --allow: there is no `{key}`"));
                    return Err(with_help(fault, did_you_mean(key, KEYS)));
                }
            }
        }
        Ok(allowed)
    }

    /// Allows also what is in these folders, and what the command line named.
    pub fn and(mut self, folder: &Path, granted: &Granted) -> Self {
        let folder = folder.display().to_string();
        self.read.extend(granted.read.iter().cloned().chain([folder.clone()]));
        self.write.extend(granted.write.iter().cloned().chain([folder]));
        self.network_host |= granted.network_host;
        self.security_insecure |= granted.security_insecure;
        self
    }

    /// What of `wants` is not allowed; paths are those that links lead to.
    pub fn lacks(&self, wants: &Wants, folder: &Path) -> Asked {
        let mut asked = Asked::default();
        let mut ask = |what: String, flag: String| {
            asked.what.push(what);
            asked.flags.push(flag);
        };
        for right in &wants.entitlements {
            match right.split_once('=').unwrap_or((right, "")) {
                ("network.host", "") if !self.network_host => {
                    ask("commands that use the network of this machine".to_owned(), right.clone());
                }
                ("security.insecure", "") if !self.security_insecure => {
                    ask(
                        "commands with all privileges, which can change this machine".to_owned(),
                        right.clone(),
                    );
                }
                ("device", name) => {
                    let is_given =
                        |given: &Option<String>| given.as_deref().is_none_or(|given| given == name);
                    if !self.devices.iter().any(is_given) {
                        let what =
                            if name.is_empty() { "devices".to_owned() } else { format!("the device {name}") };
                        ask(what, right.clone());
                    }
                }
                _ => {}
            }
        }
        if wants.ssh && !self.ssh {
            ask("the ssh agent".to_owned(), "ssh".to_owned());
        }
        if wants.local_delete && !self.local_delete {
            ask("removing files from folders that it writes".to_owned(), "buildx.local.delete".to_owned());
        }
        let (read, written) =
            (missing(&self.read, &wants.read, folder), missing(&self.write, &wants.write, folder));
        for path in read.union(&written) {
            let shown = relative(path, folder);
            match (read.contains(path), written.contains(path)) {
                (true, true) => ask(format!("reading and writing `{shown}`"), format!("fs={shown}")),
                (true, false) => ask(format!("reading `{shown}`"), format!("fs.read={shown}")),
                (false, _) => ask(format!("writing `{shown}`"), format!("fs.write={shown}")),
            }
        }
        asked
    }
}

/// The paths that are in none of the folders; not those that are in another one of them.
fn missing(allowed: &[String], wanted: &BTreeSet<PathBuf>, folder: &Path) -> BTreeSet<PathBuf> {
    if allowed.iter().any(|path| path == "*") {
        return BTreeSet::new();
    }
    let allowed: Vec<PathBuf> = allowed
        .iter()
        .map(|path| {
            let (real, rest) = existing(&folder.join(path));
            real.join(rest)
        })
        .collect();
    let real: BTreeSet<PathBuf> = wanted.iter().map(|path| existing(&folder.join(path)).0).collect();
    let mut out: BTreeSet<PathBuf> = BTreeSet::new();
    // Short ones come first, and hold what is below them.
    for path in real {
        let is_allowed = allowed.iter().any(|allowed| path.starts_with(allowed));
        if !is_allowed && !out.iter().any(|outer| path.starts_with(outer)) {
            out.insert(path);
        }
    }
    out
}

/// As much of a path as exists, links resolved, and the rest.
fn existing(path: &Path) -> (PathBuf, PathBuf) {
    let mut rest = PathBuf::new();
    let mut front = lexical(path);
    loop {
        if let Ok(real) = std::fs::canonicalize(&front) {
            return (real, rest);
        }
        let Some(name) = front.file_name().map(PathBuf::from) else { return (front, rest) };
        rest = if rest.as_os_str().is_empty() { name } else { name.join(rest) };
        front.pop();
    }
}

/// Without `.`; `..` stays, for it may follow a link.
fn lexical(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

/// From the current folder, if that is not far up.
fn relative(path: &Path, folder: &Path) -> String {
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    if let Ok(inside) = path.strip_prefix(&folder) {
        return if inside.as_os_str().is_empty() { ".".to_owned() } else { inside.display().to_string() };
    }
    match folder.parent().and_then(|parent| path.strip_prefix(parent).ok()) {
        Some(beside) if beside.as_os_str().is_empty() => "..".to_owned(),
        Some(beside) => format!("../{}", beside.display()),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_they_lead() {
        let outer = tempfile::tempdir().expect("a folder");
        let inside = outer.path().join("inside");
        std::fs::create_dir_all(outer.path().join("secret")).expect("a folder");
        std::fs::create_dir(&inside).expect("a folder");
        std::os::unix::fs::symlink("../secret", inside.join("link")).expect("a link");
        let wants = |path: &str| Wants { read: BTreeSet::from([PathBuf::from(path)]), ..Wants::default() };
        let allowed = Allowed::default().and(&inside, &Granted::default());
        assert_eq!(allowed.lacks(&wants("here/or/not"), &inside), Asked::default());
        for path in ["link", "link/file", "../secret", "link/../other"] {
            let asked = allowed.lacks(&wants(path), &inside);
            assert_eq!(asked.flags.len(), 1, "{path}: {asked:?}");
        }
        let given = Allowed::parse(&["fs.read=../secret".to_owned()]).expect("a right");
        assert_eq!(
            given.and(&inside, &Granted::default()).lacks(&wants("link/x"), &inside),
            Asked::default()
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in ["fs.raed=/", "network.host=1", "ssh=x", ""] {
            assert!(Allowed::parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
