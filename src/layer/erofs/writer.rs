//! Puts an image together: decides where everything goes, then writes it from front to back.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::contents::{Inode, Kind};
use super::directory::{self, Entry};
use super::inode::{self, Data, INODE_BYTES, SLOT_BYTES};
use super::superblock::{Note, Superblock, block_at, of_head};
use super::{BLOCK_BYTES, HEAD_BYTES, PackError, Unfit};
use crate::layer::pipeline::Stream;

/// Reads a stream, and writes all of it behind the image's head.
pub(super) struct Tee<'f> {
    stream: Stream,
    file: &'f File,
    /// Bytes of the current chunk that are written but not yet read.
    written: usize,
    at: u64,
}

impl<'f> Tee<'f> {
    pub(super) fn new(stream: Stream, file: &'f File) -> Self {
        Self { stream, file, written: 0, at: HEAD_BYTES }
    }
}

/// What a read of a [`Tee`] fails with when it is the writing that went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WriteFailed(pub(super) io::Error);

impl Read for Tee<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunk = self.stream.fill_buf()?;
        if self.written == 0 {
            self.file.write_all_at(chunk, self.at).map_err(|e| io::Error::other(WriteFailed(e)))?;
            (self.written, self.at) = (chunk.len(), self.at + chunk.len() as u64);
        }
        let count = chunk.len().min(into.len());
        into[..count].copy_from_slice(&chunk[..count]);
        self.stream.consume(count);
        self.written -= count;
        Ok(count)
    }
}

/// Where the metadata of an image go.
struct Layout {
    /// The block from which inodes are counted.
    first_block: u32,
    /// For each inode: its offset from there, its attributes, its data.
    places: Vec<Place>,
    /// Bytes of the whole image.
    end: u64,
}

struct Place {
    offset: u64,
    attributes: Vec<u8>,
    size: u64,
    data: Data,
}

impl Place {
    fn number(&self) -> u64 {
        self.offset / SLOT_BYTES
    }
}

/// Writes everything but the tar, which has `tar_bytes` and is there already.
pub(super) fn finish(
    file: &File,
    inodes: &[Inode<'_>],
    tar_bytes: u64,
    uuid: [u8; 16],
) -> Result<(), PackError> {
    let layout = lay_out(inodes, tar_bytes)?;
    let start = u64::from(layout.first_block) * BLOCK_BYTES;
    let mut out = Out::at(file, start)?;
    write_inodes(&mut out, inodes, &layout, start)?;
    write_contents(&mut out, inodes, &layout)?;
    out.pad_to(layout.end)?;
    out.file.flush()?;
    let superblock = Superblock {
        // The first place, see `lay_out`.
        root: layout.places[0].number() as u16,
        inodes: inodes.len() as u64,
        blocks: block_at(layout.end).ok_or(Unfit::TooLarge)?,
        metadata_block: layout.first_block,
        uuid,
    };
    let mut head = superblock.to_bytes();
    out.hasher.update(of_head(&head));
    let note = Note { tar_bytes, metadata: out.hasher.finalize().into() };
    head[..Note::BYTES].copy_from_slice(&note.to_bytes());
    Ok(file.write_all_at(&head, 0)?)
}

fn write_inodes(out: &mut Out<'_>, inodes: &[Inode<'_>], layout: &Layout, start: u64) -> io::Result<()> {
    for (at, (inode, place)) in inodes.iter().zip(&layout.places).enumerate() {
        out.pad_to(start + place.offset)?;
        // A serial number that need not be unique.
        let number = at as u32;
        out.write(&inode::to_bytes(inode, number, place.size, place.data, &place.attributes))?;
        out.write(&place.attributes)?;
        if let (Kind::Symlink(target), Data::Inline) = (&inode.kind, place.data) {
            out.write(target)?;
        }
    }
    Ok(())
}

/// Directories, and symlinks that are too long for their inodes.
fn write_contents(out: &mut Out<'_>, inodes: &[Inode<'_>], layout: &Layout) -> io::Result<()> {
    for (at, (inode, place)) in inodes.iter().zip(&layout.places).enumerate() {
        let Data::Blocks(block) = place.data else { continue };
        let start = u64::from(block) * BLOCK_BYTES;
        match &inode.kind {
            Kind::Directory { parent, children } => {
                out.pad_to(start)?;
                out.write(&directory::to_bytes(&entries(inodes, layout, (at, *parent), children)))?;
            }
            Kind::Symlink(target) => {
                out.pad_to(start)?;
                out.write(target)?;
            }
            Kind::File { .. } | Kind::Fifo | Kind::Device { .. } => {}
        }
    }
    Ok(())
}

