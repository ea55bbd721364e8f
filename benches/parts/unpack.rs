//! Unpacking a gzip layer of 10,000 files, 67 MB, into an empty folder, as a RUN on top of it needs: 0.9 s. Most of it
//! is the kernel's.

use rbuild::layer::archive::Limits;
use rbuild::layer::unpack::{OpaqueMark, Owners, UnpackOptions, unpack};
use rbuild::layer::view::{RootView, ViewEntry};
use rbuild::rootfs::Root;

use super::{Setting, Work, write};

/// Into a fresh folder each time.
pub(crate) fn into_empty(setting: &Setting, files: usize) -> Work {
    let (_, blob) = write::blob(files, write::GZIP);
    let scratch = setting.scratch.clone();
    let options =
        UnpackOptions { owners: Owners::Record, opaque: OpaqueMark::User, limits: Limits::default() };
    let mut number = 0;
    Box::new(move || {
        number += 1;
        let dir = scratch.join(number.to_string());
        std::fs::create_dir(&dir).expect("a folder for the tree");
        let dest = Root::open(&dir).expect("it can be opened");
        let below = RootView::new(Vec::new());
        let mut no_lower = |_: &ViewEntry<'_>| Err(std::io::ErrorKind::NotFound.into());
        drop(unpack(blob.as_slice(), &dest, &below, &options, &mut no_lower).expect("unpacked"));
    })
}
