//! One inode as the 64 bytes of its extended form, and its extended attributes behind it.

use super::Unfit;
use super::contents::{Inode, Kind};

/// Inodes are counted in steps of so many bytes.
pub(super) const SLOT_BYTES: u64 = 32;
/// The extended form; the compact one has no room for times and large ids.
pub(super) const INODE_BYTES: u64 = 64;
const ATTRIBUTES_HEADER_BYTES: usize = 12;

/// How the data of an inode are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// From this block on, in one piece.
    Blocks(u32),
    /// Right behind the inode and its attributes.
    Inline,
}

/// The inode itself; `number` is a serial one for old programs, `size` that of the data.
pub(super) fn to_bytes(
    inode: &Inode<'_>,
    number: u32,
    size: u64,
    data: Data,
    attributes: &[u8],
) -> [u8; INODE_BYTES as usize] {
    // Bit 0: the extended form; from bit 1: 0 for blocks, 2 for data in the last inode block.
    let (format, address): (u16, u32) = match data {
        Data::Inline => (1 | 2 << 1, 0),
        Data::Blocks(first) => (1, first),
    };
    let address = match inode.kind {
        Kind::Device { number, .. } => number,
        _ => address,
    };
    let mut out = [0; INODE_BYTES as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..][..bytes.len()].copy_from_slice(bytes);
    put(0, &format.to_le_bytes());
    put(2, &attribute_count(attributes).to_le_bytes());
    put(4, &((inode.kind.file_type() | inode.mode) as u16).to_le_bytes());
    put(8, &size.to_le_bytes());
    put(16, &address.to_le_bytes());
    put(20, &number.to_le_bytes());
    put(24, &inode.uid.to_le_bytes());
    put(28, &inode.gid.to_le_bytes());
    put(32, &inode.mtime.to_le_bytes());
    put(44, &inode.links.to_le_bytes());
    out
}

/// 0 for none; else 1 for the header, and 1 for each four bytes after it.
fn attribute_count(attributes: &[u8]) -> u16 {
    match attributes.len().checked_sub(ATTRIBUTES_HEADER_BYTES) {
        // `attributes` has seen to it that this fits.
        Some(rest) => (rest / 4 + 1) as u16,
        None => 0,
    }
}

/// The attributes as they follow an inode: a header, then each with its prefix as a number, padded to four bytes.
pub(super) fn attributes(pairs: &[(&[u8], &[u8])]) -> Result<Vec<u8>, Unfit> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = vec![0; ATTRIBUTES_HEADER_BYTES];
    for (name, value) in pairs {
        let unfit = || Unfit::Attribute(String::from_utf8_lossy(name).into_owned());
        let (prefix, rest) = split(name).ok_or_else(unfit)?;
        let name_len = u8::try_from(rest.len()).map_err(|_| unfit())?;
        let value_len = u16::try_from(value.len()).map_err(|_| unfit())?;
        out.extend_from_slice(&[name_len, prefix]);
        out.extend_from_slice(&value_len.to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        if out.len() / 4 > usize::from(u16::MAX) {
            return Err(unfit());
        }
    }
    Ok(out)
}

/// The number of an attribute's prefix, and what follows it. Those of `system.` have a meaning that the kernel
/// checks when they are set, so they are left to it.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    let prefixes: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
    let found = prefixes.iter().find_map(|(prefix, number)| Some((*number, name.strip_prefix(*prefix)?)));
    found.filter(|(_, rest)| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn attributes_are_padded_and_counted() {
        let bytes = attributes(&[(b"user.a", b"xyz"), (b"security.capability", b"")]).unwrap();
        assert_eq!(&bytes[12..20], b"\x01\x01\x03\0axyz");
        assert_eq!(&bytes[20..], b"\x0a\x06\0\0capability\0\0");
        assert_eq!(attribute_count(&bytes), 1 + 2 + 4);
        assert_eq!(attribute_count(&[]), 0);
    }

    #[test]
    fn attributes_that_do_not_fit_are_refused() {
        let long = vec![b'x'; 1 << 16];
        for (name, value) in
            [(&b"system.posix_acl_access"[..], &b""[..]), (b"user.", b""), (b"odd", b""), (b"user.x", &long)]
        {
            assert!(attributes(&[(name, value)]).is_err(), "{}", name.escape_ascii());
        }
        let most = vec![b'x'; 65_000];
        let names: Vec<Vec<u8>> = (0..5).map(|at| format!("user.{at}").into_bytes()).collect();
        let pairs: Vec<(&[u8], &[u8])> = names.iter().map(|name| (&name[..], &most[..])).collect();
        assert!(attributes(&pairs[..4]).is_ok() && attributes(&pairs).is_err());
    }
}
