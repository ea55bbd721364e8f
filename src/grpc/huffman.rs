//! The code in which strings of headers are packed (RFC 7541, appendix B).

/// How many bits the code of each byte has, and in the end that of the end of a string. The code is a canonical one: ordered by
/// length and then by byte, each is the one before plus one. So the lengths are all there is to know.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
const LONGEST: usize = 30;
/// The end of a string, which no string may hold.
const END: u16 = 256;

/// For each length of a code: the first such code, how many there are, and where their bytes begin in `order`.
struct Table {
    lengths: [(u32, u32, usize); LONGEST + 1],
    order: [u16; 257],
}

const TABLE: Table = table();

const fn table() -> Table {
    let mut table = Table { lengths: [(0, 0, 0); LONGEST + 1], order: [0; 257] };
    let (mut code, mut at, mut length) = (0, 0, 1);
    while length <= LONGEST {
        let (first, from) = (code, at);
        let mut byte = 0;
        while byte < LENGTHS.len() {
            if LENGTHS[byte] as usize == length {
                table.order[at] = byte as u16;
                at += 1;
                code += 1;
            }
            byte += 1;
        }
        table.lengths[length] = (first, code - first, from);
        code <<= 1;
        length += 1;
    }
    table
}

/// The string that was packed; `None` when it is none.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(packed.len() * 2);
    // The bits of a code that is not complete.
    let (mut code, mut length) = (0_u32, 0_usize);
    for bit in packed.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        let (first, count, from) = *TABLE.lengths.get(length)?;
        if let Some(offset) = code.checked_sub(first).filter(|offset| *offset < count) {
            let byte = TABLE.order[from + offset as usize];
            if byte == END {
                return None;
            }
            out.push(byte as u8);
            (code, length) = (0, 0);
        }
    }
    // The last byte is filled with the beginning of the end's code, which is ones.
    (length < 8 && code == (1 << length) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap_or_default());
        digits.map(|two| u8::from_str_radix(two, 16).unwrap_or_default()).collect()
    }

    #[test]
    fn strings_of_the_standard() {
        for (packed, expected) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("", ""),
        ] {
            assert_eq!(unpack(&bytes(packed)).as_deref(), Some(expected.as_bytes()), "{packed}");
        }
    }

    /// All bytes from 0 to 255, as python's `hpack` packs them.
    const ALL: &str = "ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfffffebfffffecfffffedfffffeefffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdffffffe3fffffe7fffffebfffffed4fe3f9ffaffcabf1febfafefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7fffc3ff9ffe45fff4719242cb34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ffff53fffd5ffffb3fffeb7fffdaffffb7ffff73fffeeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffffeeffffc3ffff8bffff1ffffe4fffee7fffb1ffff97fffd9ffffcdffff9fffffbffffdafffeeffff4ffffb7fffee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fffff5ffffecffff07fff87fffe0ffff17fffedffff87ffff77fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1fffebfffe3ffff3fffff2ffffa3ffffd9fffff17ffffc7fffff27ffffdefffffbffffff2fffff8fffffb7fff97fff8fffffe6fffffc1fffff87ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff4ffffffefffffe3fffffc9fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffffcffffeaffffafffffddffffeffffff4fffff5fffffabffffa7ffffd7fffff9bffffecfffffb7fffff3fffffe8fffffd3fffffabfffff5fffffff7ffffecfffffdbfffffbbfffff7ffffff0fffffbbf";

    #[test]
    fn every_byte() {
        assert_eq!(unpack(&bytes(ALL)), Some((0..=255).collect()));
    }

    #[test]
    fn what_is_none_is_refused() {
        // The end of a string in one; eight bits of filling; filling that is not ones.
        for packed in ["ffffffff", "ff", "f1e3c2e5f23a6ba0ab90f4ffff", "00"] {
            assert_eq!(unpack(&bytes(packed)), None, "{packed}");
        }
    }
}
