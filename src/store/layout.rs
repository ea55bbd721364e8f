//! The folders of a store, and the file that tells its version.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Error, Folder, files};

/// The newest format that this program reads and writes.
pub(super) const VERSION: u32 = 1;

/// Blobs and the folders above them are readable by everyone, so that other tools can read the layout.
const PUBLIC: u32 = 0o755;
/// Preimages, cache mounts and trees with setuid files are nobody else's affair.
const PRIVATE: u32 = 0o700;

/// Makes sure that `root` is a store of a known version. For one that exists this is a single read.
pub(super) fn prepare(root: &Path) -> Result<(), Error> {
    if let Some(found) = version(root)? {
        return check(root, found);
    }
    refuse_strangers(root)?;
    make_dir(root, PUBLIC)?;
    make_dir(&root.join("rbuild"), PRIVATE)?;
    make_blobs(root)?;
    for folder in [Folder::Scratch, Folder::Trash, Folder::Tags, Folder::Records] {
        make_dir(&root.join("rbuild").join(folder.name()), PRIVATE)?;
    }
    let lock = super::lock::exclusive(&root.join("rbuild/index.lock"))?;
    // Another process may have finished this while we waited.
    if version(root)?.is_none() {
        write_first_files(root)?;
    }
    drop(lock);
    Ok(())
}

/// The version file comes last: a store that has one is complete.
fn write_first_files(root: &Path) -> Result<(), Error> {
    let process = super::scratch::ProcessDir::create(&root.join("rbuild/tmp"))?;
    let write =
        |name: &str, text: &[u8], mode| files::replace(&process.next_path(), &root.join(name), text, mode);
    let written = super::tags::index(&root.join("rbuild/tags"))
        .and_then(|index| write("index.json", &index, 0o644))
        .and_then(|()| write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644))
        .and_then(|()| write("rbuild/version", format!("{VERSION}\n").as_bytes(), 0o644));
    process.remove(&root.join("rbuild/trash"));
    written
}

fn version(root: &Path) -> Result<Option<u32>, Error> {
    let path = root.join("rbuild/version");
    let Some(text) = files::read_written(&path)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text).into_owned();
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Error::Corrupt { path, reason: format!("`{}` is no version number", text.trim()) }),
    }
}

fn check(root: &Path, found: u32) -> Result<(), Error> {
    if found > VERSION {
        return Err(Error::NewerVersion { root: root.to_owned(), found, known: VERSION });
    }
    Ok(())
}

/// A new store goes into a new or an empty directory: `index.json` of somebody else's layout would be
/// overwritten, and `--root .` by mistake would litter a project.
fn refuse_strangers(root: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", root, e)),
    };
    let names: Vec<_> = entries.filter_map(Result::ok).map(|e| e.file_name()).collect();
    // Our own folder without a version file: another process is just making the store, or died there.
    let is_begun = names.iter().any(|name| name == "rbuild");
    let own: &[&str] = if is_begun { &["rbuild", "blobs", "oci-layout", "index.json"] } else { &[] };
    let is_expected = |name: &std::ffi::OsString| name == "lost+found" || own.iter().any(|own| name == own);
    match names.iter().find(|name| !is_expected(name)) {
        None => Ok(()),
        Some(name) => {
            Err(Error::NotAStore { root: root.to_owned(), example: name.to_string_lossy().into_owned() })
        }
    }
}

/// Makes a directory with exactly this mode, whatever the umask; one that exists is left as it is.
fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("create", path, not_a_directory(e)))?;
    }
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(|e| Error::io("set the mode of", path, e)),
        Err(_) if path.is_dir() => Ok(()),
        Err(e) => Err(Error::io("create", path, not_a_directory(e))),
    }
}

/// Makes the folder of blobs, which somebody may have removed to save space.
pub(super) fn make_blobs(root: &Path) -> Result<(), Error> {
    make_dir(&root.join("blobs"), PUBLIC)?;
    make_dir(&root.join("blobs/sha256"), PUBLIC)
}

/// `EEXIST` where no directory is means that something else stands there.
fn not_a_directory(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return rustix::io::Errno::NOTDIR.into();
    }
    error
}

/// Makes one of rbuild's own folders.
pub(super) fn make_private(path: &Path) -> Result<(), Error> {
    make_dir(path, PRIVATE)
}
