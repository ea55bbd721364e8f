//! PAX extended headers (POSIX.1-2001, pax, "pax Extended Header").

use std::collections::BTreeMap;

use super::error::Problem;

/// What an extended header says of the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) is_sparse: bool,
}

/// The way in which star, GNU tar, docker and BuildKit write extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// What overlayfs keeps in attributes: never part of an image, and dangerous in a lower directory.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Reads all records. Unknown keys are ignored, as the standard asks for.
pub(super) fn parse(mut data: &[u8]) -> Result<Pax, Problem> {
    let mut pax = Pax::default();
    while let Some((record, rest)) = split_record(data)? {
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(Problem::Pax)?;
        pax.set(&record[..equals], &record[equals + 1..])?;
        data = rest;
    }
    Ok(pax)
}

type RecordAndRest<'d> = (&'d [u8], &'d [u8]);

/// Takes `LEN KEY=VALUE\n` off the front; LEN counts the whole record, so values may hold anything.
fn split_record(data: &[u8]) -> Result<Option<RecordAndRest<'_>>, Problem> {
    // GNU tar pads the last record with NULs now and then.
    if data.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let blank = data.iter().take(20).position(|byte| *byte == b' ').ok_or(Problem::Pax)?;
    let digits = std::str::from_utf8(&data[..blank]).map_err(|_| Problem::Pax)?;
    let len: usize = digits.parse().map_err(|_| Problem::Pax)?;
    if len <= blank + 1 || len > data.len() || data[len - 1] != b'\n' {
        return Err(Problem::Pax);
    }
    Ok(Some((&data[blank + 1..len - 1], &data[len..])))
}

impl Pax {
    /// An empty value takes the field back: the header block's value counts.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        match key {
            b"path" => self.path = non_empty(value),
            b"linkpath" => self.link_path = non_empty(value),
            b"size" => self.size = number(value, "size")?,
            b"uid" => self.uid = number(value, "uid")?,
            b"gid" => self.gid = number(value, "gid")?,
            b"mtime" => self.mtime = seconds(value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.set_xattr(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), Problem> {
        if name.contains(&0) || name.is_empty() {
            return Err(Problem::Pax);
        }
        if !OVERLAY_XATTRS.iter().any(|prefix| name.starts_with(prefix)) {
            self.xattrs.insert(name.to_vec(), value.to_vec());
        }
        Ok(())
    }
}

fn non_empty(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn number(value: &[u8], name: &'static str) -> Result<Option<i64>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).map_err(|_| Problem::Number(name))?;
    text.parse().map(Some).map_err(|_| Problem::Number(name))
}

/// Whole seconds of a decimal fraction, rounded down, so that a time before 1970 does not move forward.
fn seconds(value: &[u8]) -> Result<Option<i64>, Problem> {
    let dot = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let fraction = value.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Problem::Number("mtime"));
    }
    let is_negative = value.starts_with(b"-");
    let whole = number(&value[..dot], "mtime")?;
    let has_rest = fraction.iter().any(|digit| *digit != b'0');
    Ok(whole.map(|whole| if is_negative && has_rest { whole.saturating_sub(1) } else { whole }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_equal_signs() {
        let pax = parse(b"34 SCHILY.xattr.user.a=1\n2=3\n\0\xff45\n14 path=x\ny=z\n").unwrap();
        assert_eq!(pax.xattrs[b"user.a".as_slice()], b"1\n2=3\n\0\xff45");
        assert_eq!(pax.path.unwrap(), b"x\ny=z");
    }

    #[test]
    fn overlay_attributes_are_dropped() {
        let pax = parse(b"41 SCHILY.xattr.trusted.overlay.opaque=y\n").unwrap();
        assert!(pax.xattrs.is_empty());
    }

    #[test]
    fn times_round_down() {
        for (text, time) in [("1.9", 1), ("-1.5", -2), ("-1.0", -1), ("-0.5", -1), ("7", 7)] {
            assert_eq!(seconds(text.as_bytes()), Ok(Some(time)), "{text}");
        }
        assert!(seconds(b"1.x").is_err());
        assert!(seconds(b"x").is_err());
    }

    #[test]
    fn malformed_records_are_refused() {
        for data in
            ["5 a=b", "99 a=b\n", "x a=b\n", "0 a=b\n", "3 \n", "4 ab\n", "18446744073709551616 a=b\n"]
        {
            assert_eq!(parse(data.as_bytes()), Err(Problem::Pax), "{data}");
        }
    }
}
