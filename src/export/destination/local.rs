//! The files of an image in a directory, as `docker build -o DIR` means it.
//!
//! Files belong to the caller, whoever owns them in the image. A setuid or setgid bit that was meant for
//! another owner is therefore dropped. What would give rights to others of the machine is left out where they can reach it,
//! see [`Rights`].

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::export::beside::{self, Written};
use crate::export::files::{Roots, bytes_path};
use crate::export::tree::{CAPABILITY, Stat, Tree};
use crate::export::{Error, LocalMode};
use crate::layer::view::{Kind, ViewEntry};
use crate::oci::Seconds;
use crate::report::{Event, Events};
use crate::rootfs::{Folder, Root, Symlinks};
use crate::store::Store;

/// Writes the files of every image, and the documents beside them; all of `time`, if there is one.
pub(in crate::export) fn write(
    store: &Store,
    all: (&Roots, &[Written]),
    dest: &Path,
    (mode, time): (LocalMode, Option<Seconds>),
    events: &Events,
) -> Result<(), Error> {
    let is_new = !dest.exists();
    // As BuildKit makes it. One that exists keeps its mode.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dest);
    let rights = made.and_then(|()| Rights::in_folder(dest)).map_err(|e| Error::io("create", dest, e))?;
    let written = into(store, all, dest, (mode, time), &rights, events);
    rights.tell(dest, events);
    if written.is_err() && is_new {
        let _ = fs::remove_dir(dest);
    }
    written
}

/// Where the directory's other files do not matter, everything is first written to a hidden folder in it and then
/// moved: when something fails, nothing has changed. A merge is done in place.
fn into(
    store: &Store,
    all: (&Roots, &[Written]),
    dest: &Path,
    (mode, time): (LocalMode, Option<Seconds>),
    rights: &Rights,
    events: &Events,
) -> Result<(), Error> {
    let failed = |action| move |e| Error::io(action, dest, e);
    // Opened once: others may be able to write to a folder in it, or on the way to it.
    let root = Root::open(dest).map_err(failed("open"))?;
    let folder = root.folder(Path::new(""), Symlinks::Refuse).map_err(failed("open"))?;
    let others = folder.names().map_err(failed("read"))?;
    if mode == LocalMode::Copy && !others.is_empty() {
        let mut tree = Tree::of(root).dated(time);
        fill(store, all, &mut tree, rights, events)?;
        return tree.finish();
    }
    let name = OsString::from(format!(".rbuild-{}", crate::store::unique()));
    folder.create_dir(&name).map_err(failed("create a folder in"))?;
    let staging = Staging { name: &name, folder: &folder, root: &root, dest, time };
    let moved = staging.fill(store, all, rights, events).and_then(|tree| staging.replace(tree, &others));
    if moved.is_err() {
        let _ = folder.remove(&name);
    }
    moved
}

/// The hidden folder.
struct Staging<'d> {
    name: &'d OsStr,
    /// What it is in.
    folder: &'d Folder,
    root: &'d Root,
    dest: &'d Path,
    time: Option<Seconds>,
}

impl Staging<'_> {
    fn fill(
        &self,
        store: &Store,
        all: (&Roots, &[Written]),
        rights: &Rights,
        events: &Events,
    ) -> Result<Tree, Error> {
        let path = self.dest.join(self.name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self.root.open_at(Path::new(self.name), flags, 0, Symlinks::Refuse);
        let fd = fd.map_err(|e| Error::io("open", &path, e))?;
        let mut tree = Tree::of(Root::from_fd(Arc::new(fd), path)).dated(self.time);
        fill(store, all, &mut tree, rights, events)?;
        Ok(tree)
    }

    /// Puts what is in it in the place of `others`.
    fn replace(&self, tree: Tree, others: &[OsString]) -> Result<(), Error> {
        let failed = |action, name: &OsStr| {
            let path = self.dest.join(name);
            move |e| Error::io(action, &path, e)
        };
        for name in others {
            self.folder.remove(name).map_err(failed("remove", name))?;
        }
        let folder = self.root.folder(Path::new(self.name), Symlinks::Refuse);
        let moved = folder.and_then(|staged| staged.move_all(self.folder));
        moved.map_err(failed("write", OsStr::new("")))?;
        self.folder.remove(self.name).map_err(failed("remove", self.name))?;
        // Only now: a directory without write permission could not have been moved.
        tree.moved(self.root.clone()).finish()
    }
}

