//! Writing and reading plain descriptors.

use std::os::fd::OwnedFd;

/// Writes everything.
pub(in crate::exec) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Reads once, and tells whether there may be more.
pub(in crate::exec) fn read_some(file: &OwnedFd, into: &mut Vec<u8>) -> rustix::io::Result<bool> {
    let mut buffer = [0; 4096];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer))?;
    into.extend_from_slice(&buffer[..length]);
    Ok(length > 0)
}
