//! The 512-byte header block: fields as POSIX ustar and GNU tar lay them out.

use super::error::Problem;

/// Everything in a tar is a multiple of this.
pub(super) const BLOCK_BYTES: usize = 512;

/// One header block.
pub(super) struct Block(pub(super) [u8; BLOCK_BYTES]);

/// A field: its name for messages, and where it is.
type Field = (&'static str, usize, usize);

const NAME: Field = ("name", 0, 100);
const MODE: Field = ("mode", 100, 8);
const UID: Field = ("uid", 108, 8);
const GID: Field = ("gid", 116, 8);
const SIZE: Field = ("size", 124, 12);
const MTIME: Field = ("mtime", 136, 12);
const CHECKSUM: Field = ("checksum", 148, 8);
const TYPE_OFFSET: usize = 156;
const LINK_NAME: Field = ("linkname", 157, 100);
const MAGIC_OFFSET: usize = 257;
const DEV_MAJOR: Field = ("devmajor", 329, 8);
const DEV_MINOR: Field = ("devminor", 337, 8);
const PREFIX: Field = ("prefix", 345, 155);

impl Block {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Old tars summed signed bytes; both sums are accepted, as Go does.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let stored = self.number(CHECKSUM).map_err(|_| Problem::Checksum)?;
        let field = CHECKSUM.1..CHECKSUM.1 + CHECKSUM.2;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if field.contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stored == unsigned || stored == signed { Ok(()) } else { Err(Problem::Checksum) }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[TYPE_OFFSET]
    }

    /// The name, with the prefix that POSIX (not GNU) headers have.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = self.text(NAME);
        let prefix = self.text(PREFIX);
        let is_posix = self.0[MAGIC_OFFSET..].starts_with(b"ustar\0");
        if !is_posix || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link_name(&self) -> &[u8] {
        self.text(LINK_NAME)
    }

    pub(super) fn mode(&self) -> Result<u32, Problem> {
        // Some writers put the file type into the field as well.
        Ok((self.number(MODE)? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<i64, Problem> {
        self.number(UID)
    }

    pub(super) fn gid(&self) -> Result<i64, Problem> {
        self.number(GID)
    }

    pub(super) fn size(&self) -> Result<i64, Problem> {
        self.number(SIZE)
    }

    pub(super) fn mtime(&self) -> Result<i64, Problem> {
        self.number(MTIME)
    }

    /// Major and minor number. Headers without ustar magic have no such fields.
    pub(super) fn device(&self) -> Result<(u32, u32), Problem> {
        if !self.0[MAGIC_OFFSET..].starts_with(b"ustar") {
            return Ok((0, 0));
        }
        let number = |field: Field| u32::try_from(self.number(field)?).map_err(|_| Problem::Range(field.0));
        Ok((number(DEV_MAJOR)?, number(DEV_MINOR)?))
    }

    fn field(&self, (_, offset, len): Field) -> &[u8] {
        &self.0[offset..offset + len]
    }

    fn text(&self, field: Field) -> &[u8] {
        until_nul(self.field(field))
    }

    fn number(&self, field: Field) -> Result<i64, Problem> {
        let bytes = self.field(field);
        if bytes[0] & 0x80 != 0 {
            base256(bytes).ok_or(Problem::Range(field.0))
        } else {
            octal(bytes, field.0)
        }
    }
}

/// What stands before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// GNU's extension for numbers that octal digits cannot hold: two's complement, big endian, below a
/// marker bit; `None` when it does not fit.
fn base256(bytes: &[u8]) -> Option<i64> {
    // The marker is bit 7 of the first byte, the sign bit 6: shift both out and back in.
    let first = i64::from((bytes[0] << 1).cast_signed() >> 1);
    bytes[1..].iter().try_fold(first, |value, byte| Some(value.checked_mul(256)? + i64::from(*byte)))
}

/// Octal digits between blanks and NULs; an empty field is 0.
fn octal(bytes: &[u8], name: &'static str) -> Result<i64, Problem> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = bytes.iter().position(|byte| !is_padding(byte)) else { return Ok(0) };
    let digits = until_nul(&bytes[start..]).trim_ascii_end();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value * 8 + i64::from(digit - b'0')),
        _ => Err(Problem::Number(name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(octal(b"0000644\0", "x"), Ok(0o644));
        assert_eq!(octal(b"   644 \0", "x"), Ok(0o644));
        assert_eq!(octal(b"        ", "x"), Ok(0));
        assert_eq!(octal(b"12 4\0", "x"), Err(Problem::Number("x")));
        assert_eq!(octal(b"9", "x"), Err(Problem::Number("x")));
        assert_eq!(octal(b"777777777777", "x"), Ok(0o777_777_777_777));
        assert_eq!(base256(&[0x80, 0, 0, 0, 0, 0, 0x01, 0x02]), Some(258));
        assert_eq!(base256(&[0xff; 12]), Some(-1));
        assert_eq!(base256(&[0x80, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
