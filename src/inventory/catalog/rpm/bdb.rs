//! A hash of Berkeley DB (`dbinc/db_page.h`), as far as rpm used it: values in pages of their own.

use super::{HEADER_LIMIT, Sink};

const MAGIC: u32 = 0x0006_1561;
const HEAD: usize = 26;
/// Types of pages.
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
/// A value that is in pages of its own.
const OFF_PAGE: u8 = 3;

struct Database<'b> {
    bytes: &'b [u8],
    page_size: usize,
    is_big: bool,
}

const BROKEN: &str = "the Berkeley DB is damaged";

/// Hands each value of more than a page to `sink`.
pub(super) fn walk(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), String> {
    let little = Database { bytes, page_size: 0, is_big: false };
    let is_big = match little.u32(bytes, 12).ok_or(BROKEN)? {
        MAGIC => false,
        magic if magic.swap_bytes() == MAGIC => true,
        _ => return Err("it is no hash of Berkeley DB".to_owned()),
    };
    let database = Database { is_big, ..little };
    let page_size = database.u32(bytes, 20).ok_or(BROKEN)? as usize;
    if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() {
        return Err(BROKEN.to_owned());
    }
    let database = Database { page_size, ..database };
    // Each value is there once, so all together are not longer than the file.
    let mut left = bytes.len();
    for page in bytes.chunks_exact(page_size) {
        if !matches!(page[25], HASH | HASH_UNSORTED) {
            continue;
        }
        let entries = usize::from(database.u16(page, 20).ok_or(BROKEN)?);
        // Keys and values take turns.
        for entry in (1..entries).step_by(2) {
            let at = usize::from(database.u16(page, HEAD + 2 * entry).ok_or(BROKEN)?);
            // A short value is rpm's next number.
            if page.get(at) != Some(&OFF_PAGE) {
                continue;
            }
            let (first, len) =
                (database.u32(page, at + 4).ok_or(BROKEN)?, database.u32(page, at + 8).ok_or(BROKEN)?);
            let len = usize::try_from(len).ok().filter(|len| *len <= HEADER_LIMIT).ok_or(BROKEN)?;
            left = left.checked_sub(len).ok_or(BROKEN)?;
            sink(&database.value(first, len)?)?;
        }
    }
    Ok(())
}

impl Database<'_> {
    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let two = *bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.is_big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let four = *bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    /// A value in pages that name the next; a circle ends with the value's length.
    fn value(&self, mut next: u32, len: usize) -> Result<Vec<u8>, String> {
        let mut value = Vec::new();
        while value.len() < len {
            let start =
                (next as usize).checked_mul(self.page_size).filter(|start| *start > 0).ok_or(BROKEN)?;
            let page = self.bytes.get(start..).and_then(|rest| rest.get(..self.page_size)).ok_or(BROKEN)?;
            let used = usize::from(self.u16(page, 22).ok_or(BROKEN)?);
            let piece = page.get(HEAD..HEAD + used).filter(|piece| page[25] == OVERFLOW && !piece.is_empty());
            let piece = piece.ok_or(BROKEN)?;
            value.extend_from_slice(&piece[..piece.len().min(len - value.len())]);
            next = self.u32(page, 16).ok_or(BROKEN)?;
        }
        Ok(value)
    }
}
