//! The one canonicaliser of tar entries.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::block::{BLOCK_BYTES, Block, until_nul};
use super::error::{Error, Problem};
use super::name::{self, Meaning};
use super::pax::{self, Pax};
use crate::oci::Seconds;

/// What PAX headers and GNU long names may be at most, as in Go.
const EXTENSION_LIMIT: u64 = 1 << 20;

/// One entry of an archive, canonical: everything that [`crate::layer::entry::Entry`] promises of its fields
/// holds here as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Relative and clean; empty only for an opaque whiteout of the root and, with [`Names::Literal`], for
    /// the root directory itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// Owning user, by number.
    pub uid: u32,
    /// Owning group, by number.
    pub gid: u32,
    /// Modification time, rounded down to whole seconds.
    pub mtime: Seconds,
    /// Extended attributes by full name, without those of overlayfs.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the data begins (or would begin) in the uncompressed archive; differs between any two entries.
    pub offset: u64,
}

/// What a [`Member`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of `size` bytes.
    File {
        /// Bytes of data.
        size: u64,
    },
    /// A symlink and its target as it stands.
    Symlink(Vec<u8>),
    /// Another name of the file at this (clean) path.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device; never 0/0.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The path of lower layers is gone.
    Whiteout,
    /// What lower layers have in the directory is gone.
    Opaque,
}

/// What names that begin with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A layer: they are whiteouts, and entries for the root itself are skipped (no snapshotter applies them).
    Layer,
    /// Any archive, as for ADD: names are names. The root itself is `/`, a directory; `.` and no name at all are skipped, as
    /// docker's unpacker does.
    Literal,
}

/// Bounds on an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many entries it may have.
    pub entries: u64,
    /// Bytes of names, link targets and extended attributes, all entries together.
    pub metadata_bytes: u64,
    /// Bytes of the whole uncompressed archive.
    pub archive_bytes: u64,
}

impl Default for Limits {
    /// Far more than images in use have: 4 million entries, 512 MiB of metadata, 1 TiB in all.
    fn default() -> Self {
        Self { entries: 4_000_000, metadata_bytes: 512 << 20, archive_bytes: 1 << 40 }
    }
}

impl Limits {
    /// Whether so many entries with so many bytes of names and attributes may be held.
    ///
    /// # Errors
    /// [`Error::TooLarge`]
    pub fn check(&self, entries: u64, metadata_bytes: u64) -> Result<(), Error> {
        check_limit("entries", entries, self.entries)?;
        check_limit("bytes of names and attributes", metadata_bytes, self.metadata_bytes)
    }
}

/// Reads the entries of an uncompressed tar one after the other.
pub struct Reader<R> {
    stream: R,
    names: Names,
    limits: Limits,
    /// Bytes read from the stream.
    position: u64,
    /// Bytes of the current entry's data not yet read, and of the padding after them.
    data_left: u64,
    padding: u64,
    /// Where bytes go that nobody wants; as large as needed once it was.
    skipped: Vec<u8>,
    entries: u64,
    metadata_bytes: u64,
    is_done: bool,
}

