//! Frames of HTTP/2 as bytes (RFC 9113, 4 and 6).

/// The first bytes that a client says.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The bytes before a frame's payload.
pub(super) const HEAD: usize = 9;
/// What the server may put into one frame. Larger ones are fewer calls of the system.
pub(super) const OUR_MAX_FRAME: usize = 256 << 10;

/// Kinds of frames.
pub(super) mod kind {
    pub(in crate::grpc) const DATA: u8 = 0;
    pub(in crate::grpc) const HEADERS: u8 = 1;
    pub(in crate::grpc) const RST_STREAM: u8 = 3;
    pub(in crate::grpc) const SETTINGS: u8 = 4;
    pub(in crate::grpc) const PUSH_PROMISE: u8 = 5;
    pub(in crate::grpc) const PING: u8 = 6;
    pub(in crate::grpc) const GOAWAY: u8 = 7;
    pub(in crate::grpc) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::grpc) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    pub(in crate::grpc) const END_STREAM: u8 = 0x1;
    pub(in crate::grpc) const ACK: u8 = 0x1;
    pub(in crate::grpc) const END_HEADERS: u8 = 0x4;
    pub(in crate::grpc) const PADDED: u8 = 0x8;
    pub(in crate::grpc) const PRIORITY: u8 = 0x20;
}

/// Numbers of settings.
pub(super) mod setting {
    pub(in crate::grpc) const ENABLE_PUSH: u16 = 2;
    pub(in crate::grpc) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::grpc) const MAX_FRAME_SIZE: u16 = 5;
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and priority; `None` when the frame is broken.
    pub(super) fn content(&self) -> Option<&[u8]> {
        let mut content = &self.payload[..];
        if self.has(flag::PADDED) {
            let padding = usize::from(*content.split_off_first()?);
            let kept = content.len().checked_sub(padding)?;
            content = &content[..kept];
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            content = content.get(5..)?;
        }
        Some(content)
    }

    /// The number in the first four bytes, without its highest bit.
    pub(super) fn number(&self) -> Option<u32> {
        let bytes = self.payload.first_chunk()?;
        Some(u32::from_be_bytes(*bytes) & 0x7fff_ffff)
    }
}

/// How long the payload of the frame is that `bytes` begin with; `None` until its head is there.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let [a, b, c, ..] = *bytes.first_chunk::<HEAD>()?;
    Some(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
}

/// Takes a frame from the front of `bytes`; `None` until all of it is there.
pub(super) fn take(bytes: &[u8]) -> Option<(Frame, usize)> {
    let end = HEAD + length(bytes)?;
    let payload = bytes.get(HEAD..end)?.to_vec();
    let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) & 0x7fff_ffff;
    Some((Frame { kind: bytes[3], flags: bytes[4], stream, payload }, end))
}

/// Adds a frame to what will be sent.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    out.extend(length);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// Adds settings.
pub(super) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let pairs = settings.iter().flat_map(|(name, value)| {
        let (name, value) = (name.to_be_bytes(), value.to_be_bytes());
        name.into_iter().chain(value)
    });
    put(out, kind::SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        put(&mut bytes, kind::DATA, flag::END_STREAM, 7, b"abc");
        put_settings(&mut bytes, &[(setting::ENABLE_PUSH, 0)]);
        assert_eq!(&bytes[..HEAD], [0, 0, 3, 0, 1, 0, 0, 0, 7]);
        for end in 0..12 {
            assert_eq!(take(&bytes[..end]), None);
        }
        let (frame, end) = take(&bytes).unwrap();
        assert_eq!((frame.content().unwrap(), end), (&b"abc"[..], 12));
        assert_eq!(take(&bytes[end..]).unwrap().0.payload, [0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn padding_is_no_content() {
        let frame = |kind, flags, payload: &[u8]| Frame { kind, flags, stream: 1, payload: payload.to_vec() };
        let padded = frame(kind::DATA, flag::PADDED, b"\x02abcxx");
        assert_eq!(padded.content().unwrap(), b"abc");
        assert_eq!(frame(kind::DATA, flag::PADDED, b"\x04abc").content(), None);
        assert_eq!(frame(kind::DATA, flag::PADDED, b"").content(), None);
        let both = frame(kind::HEADERS, flag::PADDED | flag::PRIORITY, b"\x01\0\0\0\x01\x10abcx");
        assert_eq!(both.content().unwrap(), b"abc");
        assert_eq!(frame(kind::HEADERS, flag::PRIORITY, b"abcd").content(), None);
    }
}
