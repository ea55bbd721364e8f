//! The worker's side: puts contexts together from what the engine laid out, builds, and leaves a cache in a folder.
//!
//! Files are copied, since engines lay out links to what they keep, and the times and modes that count are not theirs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::files::{Listed, ListedKind};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::order::{Order, VERSION};
use crate::cache::Precedence;
use crate::exec::Stop;
use crate::pipeline::{self, Failed, Secret, SecretFrom};
use crate::registry::Client;
use crate::report::{Diagnostic, Events};
use crate::shared_cache::mounts::Travel;
use crate::shared_cache::{Bounds, CacheTo, Location, Mode, backend};

/// The subcommand.
pub(super) const COMMAND: &str = "__on-worker";
/// The file with what was asked for.
pub(super) const ORDER: &str = "order.json";
/// The folder that is the result.
pub(super) const OUTPUT: &str = "out";
/// What readers of that folder begin with.
pub(super) const HEAD: &str = "out/rbuild-cache/latest";
/// How long the worker built, in milliseconds, is the rest of the name of a file, which costs nobody a request.
const TOOK: &str = "out/took-";
/// The folder with what is known of the build's steps, and what readers of it begin with.
pub(super) const KNOWN: &str = "known";
pub(super) const KNOWN_HEAD: &str = "known/rbuild-cache/latest";
/// The exit code of a worker that does not begin.
pub const REFUSED: i32 = 3;
/// Names the folder of a worker's secrets, each a file named by its id.
const SECRETS: &str = "RBUILD_WORKER_SECRETS";
/// Where they are without that: many engines give actions no variables of the worker's.
const USUAL_SECRETS: &str = "/etc/rbuild/worker-secrets";
/// Names the folder of a store that stays.
const ROOT: &str = "RBUILD_ROOT";
/// And without that, if it may be written.
const USUAL_ROOT: &str = "/var/cache/rbuild-worker";
/// An order that is longer is not read.
const LIMIT: u64 = 1 << 30;

/// Where a file of the context with that number lies among the action's inputs.
pub(super) fn input(number: usize, path: &str) -> String {
    format!("contexts/{number}/{path}")
}

/// Why a worker did not build.
#[derive(Debug)]
pub enum Ended {
    /// It did not begin.
    Refused(Diagnostic),
    /// The build failed.
    Failed(Failed),
}

/// Does what the order in that file, in the current folder, asks for.
///
/// # Errors
/// What is to be told.
pub fn run(order: &Path, events: &Events, stop: &Stop) -> Result<(), Ended> {
    let refuse = |text: String| Ended::Refused(Diagnostic::error(text));
    let bytes = read(order).map_err(|e| refuse(format!("cannot read `{}`: {e}", order.display())))?;
    let order: Order =
        serde_json::from_slice(&bytes).map_err(|e| refuse(format!("the order is none: {e}")))?;
    if order.version != VERSION {
        return Err(refuse("the order is of another version of rbuild".to_owned()));
    }
    let secrets = secrets(&order.secrets).map_err(Ended::Refused)?;
    let here = std::env::current_dir().map_err(|e| refuse(format!("there is no current folder: {e}")))?;
    let made = tempfolder(&here).map_err(|e| refuse(format!("cannot write in `{}`: {e}", here.display())))?;
    let mut folders = Vec::new();
    for (number, listed) in order.contexts.iter().enumerate() {
        let folder = made.0.join(number.to_string());
        lay_out(&here, number, listed, &folder)
            .map_err(|e| refuse(format!("cannot lay out the context: {e}")))?;
        folders.push(folder);
    }
    // A store that stays keeps what the next build needs; else it goes with the folder.
    let root = kept_root().unwrap_or_else(|| made.0.join("store"));
    let mut targets = order.into_targets(&root, &folders).map_err(refuse)?;
    for target in &mut targets {
        target.request.secrets.clone_from(&secrets);
        target.request.cache_mounts = Some(Travel::Off);
        // Others are for whoever pushes the image.
        let registry = Client::new(target.request.registries.clone());
        target.request.uploads.retain(|repository| registry.has_login(repository));
    }
    let first = targets.first_mut().ok_or_else(|| refuse("the order asks for nothing".to_owned()))?;
    let request = &mut first.request;
    let output = here.join(OUTPUT);
    request.cache_to = vec![CacheTo {
        location: Some(folder_cache(output)),
        mode: Mode::Max,
        ignore_error: false,
        bounds: Bounds::default(),
        sign: None,
        skip_secrets: false,
        mount_limit: 0,
    }];
    if here.join(KNOWN_HEAD).is_file() {
        // Also where this worker made something else of the same: whoever placed the build goes on with what it knows.
        let registry = Client::new(request.registries.clone());
        let known = backend::at(&folder_cache(here.join(KNOWN)), &registry);
        request.brought = vec![(Precedence::BeforeOwn, known)];
    }
    let began = Instant::now();
    pipeline::run_several(&targets, events, stop).map_err(Ended::Failed)?;
    // Without it nobody knows what placing the build has cost.
    let took = format!("{TOOK}{}", began.elapsed().as_millis());
    if let Err(error) = File::create(here.join(took)) {
        tracing::debug!(%error, "how long it took is not said");
    }
    Ok(())
}

