//! As much of ZIP (APPNOTE 6.3) as archives of Java need: the central directory, and entries that are stored or deflated.

use std::borrow::Cow;
use std::io::Read as _;

/// As many entries as are looked at.
const ENTRIES: usize = 1 << 20;

/// What may still be inflated.
pub(super) struct Budget(pub(super) u64);

impl Budget {
    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    fn take(&mut self, bytes: u64) -> Result<(), String> {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err("more is in it than is read".to_owned())
            }
        }
    }
}

/// An archive.
pub(super) struct Zip<'b> {
    bytes: &'b [u8],
    pub(super) entries: Vec<Entry>,
}

/// A file in it.
pub(super) struct Entry {
    pub(super) name: String,
    method: u16,
    packed: u64,
    size: u64,
    offset: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'b> Zip<'b> {
    /// Reads the central directory.
    pub(super) fn open(bytes: &'b [u8]) -> Result<Self, String> {
        Self::parse(bytes).ok_or_else(|| "it is no ZIP archive, or a damaged one".to_owned())
    }

    fn parse(bytes: &'b [u8]) -> Option<Self> {
        const END: &[u8] = b"PK\x05\x06";
        // The end is followed by a comment of at most 65,535 bytes.
        let from = bytes.len().saturating_sub(22 + 65_535);
        let end = from + bytes[from..].windows(4).rposition(|four| four == END)?;
        let (mut len, mut start) = (u64::from(u32_at(bytes, end + 12)?), u64::from(u32_at(bytes, end + 16)?));
        if start == u64::from(u32::MAX) || len == u64::from(u32::MAX) {
            // The end of ZIP64, which a locator before the end points at.
            let locator = bytes.get(end.checked_sub(20)?..end)?;
            let at =
                usize::try_from(u64_at(locator, 8)?).ok().filter(|_| locator.starts_with(b"PK\x06\x07"))?;
            (len, start) = (u64_at(bytes, at.checked_add(40)?)?, u64_at(bytes, at.checked_add(48)?)?);
        }
        // What somebody put before the archive shifts all offsets.
        let shift =
            (end as u64).checked_sub(start.checked_add(len)?).filter(|_| start != 0 || len != 0).unwrap_or(0);
        let is_there = |at: u64| {
            usize::try_from(at)
                .ok()
                .and_then(|at| bytes.get(at..))
                .is_some_and(|b| b.starts_with(b"PK\x01\x02"))
        };
        let shift = if is_there(start) { 0 } else { shift };
        let mut rest = bytes.get(usize::try_from(start.checked_add(shift)?).ok()?..)?;
        let mut entries = Vec::new();
        while rest.starts_with(b"PK\x01\x02") && entries.len() < ENTRIES {
            let (name_len, extra_len) = (usize::from(u16_at(rest, 28)?), usize::from(u16_at(rest, 30)?));
            let comment_len = usize::from(u16_at(rest, 32)?);
            let name = rest.get(46..46 + name_len)?;
            let extra = rest.get(46 + name_len..46 + name_len + extra_len)?;
            let mut entry = Entry {
                name: String::from_utf8_lossy(name).into_owned(),
                method: u16_at(rest, 10)?,
                packed: u64::from(u32_at(rest, 20)?),
                size: u64::from(u32_at(rest, 24)?),
                offset: u64::from(u32_at(rest, 42)?),
            };
            entry.widen(extra);
            entry.offset = entry.offset.checked_add(shift)?;
            entries.push(entry);
            rest = rest.get(46 + name_len + extra_len + comment_len..)?;
        }
        Some(Self { bytes, entries })
    }

    /// The bytes of an entry, of at most `limit`.
    pub(super) fn read(
        &self,
        entry: &Entry,
        limit: u64,
        budget: &mut Budget,
    ) -> Result<Cow<'b, [u8]>, String> {
        let name = &entry.name;
        let broken = || format!("`{name}` in it is damaged");
        if entry.size > limit {
            return Err(format!("`{name}` in it has {} bytes, more than {limit}", entry.size));
        }
        budget.take(entry.size.max(entry.packed))?;
        let at = usize::try_from(entry.offset).map_err(|_| broken())?;
        let header =
            self.bytes.get(at..).filter(|header| header.starts_with(b"PK\x03\x04")).ok_or_else(broken)?;
        let lens = u16_at(header, 26).zip(u16_at(header, 28)).ok_or_else(broken)?;
        let data = header.get(30 + usize::from(lens.0) + usize::from(lens.1)..).ok_or_else(broken)?;
        let packed = usize::try_from(entry.packed).ok().and_then(|len| data.get(..len)).ok_or_else(broken)?;
        match entry.method {
            0 => Ok(Cow::Borrowed(packed)),
            8 => {
                let mut raw = Vec::new();
                let decoder = flate2::read::DeflateDecoder::new(packed);
                decoder.take(entry.size).read_to_end(&mut raw).map_err(|_| broken())?;
                Ok(Cow::Owned(raw))
            }
            method => Err(format!("`{name}` in it is compressed by method {method}, which is not supported")),
        }
    }

    /// A small text; none where it cannot be read.
    pub(super) fn text(&self, entry: &Entry, limit: u64, budget: &mut Budget) -> Option<String> {
        let bytes = self.read(entry, limit, budget).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Entry {
    /// Numbers that need more than 32 bits stand in an extra field, in this order.
    fn widen(&mut self, mut extra: &[u8]) {
        while let Some((kind, len)) = u16_at(extra, 0).zip(u16_at(extra, 2)) {
            let Some(mut field) = extra.get(4..4 + usize::from(len)) else { return };
            if kind == 1 {
                for number in [&mut self.size, &mut self.packed, &mut self.offset] {
                    if *number == u64::from(u32::MAX) {
                        let Some(wide) = u64_at(field, 0) else { return };
                        (*number, field) = (wide, &field[8..]);
                    }
                }
            }
            extra = &extra[4 + usize::from(len)..];
        }
    }
}
