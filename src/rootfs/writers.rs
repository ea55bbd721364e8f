//! Whether somebody could write to an open file without the kernel stamping its times.
//!
//! A write through a shared mapping is stamped when it makes a clean page dirty, and not again until the page was written
//! to disk: what is written to a dirty page leaves the times as they are. Both functions here end that: after them
//! every further write is stamped, before its bytes can be read. Neither says anything of file systems in memory (tmpfs), where a
//! page that was only read from is open to writes that are never stamped.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Whether nobody has the file open for writing or mapped so, in any process. `file` must be open for reading only.
///
/// It asks for a read lease and gives it back at once. `false`, too, where leases are refused: to a file of
/// another user without `CAP_LEASE`, or by the file system. overlayfs grants them blindly.
pub fn has_no_writer(file: &File) -> bool {
    let fcntl = |command, value: libc::c_int| {
        // SAFETY: the commands take an integer and change nothing but the state of this open file.
        unsafe { libc::fcntl(file.as_raw_fd(), command, value) == 0 }
    };
    /// Of fcntl.h; the crate does not have it.
    const F_SETSIG: libc::c_int = 10;
    // Who opens the file for writing in between has a signal sent to this process: SIGIO would end it, this one is ignored unless
    // somebody asks for it. They wait until the lease is given back.
    fcntl(F_SETSIG, libc::SIGURG)
        && fcntl(libc::F_SETLEASE, libc::F_RDLCK)
        && fcntl(libc::F_SETLEASE, libc::F_UNLCK)
}

/// Has the pages that are dirty written to disk, whoever has the file mapped, and waits for it. Cheap, some 2 µs, where none
/// is. `false` where that cannot be had, such as on tmpfs and on an overlayfs above one.
///
/// Unlike `fdatasync` it waits for no journal, and it works on overlayfs mounted `volatile`, where that does nothing.
pub fn write_back(file: &File) -> bool {
    /// `struct fiemap` of linux/fiemap.h without room for extents.
    #[repr(C)]
    #[derive(Default)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped_extents: u32,
        extent_count: u32,
        reserved: u32,
    }
    const SYNC: u32 = 1;
    const FS_IOC_FIEMAP: libc::Ioctl = libc::_IOWR::<Fiemap>(b'f' as u32, 11);
    // What is asked for is one byte, so that a file of many extents costs no more; what is written is the whole file.
    let mut request = Fiemap { length: 1, flags: SYNC, ..Fiemap::default() };
    // SAFETY: the kernel reads and writes `request`, which is whole, and no extents, as there is room for none.
    unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut request) == 0 }
}
