//! The parts of ELF files that catalogers ask for: a section by its name, and bytes by their address.

/// What every ELF file begins with.
pub(super) const MAGIC: &[u8] = b"\x7fELF";
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
        let (table, size, count, names) = match self.is_64 {
            true => (self.word(0x28)?, self.bytes.u16(0x3a)?, self.bytes.u16(0x3c)?, self.bytes.u16(0x3e)?),
            false => (self.word(0x20)?, self.bytes.u16(0x2e)?, self.bytes.u16(0x30)?, self.bytes.u16(0x32)?),
        };
        let place = |number: u16| -> Option<(u64, u64)> {
            let header = table.checked_add(u64::from(number) * u64::from(size))?;
            let (offset, len) = if self.is_64 { (0x18, 0x20) } else { (0x10, 0x14) };
            Some((self.word(header.checked_add(offset)?)?, self.word(header.checked_add(len)?)?))
        };
        let (offset, len) = place(names)?;
        let names = self.bytes.slice(offset, len)?;
        for number in 0..count.min(HEADERS as u16) {
            let header = table.checked_add(u64::from(number) * u64::from(size))?;
            let start = usize::try_from(self.bytes.u32(header)?).ok()?;
            let is_it = names.get(start..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
            if is_it.is_some_and(|rest| rest.first() == Some(&0)) {
                let (offset, len) = place(number)?;
                return self.bytes.slice(offset, len);
            }
        }
        None
    }

    /// The parts that are loaded.
    pub(super) fn segments(self) -> Vec<Segment<'b>> {
        let Some((table, size, count)) = (match self.is_64 {
            true => self.word(0x20).zip(self.bytes.u16(0x36)).zip(self.bytes.u16(0x38)),
            false => self.word(0x1c).zip(self.bytes.u16(0x2a)).zip(self.bytes.u16(0x2c)),
        })
        .map(|((table, size), count)| (table, size, count)) else {
            return Vec::new();
        };
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
            let bytes = self.bytes.slice(self.word(offset)?, self.word(len)?)?;
            Some(Segment {
                address: self.word(address)?,
                bytes,
                is_writable: self.bytes.u32(flags)? & 2 != 0,
            })
        };
        (0..count.min(HEADERS as u16)).filter_map(segment).collect()
    }
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
