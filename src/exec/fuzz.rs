//! What the fuzz target `orders` holds messages to that processes around a step send each other.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use super::decode_messages;
use super::wire::channel;

/// Receives bytes as zygote, init and worker do: a message is what was said of its length, and what it decodes to reads the
/// same once it was written. At most as many bytes as a socket takes at once.
pub fn check(bytes: &[u8]) {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets can be made");
    ours.write_all(bytes).expect("the socket takes a short text at once");
    drop(ours);
    let mut left = bytes;
    while let Ok(Some((message, files))) = channel::receive_with(&theirs) {
        assert!(files.is_empty());
        let (length, rest) = left.split_first_chunk::<8>().expect("a message has a length before it");
        let (expected, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        assert_eq!(message, expected);
        left = rest;
        // What the command's process tells comes one a line.
        message.split(|byte| *byte == b'\n').for_each(|line| {
            decode_messages(line);
        });
    }
    decode_messages(bytes);
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn messages_of_any_kind() {
        let mut stream = Vec::new();
        for message in [r#""Root""#, r#"{"Exited":1}"#, "", "{"] {
            stream.extend((message.len() as u64).to_le_bytes());
            stream.extend(message.bytes());
        }
        for end in 0..=stream.len() {
            check(&stream[..end]);
        }
    }
}