/// Directories first, so that every file has its parent; names of one file share an inode, as in the image.
fn fill(
    store: &Store,
    (roots, written): (&Roots, &[Written]),
    tree: &mut Tree,
    rights: &Rights,
    events: &Events,
) -> Result<(), Error> {
    for (folder, files) in roots {
        if !folder.as_os_str().is_empty() {
            tree.directory(folder, &Stat::default())?;
        }
        for entry in files.view.walk(b"") {
            let path = folder.join(bytes_path(entry.path));
            match entry.node.kind {
                Kind::Directory => tree.directory(&path, &stat(&entry))?,
                Kind::Symlink(target) => tree.symlink(&path, target, entry.node.mtime)?,
                Kind::File { .. } => {}
                Kind::CharDevice { .. } | Kind::BlockDevice { .. } if rights.withhold_device(entry.path) => {}
                kind => special(tree, &path, kind, &entry, events)?,
            }
        }
        files.each_file(store, |names, content| {
            let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(bytes_path(name.path))).collect();
            tree.file(&paths[0], &rights.checked(&names[0], stat(&names[0])), content)?;
            paths[1..].iter().try_for_each(|path| tree.link(path, &paths[0]))
        })?;
    }
    for Written { path, time, bytes } in written {
        tree.file(
            path,
            &Stat { mode: beside::MODE, mtime: *time, ..Stat::default() },
            &mut bytes.as_slice(),
        )?;
    }
    Ok(())
}

/// What gives rights to whoever runs or opens it: set-id bits, capabilities, devices. In a folder that nobody else may
/// enter they are as in the image; anywhere else, others of the machine would have these rights.
struct Rights {
    is_private: bool,
    /// How many files lost some, and the first of them.
    withheld: RefCell<Option<(usize, String)>>,
}

impl Rights {
    /// Files in the folder `dest`.
    fn in_folder(dest: &Path) -> io::Result<Self> {
        let meta = fs::metadata(dest)?;
        let is_mine = meta.uid() == rustix::process::geteuid().as_raw();
        Ok(Self { is_private: is_mine && meta.mode() & 0o011 == 0, withheld: RefCell::default() })
    }

    /// Notes that `path` loses rights, unless it may have them.
    fn withhold(&self, path: &[u8]) -> bool {
        if !self.is_private {
            let mut withheld = self.withheld.borrow_mut();
            withheld.get_or_insert_with(|| (0, String::from_utf8_lossy(path).into_owned())).0 += 1;
        }
        !self.is_private
    }

    /// Notes that a device may not be made there. Others than root cannot make one anyhow, so for them it is no loss.
    fn withhold_device(&self, path: &[u8]) -> bool {
        rustix::process::geteuid().is_root() && self.withhold(path)
    }

    /// `stat` as the program `entry` gets it.
    fn checked<'v>(&self, entry: &ViewEntry<'v>, stat: Stat<'v>) -> Stat<'v> {
        let has_rights = stat.mode & 0o6000 != 0 || stat.xattrs.iter().any(|(name, _)| name == CAPABILITY);
        match has_rights && self.withhold(entry.path) {
            true => Stat { mode: stat.mode & !0o6000, capabilities: false, ..stat },
            false => stat,
        }
    }

    fn tell(&self, dest: &Path, events: &Events) {
        if let Some((count, first)) = &*self.withheld.borrow() {
            let dest = dest.display();
            events.send(Event::Note(format!(
                "others may enter `{dest}`: {count} of its files, such as `/{first}`, are without set-id bits and \
                 capabilities, or left out if they are devices; to have them name a folder that is not there yet, or \
                 `chmod 700 {dest}` first"
            )));
        }
    }
}

fn special(
    tree: &mut Tree,
    path: &Path,
    kind: Kind<'_>,
    entry: &ViewEntry<'_>,
    events: &Events,
) -> Result<(), Error> {
    match tree.special(path, kind, &stat(entry)) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let path = String::from_utf8_lossy(entry.path);
            events.send(Event::Note(format!("device `/{path}` is not exported: only root may make devices")));
            Ok(())
        }
        other => other,
    }
}

fn stat<'v>(entry: &ViewEntry<'v>) -> Stat<'v> {
    let (me, my_group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut mode = entry.node.mode;
    if entry.node.uid != me {
        mode &= !0o4000;
    }
    if entry.node.gid != my_group {
        mode &= !0o2000;
    }
    Stat { mode, mtime: entry.node.mtime, xattrs: entry.node.xattrs, capabilities: true }
}
