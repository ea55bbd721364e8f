//! As much of sqlite's file format as it takes to read all blobs of one table (<https://www.sqlite.org/fileformat2.html>).
//!
//! A page is visited once: a tree whose pages point at each other ends. Overflow pages of one row are followed for as many bytes as
//! the row says. What a write-ahead log beside the file has is not seen, as rpm leaves none behind when it closes the database.

use super::{HEADER_LIMIT, Sink};

/// The deepest tree; with pages of 4 KiB one of five levels holds more than any disk.
const DEPTH: usize = 24;

struct Database<'b> {
    bytes: &'b [u8],
    page_size: usize,
    /// Of each page, what is not reserved at its end.
    usable: usize,
    seen: Vec<bool>,
}

const BROKEN: &str = "the sqlite database is damaged";

/// Hands each row's last blob of the table `table` to `sink`.
pub(super) fn walk(bytes: &[u8], table: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let mut database = Database::open(bytes)?;
    let mut root = None;
    database.tree(1, 0, &mut |row| {
        // type, name, tbl_name, rootpage, sql
        let columns = columns(row).ok_or(BROKEN)?;
        if let [Value::Text(b"table"), Value::Text(name), _, Value::Integer(page), ..] = columns.as_slice()
            && name.eq_ignore_ascii_case(table.as_bytes())
        {
            root = u32::try_from(*page).ok();
        }
        Ok(())
    })?;
    let root = root.ok_or_else(|| format!("the sqlite database has no table `{table}`"))?;
    database.tree(root, 0, &mut |row| {
        let columns = columns(row).ok_or(BROKEN)?;
        let blob = columns.iter().rev().find_map(|value| match value {
            Value::Blob(blob) => Some(*blob),
            _ => None,
        });
        blob.map_or(Ok(()), &mut *sink)
    })
}

impl<'b> Database<'b> {
    fn open(bytes: &'b [u8]) -> Result<Self, String> {
        let head = bytes.get(..100).filter(|head| head.starts_with(b"SQLite format 3\0"));
        let head = head.ok_or("it is no sqlite database")?;
        let page_size = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65536,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return Err(BROKEN.to_owned()),
        };
        let usable = page_size - usize::from(head[20]);
        if usable < 480 {
            return Err(BROKEN.to_owned());
        }
        let seen = vec![false; bytes.len() / page_size + 1];
        Ok(Self { bytes, page_size, usable, seen })
    }

    fn page(&mut self, number: u32) -> Result<&'b [u8], String> {
        let at = (number as usize).checked_sub(1).ok_or(BROKEN)?;
        let is_new = self.seen.get_mut(at).is_some_and(|seen| !std::mem::replace(seen, true));
        let page = self.bytes.get(at * self.page_size..).and_then(|rest| rest.get(..self.page_size));
        page.filter(|_| is_new).ok_or_else(|| BROKEN.to_owned())
    }

    fn tree(&mut self, number: u32, depth: usize, row: &mut Sink<'_>) -> Result<(), String> {
        if depth > DEPTH {
            return Err(BROKEN.to_owned());
        }
        let page = self.page(number)?;
        // The first page begins with the file's header.
        let head = if number == 1 { 100 } else { 0 };
        let is_leaf = match page[head] {
            0x0d => true,
            0x05 => false,
            _ => return Err(BROKEN.to_owned()),
        };
        let cells = usize::from(u16::from_be_bytes([page[head + 3], page[head + 4]]));
        let first = head + if is_leaf { 8 } else { 12 };
        for cell in 0..cells {
            let pointer =
                page.get(first + 2 * cell..).and_then(|rest| rest.first_chunk::<2>()).ok_or(BROKEN)?;
            let cell = page.get(usize::from(u16::from_be_bytes(*pointer))..).ok_or(BROKEN)?;
            if is_leaf {
                let payload =
                    self.payload(&cell[..cell.len() - (self.page_size - self.usable).min(cell.len())])?;
                row(&payload)?;
            } else {
                let child = cell.first_chunk::<4>().ok_or(BROKEN)?;
                self.tree(u32::from_be_bytes(*child), depth + 1, row)?;
            }
        }
        if !is_leaf {
            let right = page.get(head + 8..).and_then(|rest| rest.first_chunk::<4>()).ok_or(BROKEN)?;
            self.tree(u32::from_be_bytes(*right), depth + 1, row)?;
        }
        Ok(())
    }

    /// What a row holds: what is in its page, and what is in overflow pages.
    fn payload(&mut self, cell: &'b [u8]) -> Result<std::borrow::Cow<'b, [u8]>, String> {
        let (len, rest) = varint(cell).ok_or(BROKEN)?;
        let (_rowid, rest) = varint(rest).ok_or(BROKEN)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= HEADER_LIMIT).ok_or(BROKEN)?;
        let most = self.usable - 35;
        if len <= most {
            return Ok(rest.get(..len).ok_or(BROKEN)?.into());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (len - least) % (self.usable - 4);
        let here = if wanted <= most { wanted } else { least };
        let (here, rest) = rest.split_at_checked(here).ok_or(BROKEN)?;
        let mut payload = here.to_vec();
        let mut next = u32::from_be_bytes(*rest.first_chunk::<4>().ok_or(BROKEN)?);
        while payload.len() < len {
            let page = self.page(next)?;
            next = u32::from_be_bytes(*page.first_chunk::<4>().ok_or(BROKEN)?);
            let piece = &page[4..self.usable];
            payload.extend_from_slice(&piece[..piece.len().min(len - payload.len())]);
        }
        Ok(payload.into())
    }
}

enum Value<'r> {
    Integer(i64),
    Text(&'r [u8]),
    Blob(&'r [u8]),
    Other,
}

/// The columns of a row.
fn columns(row: &[u8]) -> Option<Vec<Value<'_>>> {
    let (head, after_len) = varint(row)?;
    let head = usize::try_from(head).ok()?;
    let mut types = row.get(row.len() - after_len.len()..head)?;
    let mut data = row.get(head..)?;
    let mut columns = Vec::new();
    while !types.is_empty() {
        let (kind, rest) = varint(types)?;
        types = rest;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            kind => (kind - 12) / 2,
        };
        let (value, rest) = data.split_at_checked(usize::try_from(len).ok()?)?;
        data = rest;
        columns.push(match kind {
            1..=6 => {
                let sign = value.first().is_some_and(|byte| *byte >= 0x80);
                let start = if sign { -1_i64 } else { 0 };
                Value::Integer(value.iter().fold(start, |number, byte| (number << 8) | i64::from(*byte)))
            }
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            kind if kind >= 12 && kind % 2 == 0 => Value::Blob(value),
            kind if kind >= 13 => Value::Text(value),
            _ => Value::Other,
        });
    }
    Some(columns)
}

/// A number of one to nine bytes, the highest first.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some(((number << 8) | u64::from(*byte), &bytes[9..]));
        }
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}
