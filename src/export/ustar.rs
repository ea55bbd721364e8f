//! Members of an archive whose bytes depend on nothing but names and contents.

use tar::{EntryType, Header};

/// The header of a file or a folder: time 0, owner 0. The name is short and relative.
pub(crate) fn header(name: &str, size: u64, kind: EntryType) -> [u8; 512] {
    let mut header = Header::new_ustar();
    header.set_path(name).expect("these names are short and relative");
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    *header.as_bytes()
}

/// What follows the content of a file of `size` bytes.
pub(crate) fn padding(size: u64) -> &'static [u8] {
    &[0; 512][..((512 - size % 512) % 512) as usize]
}

/// What stands at the end of an archive.
pub(crate) const END: [u8; 1024] = [0; 1024];
