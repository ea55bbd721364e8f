//! Messages between rbuild and its re-executed copies: a length, bytes, and open files, over a unix
//! socket whose end of file tells that the other side is gone.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// More than any message needs; a larger length means that the other side is not what we think.
const MESSAGE_LIMIT_BYTES: u64 = 1 << 30;

/// No message has more files: the kernel's SCM_MAX_FD (unix(7)).
pub(in crate::exec) const MOST_FILES: usize = 253;

/// Sends one message; `file` travels with its first byte.
pub(in crate::exec) fn send(
    socket: &UnixStream,
    bytes: &[u8],
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    send_with(socket, bytes, file.as_slice())
}

/// Sends one message; `files`, at most [`MOST_FILES`], travel with its first byte.
pub(in crate::exec) fn send_with(
    mut socket: &UnixStream,
    bytes: &[u8],
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let header = (bytes.len() as u64).to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(&header), IoSlice::new(bytes)];
    let sent = rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    socket.write_all(&header[sent.min(header.len())..])?;
    socket.write_all(&bytes[sent.saturating_sub(header.len())..])
}

/// Receives one message; `None` when the other side closed before it began.
pub(in crate::exec) fn receive(socket: &UnixStream) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    Ok(receive_with(socket)?.map(|(bytes, files)| (bytes, files.into_iter().next())))
}

/// Receives one message with all its files; `None` when the other side closed before it began.
pub(in crate::exec) fn receive_with(mut socket: &UnixStream) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut header = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut header)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    socket.read_exact(&mut header[received.bytes..])?;
    let length = u64::from_le_bytes(header);
    if length > MESSAGE_LIMIT_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message of an impossible length"));
    }
    let mut bytes = Vec::new();
    socket.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((bytes, files)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn carries_bytes_and_a_file() {
        let (a, b) = UnixStream::pair().unwrap();
        let text = vec![7; 1 << 20];
        let expected = text.clone();
        let reader = std::thread::spawn(move || {
            let first = receive(&b).unwrap().unwrap();
            (first, receive(&b).unwrap())
        });
        send(&a, &text, Some(std::io::stdin().as_fd())).unwrap();
        drop(a);
        let ((bytes, file), second) = reader.join().unwrap();
        assert_eq!(bytes, expected);
        assert!(file.is_some());
        assert!(second.is_none());
    }
}
