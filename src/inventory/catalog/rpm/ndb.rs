//! rpm's own database, ndb (`lib/backend/ndb/rpmpkg.c`): slots that point at blobs.

use super::Sink;

const PAGE: usize = 4096;
/// The first two places for slots are the file's header.
const SLOT: usize = 16;
const BLOCK: usize = 16;

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

/// Hands each blob to `sink`.
pub(super) fn walk(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), String> {
    let broken = || "the ndb database is damaged".to_owned();
    if !bytes.starts_with(b"RpmP") || number(bytes, 4) != Some(0) {
        return Err("it is no ndb database".to_owned());
    }
    let pages = number(bytes, 12).ok_or_else(broken)? as usize;
    let slots = pages.checked_mul(PAGE).and_then(|len| bytes.get(..len)).ok_or_else(broken)?;
    // Each blob is there once, so all together are not longer than the file.
    let mut left = bytes.len();
    for slot in slots.chunks_exact(SLOT).skip(2) {
        let (index, block) = (number(slot, 4).unwrap_or(0), number(slot, 8).unwrap_or(0));
        if !slot.starts_with(b"Slot") || block == 0 {
            continue;
        }
        let start = (block as usize).checked_mul(BLOCK).ok_or_else(broken)?;
        let blob = bytes.get(start..).filter(|blob| blob.starts_with(b"BlbS")).ok_or_else(broken)?;
        if number(blob, 4) != Some(index) {
            return Err(broken());
        }
        let len = number(blob, 12).ok_or_else(broken)? as usize;
        left = left.checked_sub(len).ok_or_else(broken)?;
        let data = blob.get(16..).and_then(|rest| rest.get(..len)).ok_or_else(broken)?;
        sink(data)?;
    }
    Ok(())
}