/// How long the worker built, if this is the file that says so.
pub(super) fn took(path: &str) -> Option<Duration> {
    path.strip_prefix(TOOK)?.parse().ok().map(Duration::from_millis)
}

fn folder_cache(folder: PathBuf) -> Location {
    Location::Local(folder, "latest".to_owned())
}

/// The secrets that this worker has.
fn secrets(needed: &[String]) -> Result<Vec<Secret>, Diagnostic> {
    let folder = named(SECRETS).or_else(|| Some(PathBuf::from(USUAL_SECRETS)).filter(|path| path.is_dir()));
    let mut secrets = Vec::new();
    if let Some(folder) = &folder {
        let entries = fs::read_dir(folder).map_err(|e| {
            Diagnostic::error(format!("cannot read the worker's secrets in `{}`: {e}", folder.display()))
        })?;
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            if let Ok(id) = entry.file_name().into_string() {
                secrets.push(Secret { id, from: SecretFrom::File(entry.path()), is_exempt: false });
            }
        }
    }
    match needed.iter().find(|id| !secrets.iter().any(|secret| secret.id == **id)) {
        None => Ok(secrets),
        Some(id) => {
            let told = Diagnostic::error(format!(
                "the build needs the secret `{id}`, which this worker does not have"
            ));
            Err(told.help(format!(
                "secrets do not travel: put it into a file of that name in `{USUAL_SECRETS}` on workers, or where ${SECRETS} says"
            )))
        }
    }
}

/// A store that stays from build to build, if this worker has one.
pub(super) fn kept_root() -> Option<PathBuf> {
    named(ROOT).or_else(|| Some(PathBuf::from(USUAL_ROOT)).filter(|path| may_write(path)))
}

/// What a variable names, if it is set.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn may_write(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok() && folder.is_dir()
}

/// A folder that goes with the value.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What belongs to ids of a range stays for the engine, which throws its folder away.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempfolder(here: &Path) -> io::Result<Temporary> {
    let path = here.join(format!(".rbuild-{}", crate::store::unique()));
    fs::create_dir(&path)?;
    Ok(Temporary(path))
}

/// Copies what the engine laid out, with the modes and times that are listed.
fn lay_out(here: &Path, number: usize, listed: &[Listed], folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for Listed { path, kind, mode, mtime } in listed {
        let target = folder.join(checked(path)?);
        let permissions = fs::Permissions::from_mode(mode & 0o7777);
        match kind {
            ListedKind::Folder => fs::create_dir_all(&target)?,
            // Links in the end, and none below another, so that nothing is written through one.
            ListedKind::Link(_) => {}
            ListedKind::File => {
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::copy(here.join(input(number, path)), &target)?;
                let file = File::options().write(true).open(&target).or_else(|_| {
                    // The engine may have laid it out so that nobody may write.
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o600))?;
                    File::options().write(true).open(&target)
                })?;
                file.set_modified(time(*mtime)?)?;
                file.set_permissions(permissions)?;
            }
        }
    }
    for Listed { path, kind, mtime, .. } in listed {
        if let ListedKind::Link(to) = kind {
            in_real_folders(folder, checked(path)?)?;
            let link = folder.join(path);
            symlink(OsStr::new(to), &link)?;
            let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    // Modes of folders last, from below: one may be without the right to write.
    for Listed { path, kind, mode, .. } in listed.iter().rev() {
        if *kind == ListedKind::Folder {
            fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode & 0o7777))?;
        }
    }
    Ok(())
}

