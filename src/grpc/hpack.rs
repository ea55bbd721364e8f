//! Headers as HTTP/2 packs them (HPACK, RFC 7541): reads all of it, and writes its plainest form.

use std::collections::VecDeque;

use super::huffman;

/// A header: its name, and its value. What is no UTF-8 has U+FFFD in its place.
pub(super) type Header = (String, String);

/// What a block of headers may come to when it is unpacked, in bytes. gRPC's own libraries take 8 to 16 KiB.
const BLOCK_LIMIT: usize = 256 << 10;
/// The table of headers that the server may refer to, in bytes as the standard counts them. Nothing else was agreed on.
const TABLE_LIMIT: usize = 4096;

/// Unpacks the headers of one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    limit: usize,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { table: VecDeque::new(), size: 0, limit: TABLE_LIMIT }
    }

    /// The headers of a block; `None` when it is none, and then nothing more can be unpacked.
    pub(super) fn unpack(&mut self, mut block: &[u8]) -> Option<Vec<Header>> {
        let (mut headers, mut size) = (Vec::new(), 0);
        while let Some(first) = block.first() {
            let (name, value) = match first {
                0x80.. => self.entry(integer(&mut block, 7)?)?,
                0x40.. => {
                    let header = self.literal(&mut block, 6)?;
                    self.keep(header.clone());
                    header
                }
                0x20.. => {
                    let limit = integer(&mut block, 5)?;
                    self.limit = Some(limit).filter(|limit| *limit <= TABLE_LIMIT)?;
                    self.shrink();
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            size += name.len() + value.len() + 32;
            if size > BLOCK_LIMIT {
                return None;
            }
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            headers.push((text(name), text(value)));
        }
        Some(headers)
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let name = match integer(block, prefix)? {
            0 => string(block)?,
            index => self.entry(index)?.0,
        };
        Some((name, string(block)?))
    }

    fn entry(&self, index: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.table.get(index - STATIC.len()).cloned(),
        }
    }

    fn keep(&mut self, header: (Vec<u8>, Vec<u8>)) {
        self.size += size_of(&header);
        self.table.push_front(header);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.size > self.limit
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= size_of(&oldest);
        }
    }
}

fn size_of((name, value): &(Vec<u8>, Vec<u8>)) -> usize {
    name.len() + value.len() + 32
}

/// A number whose first byte has `prefix` bits for it.
fn integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let mask = (1_usize << prefix) - 1;
    let mut number = usize::from(*block.split_off_first()?) & mask;
    if number < mask {
        return Some(number);
    }
    // Four bytes more are 2^28, which is beyond all that is taken.
    for shift in [0, 7, 14, 21] {
        let byte = *block.split_off_first()?;
        number += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn string(block: &mut &[u8]) -> Option<Vec<u8>> {
    let is_packed = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let bytes = block.split_off(..length)?;
    if is_packed { huffman::unpack(bytes) } else { Some(bytes.to_vec()) }
}

/// Whether others than the server may remember a header: proxies pack it again as they were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    Usual,
    /// It is a secret, and is in no table.
    Never,
}

/// Adds a header to a block: in plain letters, and in nobody's table.
pub(super) fn pack(block: &mut Vec<u8>, name: &str, value: &str, keeping: Keeping) {
    block.push(if keeping == Keeping::Never { 0x10 } else { 0 });
    for text in [name, value] {
        put_integer(block, text.len());
        block.extend(text.as_bytes());
    }
}

/// A number with seven bits of the first byte for it; the eighth is zero, as the string is not packed.
fn put_integer(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(0x7f) else { return block.push(number as u8) };
    block.push(0x7f);
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn shown(decoder: &mut Decoder, hex: &str) -> Option<String> {
        let headers = decoder.unpack(&bytes(hex))?;
        Some(headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect())
    }

    /// Appendix C.6 of the standard, in which a table of 256 bytes drops entries.
    #[test]
    fn three_answers_of_the_standard() {
        let mut decoder = Decoder { limit: 256, ..Decoder::new() };
        let first = "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3";
        let expected = ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n";
        assert_eq!(shown(&mut decoder, first).unwrap(), expected);
        assert_eq!(decoder.size, 222);
        assert_eq!(shown(&mut decoder, "4883640effc1c0bf").unwrap(), expected.replace("302", "307"));
        let third = "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007";
        let expected = ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\ncontent-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";
        assert_eq!(shown(&mut decoder, third).unwrap(), expected);
        assert_eq!((decoder.size, decoder.table.len()), (215, 3));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut block = Vec::new();
        let long = "x".repeat(70_000);
        let headers = [(":method", "POST"), ("authorization", "Bearer abc"), ("long", &long)];
        for (name, value) in headers {
            pack(&mut block, name, value, Keeping::Never);
        }
        let mut decoder = Decoder::new();
        let read = decoder.unpack(&block).unwrap();
        assert_eq!(read, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(decoder.table.is_empty());
        for end in 1..200 {
            // Broken off, it is the headers before, or none.
            assert!(Decoder::new().unpack(&block[..end]).is_none_or(|headers| headers.len() < 3));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        // No such entry; entry 0; a number without an end; a string that is too short; a table larger than agreed on.
        for hex in ["be", "80", "ffffffffffff", "ff8080808080", "000561", "3fe21f"] {
            assert_eq!(shown(&mut Decoder::new(), hex), None, "{hex}");
        }
        // A small block that comes to much: an entry of 4000 bytes, named a thousand times.
        let mut block = vec![0x40, 1, b'a'];
        put_integer(&mut block, 4000);
        block.extend([b'x'; 4000]);
        block.extend([0xbe; 1000]);
        assert!(Decoder::new().unpack(&block).is_none());
    }
}