/// What stood before an entry's own header.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// A reader at the start of an archive that is already decompressed.
    pub fn new(stream: R, names: Names, limits: Limits) -> Self {
        Self {
            stream,
            names,
            limits,
            position: 0,
            data_left: 0,
            padding: 0,
            skipped: Vec::new(),
            entries: 0,
            metadata_bytes: 0,
            is_done: false,
        }
    }

    /// The next entry, or `None` at the end of the archive. What was not read of the last one's data is
    /// skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, Error> {
        while !self.is_done {
            let start = self.skip_to_header()?;
            let mut extensions = Extensions::default();
            let Some(block) = self.entry_header(&mut extensions)? else {
                self.is_done = true;
                break;
            };
            let name = entry_name(&block, &mut extensions);
            let member = self.member(&block, &name, extensions).map_err(|problem| Error::Entry {
                name: String::from_utf8_lossy(&name).into_owned(),
                offset: start,
                problem,
            })?;
            if let Some(member) = member {
                self.count(&member)?;
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    /// The data of the current entry, from where the last read stopped.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// Reads to the end of the stream, beyond the end of the archive, so that whoever hashes or verifies the
    /// stream sees all of it. Returns the number of bytes of the whole stream.
    pub fn finish(mut self) -> Result<u64, Error> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read_some(&mut buffer)? > 0 {}
        Ok(self.position)
    }

    fn skip_to_header(&mut self) -> Result<u64, Error> {
        let mut left = self.data_left + self.padding;
        if left > 0 {
            // Kept, because clearing it for every entry would cost more than most entries do.
            let mut buffer = std::mem::take(&mut self.skipped);
            buffer.resize(16 * 1024, 0);
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                left -= self.read_full(&mut buffer[..want])? as u64;
            }
            self.skipped = buffer;
        }
        (self.data_left, self.padding) = (0, 0);
        Ok(self.position)
    }

    /// The next header that stands for itself; those that describe it are gathered on the way.
    fn entry_header(&mut self, extensions: &mut Extensions) -> Result<Option<Block>, Error> {
        let mut is_described = false;
        loop {
            let start = self.position;
            let fail = |name: Vec<u8>| {
                move |problem| {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    Error::Entry { name, offset: start, problem }
                }
            };
            let Some(block) = self.header_block()? else {
                if is_described {
                    return Err(fail(Vec::new())(Problem::Dangling));
                }
                return Ok(None);
            };
            block.check().map_err(fail(block.name()))?;
            let flag = block.type_flag();
            if !matches!(flag, b'x' | b'g' | b'L' | b'K' | b'V') {
                return Ok(Some(block));
            }
            let data = self.extension(&block, fail(block.name()))?;
            match flag {
                b'x' => extensions.pax = Some(pax::parse(&data).map_err(fail(block.name()))?),
                b'L' => extensions.long_name = Some(until_nul(&data).to_vec()),
                b'K' => extensions.long_link = Some(until_nul(&data).to_vec()),
                // Global headers and volume labels say nothing that a layer needs; docker ignores them, too.
                _ => continue,
            }
            is_described = true;
        }
    }

    /// Reads one header block; `None` at the end: two zero blocks, or the stream ends. A lone zero block is
    /// given back, to fail the check of its sum as it does in Go.
    fn header_block(&mut self) -> Result<Option<Block>, Error> {
        let mut block = Block([0; BLOCK_BYTES]);
        if !self.read_block(&mut block.0)? {
            return Ok(None);
        }
        if !block.is_zero() {
            return Ok(Some(block));
        }
        let mut second = Block([0; BLOCK_BYTES]);
        let is_end = !self.read_block(&mut second.0)? || second.is_zero();
        Ok((!is_end).then_some(block))
    }

    fn extension(&mut self, block: &Block, fail: impl Fn(Problem) -> Error) -> Result<Vec<u8>, Error> {
        let len = block.size().and_then(unsigned("size")).map_err(&fail)?;
        if len > EXTENSION_LIMIT {
            return Err(fail(Problem::TooLong { what: "extension header", len, limit: EXTENSION_LIMIT }));
        }
        let padded = len.next_multiple_of(BLOCK_BYTES as u64);
        let mut data = vec![0; padded as usize];
        self.read_full(&mut data)?;
        data.truncate(len as usize);
        Ok(data)
    }

    /// What header and extensions say together; `None` for what is to be skipped.
    fn member(
        &mut self,
        block: &Block,
        name: &[u8],
        extensions: Extensions,
    ) -> Result<Option<Member>, Problem> {
        let pax = extensions.pax.unwrap_or_default();
        let type_flag = effective_type(block.type_flag(), name);
        if pax.is_sparse || type_flag == b'S' {
            return Err(Problem::Sparse);
        }
        let size = pax.size.map_or_else(|| block.size(), Ok).and_then(unsigned("size"))?;
        let offset = self.position;
        self.data_left = if has_data(type_flag) { size } else { 0 };
        self.padding = self.data_left.wrapping_neg() % BLOCK_BYTES as u64;
        if self.data_left.saturating_add(offset) > self.limits.archive_bytes {
            return Err(Problem::Range("size"));
        }
        let link = extensions.long_link.as_deref().or(pax.link_path.as_deref()).unwrap_or(block.link_name());
        let Some((path, kind)) = self.place(name, || kind(type_flag, size, link, block))? else {
            return Ok(None);
        };
        let id =
            |field, value: Result<i64, Problem>| u32::try_from(value?).map_err(|_| Problem::Range(field));
        Ok(Some(Member {
            path,
            kind,
            mode: block.mode()?,
            uid: id("uid", pax.uid.map_or_else(|| block.uid(), Ok))?,
            gid: id("gid", pax.gid.map_or_else(|| block.gid(), Ok))?,
            mtime: pax.mtime.map_or_else(|| block.mtime(), Ok)?,
            xattrs: pax.xattrs,
            offset,
        }))
    }

    /// Which path an entry is about, and what is there; `None` for what is to be skipped.
    fn place(
        &self,
        name: &[u8],
        kind: impl FnOnce() -> Result<Kind, Problem>,
    ) -> Result<Option<(Vec<u8>, Kind)>, Problem> {
        let path = name::checked(name)?;
        let meaning = match self.names {
            Names::Layer => name::meaning(path)?,
            Names::Literal => Meaning::Path(path),
        };
        let (path, kind) = match meaning {
            Meaning::AufsMetadata => return Ok(None),
            Meaning::Whiteout(path) => (path, Kind::Whiteout),
            Meaning::Opaque(path) => (path, Kind::Opaque),
            Meaning::Path(path) => (path, kind()?),
        };
        match (path.is_empty(), &kind, self.names) {
            (false, _, _) | (true, Kind::Opaque, _) => Ok(Some((path, kind))),
            (true, Kind::Directory, Names::Literal) if name.starts_with(b"/") => Ok(Some((path, kind))),
            (true, Kind::Directory, Names::Layer) => Ok(None),
            (true, _, Names::Literal) if !name.starts_with(b"/") => Ok(None),
            (true, _, _) => Err(Problem::NoName),
        }
    }

    fn count(&mut self, member: &Member) -> Result<(), Error> {
        let link = match &member.kind {
            Kind::Symlink(target) | Kind::HardLink(target) => target.len(),
            _ => 0,
        };
        let xattrs: usize = member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.entries += 1;
        self.metadata_bytes += (member.path.len() + link + xattrs) as u64;
        self.limits.check(self.entries, self.metadata_bytes)
    }

    /// Fills `into`, or reads nothing at the end of the stream.
    fn read_block(&mut self, into: &mut [u8]) -> Result<bool, Error> {
        let first = self.read_some(into)?;
        if first == 0 {
            return Ok(false);
        }
        self.read_full(&mut into[first..])?;
        Ok(true)
    }

    fn read_full(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < into.len() {
            match self.read_some(&mut into[filled..])? {
                0 => return Err(self.broken(truncated())),
                n => filled += n,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.stream.read(into) {
                Ok(n) => {
                    self.position += n as u64;
                    check_limit("bytes", self.position, self.limits.archive_bytes)?;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::Read { offset: self.position, source }
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within an entry")
}

fn check_limit(what: &'static str, count: u64, limit: u64) -> Result<(), Error> {
    if count > limit { Err(Error::TooLarge { what, limit }) } else { Ok(()) }
}

fn unsigned(field: &'static str) -> impl Fn(i64) -> Result<u64, Problem> {
    move |value| u64::try_from(value).map_err(|_| Problem::Range(field))
}

/// The name that counts: GNU's long name, PAX's path, the header's.
fn entry_name(block: &Block, extensions: &mut Extensions) -> Vec<u8> {
    let pax_path = extensions.pax.as_mut().and_then(|pax| pax.path.take());
    extensions.long_name.take().or(pax_path).unwrap_or_else(|| block.name())
}

/// Before POSIX, a directory was a file whose name ends in a slash; `7` is a file laid out in one piece.
fn effective_type(flag: u8, name: &[u8]) -> u8 {
    match flag {
        0 if name.ends_with(b"/") => b'5',
        0 | b'7' => b'0',
        flag => flag,
    }
}

/// Links, devices, directories and pipes have no data, whatever their size field says.
fn has_data(type_flag: u8) -> bool {
    !matches!(type_flag, b'1'..=b'6')
}

fn kind(type_flag: u8, size: u64, link: &[u8], block: &Block) -> Result<Kind, Problem> {
    Ok(match type_flag {
        b'0' => Kind::File { size },
        b'1' => match name::checked(link)? {
            target if target.is_empty() => return Err(Problem::LinkTarget(String::new())),
            target => Kind::HardLink(target),
        },
        b'2' => {
            name::checked_target(link)?;
            Kind::Symlink(link.to_vec())
        }
        b'3' => match block.device()? {
            (0, 0) => return Err(Problem::ZeroDevice),
            (major, minor) => Kind::CharDevice { major, minor },
        },
        b'4' => {
            let (major, minor) = block.device()?;
            Kind::BlockDevice { major, minor }
        }
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(Problem::Type(other)),
    })
}

/// The data of one entry; ends where the entry ends. A stream that ends before is an error.
pub struct Data<'r, R> {
    reader: &'r mut Reader<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.reader.data_left).unwrap_or(usize::MAX).min(into.len());
        if want == 0 {
            return Ok(0);
        }
        let count = self.reader.stream.read(&mut into[..want])?;
        if count == 0 {
            return Err(truncated());
        }
        self.reader.position += count as u64;
        self.reader.data_left -= count as u64;
        Ok(count)
    }
}

/// Whether `reader` holds a tar, compressed or not: BuildKit's test for what ADD unpacks. The first header
/// must be valid; an empty stream, or one that cannot be decompressed, is no archive.
pub fn is_archive(reader: impl Read) -> bool {
    let Ok(decoder) = super::decompress(reader) else { return false };
    let mut reader = Reader::new(decoder, Names::Literal, Limits::default());
    let mut extensions = Extensions::default();
    matches!(reader.entry_header(&mut extensions), Ok(Some(_)))
}