/// The names in a directory, itself and its parent among them, sorted.
fn entries<'p>(
    inodes: &[Inode<'p>],
    layout: &Layout,
    (own, parent): (usize, usize),
    children: &[(&'p [u8], usize)],
) -> Vec<Entry<'p>> {
    with_dots(children, own, parent)
        .map(|(name, at)| {
            let (inode, file_type) = (layout.places[at].number(), inodes[at].kind.entry_type());
            Entry { name, inode, file_type }
        })
        .collect()
}

/// `children` with `.` and `..` where they belong in the order of bytes; `.-x` stands between the two.
fn with_dots<'c, 'p>(
    children: &'c [(&'p [u8], usize)],
    own: usize,
    parent: usize,
) -> impl Iterator<Item = (&'p [u8], usize)> + Clone + use<'c, 'p> {
    let (here, up): (&[u8], &[u8]) = (b".", b"..");
    let (before, rest) = children.split_at(children.partition_point(|(name, _)| *name < here));
    let (between, after) = rest.split_at(rest.partition_point(|(name, _)| *name < up));
    let dots = [std::iter::once((here, own)), std::iter::once((up, parent))];
    let [here, up] = dots;
    let slice = |slice: &'c [(&'p [u8], usize)]| slice.iter().copied();
    slice(before).chain(here).chain(slice(between)).chain(up).chain(slice(after))
}

fn lay_out(inodes: &[Inode<'_>], tar_bytes: u64) -> Result<Layout, Unfit> {
    let start = (HEAD_BYTES + tar_bytes).next_multiple_of(BLOCK_BYTES);
    // The first block stays empty: no inode has the number 0, which means "none" to some programs.
    let mut offset = BLOCK_BYTES;
    let mut places = Vec::with_capacity(inodes.len());
    for inode in inodes {
        let place = place(inode, offset)?;
        offset = place.offset + INODE_BYTES + place.attributes.len() as u64;
        if place.data == Data::Inline {
            offset += place.size;
        }
        offset = offset.next_multiple_of(SLOT_BYTES);
        places.push(place);
    }
    let mut end = (start + offset).next_multiple_of(BLOCK_BYTES);
    for (inode, place) in inodes.iter().zip(&mut places) {
        let is_here = matches!(inode.kind, Kind::Directory { .. } | Kind::Symlink(_));
        if is_here && place.data != Data::Inline {
            place.data = Data::Blocks(block_at(end).ok_or(Unfit::TooLarge)?);
            end += place.size.next_multiple_of(BLOCK_BYTES);
        }
    }
    let first_block = block_at(start).ok_or(Unfit::TooLarge)?;
    block_at(end).ok_or(Unfit::TooLarge)?;
    Ok(Layout { first_block, places, end })
}

/// Where an inode goes, from `offset` on. The 64 bytes, and what is inline, must not cross a block.
fn place(inode: &Inode<'_>, offset: u64) -> Result<Place, Unfit> {
    let attributes = inode::attributes(&inode.xattrs)?;
    let (size, data) = match &inode.kind {
        Kind::Directory { parent, children } => {
            (directory::size(with_dots(children, 0, *parent).map(|(name, _)| name)), Data::Blocks(0))
        }
        Kind::File { size, offset } => {
            (*size, Data::Blocks(block_at(HEAD_BYTES + offset).ok_or(Unfit::TooLarge)?))
        }
        Kind::Symlink(target) if INODE_BYTES + target.len() as u64 <= BLOCK_BYTES => {
            (target.len() as u64, Data::Inline)
        }
        Kind::Symlink(target) => (target.len() as u64, Data::Blocks(0)),
        Kind::Fifo | Kind::Device { .. } => (0, Data::Blocks(0)),
    };
    let together = if data == Data::Inline { INODE_BYTES + size } else { INODE_BYTES };
    let crosses = offset % BLOCK_BYTES + together > BLOCK_BYTES;
    let offset = if crosses { offset.next_multiple_of(BLOCK_BYTES) } else { offset };
    Ok(Place { offset, attributes, size, data })
}

/// A file that is written from front to back.
struct Out<'f> {
    file: BufWriter<&'f File>,
    at: u64,
    hasher: blake3::Hasher,
}

impl<'f> Out<'f> {
    fn at(file: &'f File, at: u64) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(256 << 10, file);
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { file, at, hasher: blake3::Hasher::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// Zeros up to `end`, which is less than a block away.
    fn pad_to(&mut self, end: u64) -> io::Result<()> {
        let zeros = [0; BLOCK_BYTES as usize];
        while self.at < end {
            let count = (end - self.at).min(BLOCK_BYTES) as usize;
            self.write(&zeros[..count])?;
        }
        Ok(())
    }
}
