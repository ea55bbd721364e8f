//! The parts of ELF files that catalogers ask for: a section by its name, and bytes by their address.

use std::ops::Range;

/// What every ELF file begins with.
pub(in crate::inventory) const MAGIC: &[u8] = b"\x7fELF";
/// As many headers as are looked at; a file can say 65,535.
const HEADERS: usize = 4096;

/// Numbers of a byte order, at any place; none where the bytes end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'b> {
    /// The bytes.
    pub(super) all: &'b [u8],
    /// Whether the highest comes first.
    pub(super) is_big: bool,
}

impl<'b> Bytes<'b> {
    pub(super) fn slice(self, at: u64, len: u64) -> Option<&'b [u8]> {
        let start = usize::try_from(at).ok()?;
        self.all.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    pub(super) fn u16(self, at: u64) -> Option<u16> {
        let bytes = self.slice(at, 2)?.try_into().ok()?;
        Some(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub(super) fn u32(self, at: u64) -> Option<u32> {
        let bytes = self.slice(at, 4)?.try_into().ok()?;
        Some(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    pub(super) fn u64(self, at: u64) -> Option<u64> {
        let bytes = self.slice(at, 8)?.try_into().ok()?;
        Some(if self.is_big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }
}

/// An ELF file of either class and byte order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elf<'b> {
    pub(super) bytes: Bytes<'b>,
    pub(super) is_64: bool,
}

/// A part of the file that comes to memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'b> {
    pub(super) address: u64,
    /// Its place in the file.
    offset: u64,
    pub(super) bytes: &'b [u8],
    pub(super) is_writable: bool,
}

impl<'b> Elf<'b> {
    /// Whether it is one; nothing else is checked yet.
    pub(super) fn open(all: &'b [u8]) -> Option<Self> {
        let rest = all.strip_prefix(MAGIC)?;
        let is_64 = match rest.first()? {
            1 => false,
            2 => true,
            _ => return None,
        };
        Some(Self { bytes: Bytes { all, is_big: *rest.get(1)? == 2 }, is_64 })
    }

    /// A number as wide as an address.
    pub(super) fn word(self, at: u64) -> Option<u64> {
        if self.is_64 { self.bytes.u64(at) } else { self.bytes.u32(at).map(u64::from) }
    }

    /// The bytes of the section of that name.
    pub(super) fn section(self, name: &str) -> Option<&'b [u8]> {
        let (offset, len) = self.section_place(name)?;
        self.bytes.slice(offset, len)
    }

    /// Where the headers of sections are, how long each is, how many there are, and which has the names.
    fn sections(self) -> Option<(u64, u16, u16, u16)> {
        Some(match self.is_64 {
            true => (self.word(0x28)?, self.bytes.u16(0x3a)?, self.bytes.u16(0x3c)?, self.bytes.u16(0x3e)?),
            false => (self.word(0x20)?, self.bytes.u16(0x2e)?, self.bytes.u16(0x30)?, self.bytes.u16(0x32)?),
        })
    }

    /// Where the section of that number is.
    fn section_at(self, number: u16) -> Option<(u64, u64)> {
        let (table, size, ..) = self.sections()?;
        let header = table.checked_add(u64::from(number) * u64::from(size))?;
        let (offset, len) = if self.is_64 { (0x18, 0x20) } else { (0x10, 0x14) };
        Some((self.word(header.checked_add(offset)?)?, self.word(header.checked_add(len)?)?))
    }

    fn section_place(self, name: &str) -> Option<(u64, u64)> {
        let (table, size, count, names) = self.sections()?;
        let (offset, len) = self.section_at(names)?;
        let names = self.bytes.slice(offset, len)?;
        for number in 0..count.min(HEADERS as u16) {
            let header = table.checked_add(u64::from(number) * u64::from(size))?;
            let start = usize::try_from(self.bytes.u32(header)?).ok()?;
            let is_it = names.get(start..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
            if is_it.is_some_and(|rest| rest.first() == Some(&0)) {
                return self.section_at(number);
            }
        }
        None
    }

    /// Where the headers of the parts that are loaded are, how long each is, and how many there are.
    fn loaded(self) -> Option<(u64, u16, u16)> {
        Some(match self.is_64 {
            true => (self.word(0x20)?, self.bytes.u16(0x36)?, self.bytes.u16(0x38)?),
            false => (self.word(0x1c)?, self.bytes.u16(0x2a)?, self.bytes.u16(0x2c)?),
        })
    }

    /// The parts that are loaded.
    pub(super) fn segments(self) -> Vec<Segment<'b>> {
        let Some((table, size, count)) = self.loaded() else { return Vec::new() };
        let segment = |number: u16| {
            let header = table.checked_add(u64::from(number) * u64::from(size))?;
            let at = |offset: u64| header.checked_add(offset);
            // PT_LOAD, and PF_W.
            let ((flags, offset), (address, len)) = match self.is_64 {
                true => ((at(4)?, at(8)?), (at(0x10)?, at(0x20)?)),
                false => ((at(0x18)?, at(4)?), (at(8)?, at(0x10)?)),
            };
            if self.bytes.u32(header)? != 1 {
                return None;
            }
            let offset = self.word(offset)?;
            let bytes = self.bytes.slice(offset, self.word(len)?)?;
            let (address, is_writable) = (self.word(address)?, self.bytes.u32(flags)? & 2 != 0);
            Some(Segment { address, offset, bytes, is_writable })
        };
        (0..count.min(HEADERS as u16)).filter_map(segment).collect()
    }
}

/// Parts that a program may write to, of which it has two or three; a file can say that thousands of them are all of it.
pub(super) fn writable<'s, 'b>(segments: &'s [Segment<'b>]) -> impl Iterator<Item = &'s Segment<'b>> {
    const MOST: usize = 16;
    segments.iter().filter(|segment| segment.is_writable).take(MOST)
}

/// So many bytes of a program are read before anything of it is known.
const FIRST: usize = 64 << 10;

/// Reads what catalogers look at in a program, into `bytes`, which are as long as it is and zero: headers, the sections that they know by
/// name, and what the program may write to. `read` fills a range. Whatever is not understood, or tells of Go, is read as a whole: programs
/// of Go point to anywhere.
pub(in crate::inventory) fn read_parts<E>(
    bytes: &mut [u8],
    mut read: impl FnMut(Range<usize>, &mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut fill = |bytes: &mut [u8], range: Range<usize>| match bytes.get_mut(range.clone()) {
        Some(part) => read(range, part),
        None => Ok(()),
    };
    let all = 0..bytes.len();
    fill(bytes, 0..FIRST.min(bytes.len()))?;
    // What is in one place says where the next is.
    type Look = fn(&[u8]) -> Option<Vec<Range<usize>>>;
    for look in [of_sections as Look, of_names, of_parts] {
        match look(bytes) {
            Some(ranges) => {
                for range in ranges {
                    fill(bytes, range)?;
                }
            }
            None => return fill(bytes, all),
        }
    }
    match Elf::open(bytes).is_some_and(super::golang::is_program) {
        true => fill(bytes, all),
        false => Ok(()),
    }
}

/// The headers of sections; nothing if those of loaded parts are not at the beginning, or if headers are not as long as they are in every
/// program: then what is read of them lies elsewhere than in them.
fn of_sections(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let elf = Elf::open(bytes)?;
    let ((_, loaded_size, _), (_, section_size, count, names)) = (elf.loaded()?, elf.sections()?);
    let usual = if elf.is_64 { (56, 64) } else { (32, 40) };
    if (loaded_size, section_size) != usual || names >= count {
        return None;
    }
    let end = |(table, size, count): (u64, u16, u16)| table.checked_add(u64::from(size) * u64::from(count));
    if end(elf.loaded()?)? > FIRST as u64 {
        return None;
    }
    let (table, size, count, _) = elf.sections()?;
    Some(vec![range(bytes, table, end((table, size, count))?.checked_sub(table)?)?])
}

fn of_names(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let elf = Elf::open(bytes)?;
    let (.., names) = elf.sections()?;
    let (offset, len) = elf.section_at(names)?;
    Some(vec![range(bytes, offset, len)?])
}

fn of_parts(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let elf = Elf::open(bytes)?;
    let named = super::golang::SECTION.into_iter().chain(super::cargo::SECTION);
    let named = named.filter_map(|name| elf.section_place(name));
    let segments = elf.segments();
    let written = writable(&segments).map(|segment| (segment.offset, segment.bytes.len() as u64));
    // What reaches beyond the file nobody finds.
    let mut ranges: Vec<Range<usize>> =
        named.chain(written).filter_map(|(offset, len)| range(bytes, offset, len)).collect();
    ranges.sort_by_key(|range| range.start);
    // What several say is read once.
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    Some(merged)
}

fn range(bytes: &[u8], offset: u64, len: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let range = start..start.checked_add(usize::try_from(len).ok()?)?;
    (range.end <= bytes.len()).then_some(range)
}

/// `len` bytes at an address.
pub(super) fn at_address<'b>(segments: &[Segment<'b>], address: u64, len: u64) -> Option<&'b [u8]> {
    segments.iter().find_map(|segment| {
        let start = usize::try_from(address.checked_sub(segment.address)?).ok()?;
        segment.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    })
}

/// Whether a file is worth a look: programs can be executed, and libraries are called so.
pub(super) fn may_be_program(file: &super::Candidate<'_>) -> bool {
    const SMALLEST: u64 = 4096;
    file.size >= SMALLEST && (file.mode & 0o111 != 0 || file.name().contains(".so"))
}
