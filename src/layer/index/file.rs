//! The file form of an index: `magic, version, counts, records, heap, checksum`, all little-endian.

use super::{Flat, Index, Span, Tag, split_pair};

const MAGIC: &[u8; 8] = b"rbuildix";
/// Goes up with every change of this file's layout *or* of what the builder makes of an archive.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 4 + 8;
const RECORD_BYTES: usize = 60;
const CHECKSUM_BYTES: usize = 32;

/// The bytes are no index that this version can use: build it anew from the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the index file is damaged or of another version ({0})")]
pub struct Corrupt(&'static str);

impl Index {
    /// The file form. Equal indexes give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = HEADER_BYTES + self.records.len() * RECORD_BYTES + self.heap.len() + CHECKSUM_BYTES;
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        // Every record has a path of its own in a heap of less than 4 GiB.
        out.extend_from_slice(&(self.records.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.heap.len() as u64).to_le_bytes());
        for record in &self.records {
            record.write(&mut out);
        }
        out.extend_from_slice(&self.heap);
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }

    /// Reads the file form. Damage of any kind is found: by the checksum, and (so that no file can make this
    /// program panic) by looking at every record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Corrupt> {
        let body_len = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(Corrupt("length"))?;
        let (body, checksum) = bytes.split_at(body_len);
        let mut fields = Fields(body);
        if fields.take::<8>()? != *MAGIC || u32::from_le_bytes(fields.take()?) != VERSION {
            return Err(Corrupt("magic or version"));
        }
        let count = u32::from_le_bytes(fields.take()?) as usize;
        let heap_len = u64::from_le_bytes(fields.take()?);
        let records_len = (count as u64) * (RECORD_BYTES as u64);
        if records_len.checked_add(heap_len) != Some(fields.0.len() as u64) {
            return Err(Corrupt("length"));
        }
        if blake3::hash(body).as_bytes() != checksum {
            return Err(Corrupt("checksum"));
        }
        let records = (0..count).map(|_| Flat::read(&mut fields)).collect::<Result<Vec<_>, _>>()?;
        let index = Self { records, heap: fields.0.to_vec() };
        index.validate()?;
        Ok(index)
    }

    /// What tells the index that these bytes are from every other one: hex digits of the checksum in them. `None` for what cannot
    /// be one. Nothing else is looked at.
    pub fn checksum(bytes: &[u8]) -> Option<String> {
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        body.starts_with(MAGIC).then(|| blake3::Hash::from_bytes(*checksum).to_hex().to_string())
    }

    fn validate(&self) -> Result<(), Corrupt> {
        let is_inside = |span: Span| u64::from(span.start) + u64::from(span.len) <= self.heap.len() as u64;
        let mut last: Option<&[u8]> = None;
        for flat in &self.records {
            if ![flat.path, flat.link, flat.xattrs].into_iter().all(is_inside) {
                return Err(Corrupt("span"));
            }
            let path = self.bytes(flat.path);
            if last.is_some_and(|last| last >= path) {
                return Err(Corrupt("order"));
            }
            if !is_canonical(path, last.unwrap_or_default()) {
                return Err(Corrupt("path"));
            }
            last = Some(path);
            let link = self.bytes(flat.link);
            let is_sound = match flat.tag {
                Tag::Symlink => !link.is_empty() && !link.contains(&0),
                Tag::LowerLink => is_canonical(link, b""),
                _ => true,
            };
            if !is_sound || flat.mode > 0o7777 {
                return Err(Corrupt("link or mode"));
            }
            let mut xattrs = self.bytes(flat.xattrs);
            while !xattrs.is_empty() {
                xattrs = split_pair(xattrs).ok_or(Corrupt("attributes"))?.1;
            }
        }
        Ok(())
    }
}

/// Whether `path` is one that [`clean`](crate::layer::archive::clean) leaves as it is. `last`, the path before it, is known
/// to be; so what both begin with need not be looked at again.
fn is_canonical(path: &[u8], last: &[u8]) -> bool {
    let common = path.iter().zip(last).take_while(|(a, b)| a == b).count();
    let start = path[..common].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    path.is_empty() || path[start..].split(|byte| *byte == b'/').all(is_name)
}

/// Takes fixed-size fields off the front.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Corrupt("length"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn span(&mut self) -> Result<Span, Corrupt> {
        Ok(Span { start: u32::from_le_bytes(self.take()?), len: u32::from_le_bytes(self.take()?) })
    }
}

impl Flat {
    fn write(&self, out: &mut Vec<u8>) {
        for span in [self.path, self.link, self.xattrs] {
            out.extend_from_slice(&span.start.to_le_bytes());
            out.extend_from_slice(&span.len.to_le_bytes());
        }
        out.push(self.tag.number());
        out.push(u8::from(self.is_opaque) | u8::from(self.has_links) << 1);
        out.extend_from_slice(&self.mode.to_le_bytes());
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.gid.to_le_bytes());
        out.extend_from_slice(&self.mtime.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.inode.to_le_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Corrupt> {
        let (path, link, xattrs) = (fields.span()?, fields.span()?, fields.span()?);
        let [tag, flags] = fields.take()?;
        if flags > 3 {
            return Err(Corrupt("flags"));
        }
        Ok(Self {
            path,
            link,
            xattrs,
            tag: Tag::from_number(tag).ok_or(Corrupt("kind"))?,
            is_opaque: flags & 1 != 0,
            has_links: flags & 2 != 0,
            mode: u16::from_le_bytes(fields.take()?),
            uid: u32::from_le_bytes(fields.take()?),
            gid: u32::from_le_bytes(fields.take()?),
            mtime: i64::from_le_bytes(fields.take()?),
            size: u64::from_le_bytes(fields.take()?),
            inode: u64::from_le_bytes(fields.take()?),
        })
    }
}

impl Tag {
    const ALL: [Tag; 9] = [
        Tag::Directory,
        Tag::File,
        Tag::Symlink,
        Tag::Fifo,
        Tag::CharDevice,
        Tag::BlockDevice,
        Tag::Implied,
        Tag::LowerLink,
        Tag::Whiteout,
    ];

    /// The place in [`Tag::ALL`], which is the order of declaration.
    fn number(self) -> u8 {
        self as u8
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