/// Whether all above it is a folder, and no link to one.
fn in_real_folders(folder: &Path, path: &Path) -> io::Result<()> {
    for parent in path.ancestors().skip(1) {
        if !fs::symlink_metadata(folder.join(parent))?.is_dir() {
            let told = format!("`{}` is below something that is no folder", path.display());
            return Err(io::Error::other(told));
        }
    }
    Ok(())
}

/// A path that stays below where it begins. The order is as little to be trusted as its sender.
fn checked(path: &str) -> io::Result<&Path> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    match plain && !path.is_empty() {
        true => Ok(Path::new(path)),
        false => Err(io::Error::other(format!("`{}` is no path in a context", path.escape_default()))),
    }
}

fn time((seconds, nanoseconds): (i64, u32)) -> io::Result<SystemTime> {
    let whole = match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        Err(_) => SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    };
    let time = whole.and_then(|whole| whole.checked_add(Duration::from_nanos(nanoseconds.into())));
    time.ok_or_else(|| io::Error::other(format!("{seconds} is no time of a file")))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn contexts_are_as_they_were_and_stay_in_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("contexts/0/d");
        fs::create_dir_all(&input).unwrap();
        fs::write(input.join("f"), "text").unwrap();
        fs::set_permissions(input.join("f"), fs::Permissions::from_mode(0o444)).unwrap();
        let entry = |path: &str, kind, mode, seconds| Listed {
            path: path.to_owned(),
            kind,
            mode,
            mtime: (seconds, 5),
        };
        let listed = [
            entry("d", ListedKind::Folder, 0o555, 1),
            entry("d/f", ListedKind::File, 0o4751, 1_000_000_007),
            entry("l", ListedKind::Link("/etc/passwd".to_owned()), 0o777, 1),
        ];
        let folder = dir.path().join("context");
        lay_out(dir.path(), 0, &listed, &folder).unwrap();
        let meta = fs::metadata(folder.join("d/f")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o4751);
        assert_eq!(meta.modified().unwrap(), time((1_000_000_007, 5)).unwrap());
        assert_eq!(fs::read(folder.join("d/f")).unwrap(), b"text");
        assert_eq!(fs::read_link(folder.join("l")).unwrap(), Path::new("/etc/passwd"));
        let link = fs::symlink_metadata(folder.join("l")).unwrap();
        assert_eq!(link.modified().unwrap(), time((1, 5)).unwrap());
        assert_eq!(fs::metadata(folder.join("d")).unwrap().permissions().mode() & 0o7777, 0o555);
        for path in ["../x", "/x", "", "a/../../x", "."] {
            let bad = [entry(path, ListedKind::Folder, 0o755, 1)];
            assert!(lay_out(dir.path(), 0, &bad, &dir.path().join("other")).is_err(), "{path}");
        }
        // No link through another one, and no time that cannot be.
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let link = |path: &str, to: &str| entry(path, ListedKind::Link(to.to_owned()), 0o777, 1);
        let through = [link("a", outside.to_str().unwrap()), link("a/b", "x")];
        assert!(lay_out(dir.path(), 0, &through, &dir.path().join("links")).is_err());
        assert!(fs::symlink_metadata(outside.join("b")).is_err());
        assert!(time((i64::MAX, u32::MAX)).is_err() && time((i64::MIN, 0)).is_ok());
        fs::set_permissions(folder.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
