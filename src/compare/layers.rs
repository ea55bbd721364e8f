//! Two layers, entry by entry.

use std::collections::HashMap;
use std::io::{self, Read};

use super::{Error, Excerpt, Kind, Unplaced};
use crate::layer::archive::{self, Limits, Member, Names, Reader, decompress};
use crate::oci::{Digest, rfc3339};
use crate::store::Store;

/// A layer's blob.
pub(super) struct Archive<'s> {
    pub(super) store: &'s Store,
    pub(super) digest: Digest,
}

/// An entry, and what its bytes are known by.
struct Found {
    member: Member,
    content: Option<[u8; 32]>,
}

/// So many files of a pair of layers are looked into for the first byte that differs,
const EXCERPTS: usize = 64;
/// of each not more than these bytes.
const EXCERPT_BYTES: u64 = 16 << 20;

impl Archive<'_> {
    /// Reads all members; `each` gets their bytes.
    fn read(&self, mut each: impl FnMut(Member, &mut dyn Read) -> io::Result<()>) -> Result<(), Error> {
        if self.store.has_blob(&self.digest).is_none() {
            return Err(Error::NoLayer(self.digest));
        }
        let fail = |source: io::Error| Error::Layer { layer: self.digest, source };
        let blob = self.store.open_blob(&self.digest)?;
        let tar = decompress(blob).map_err(fail)?;
        let mut reader = Reader::new(tar, Names::Layer, Limits::default());
        while let Some(member) = reader.next_member().map_err(|error| fail(io::Error::other(error)))? {
            each(member, &mut reader.data()).map_err(fail)?;
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<Found>, Error> {
        let mut entries = Vec::new();
        self.read(|member, data| {
            let content = match member.kind {
                archive::Kind::File { .. } => {
                    let mut hasher = blake3::Hasher::new();
                    hasher.update_reader(data)?;
                    Some(*hasher.finalize().as_bytes())
                }
                _ => None,
            };
            entries.push(Found { member, content });
            Ok(())
        })?;
        Ok(entries)
    }

    /// The bytes of these files, as far as they are wanted. By their offsets, which are those of one entry each.
    fn contents(&self, wanted: &[u64]) -> Result<HashMap<u64, Vec<u8>>, Error> {
        let mut contents = HashMap::new();
        self.read(|member, data| {
            if wanted.contains(&member.offset) {
                let mut bytes = Vec::new();
                data.take(EXCERPT_BYTES).read_to_end(&mut bytes)?;
                contents.insert(member.offset, bytes);
            }
            Ok(())
        })?;
        Ok(contents)
    }
}

/// What an entry is about: of a whiteout that is another than of what may have the path again.
fn key(member: &Member) -> (Vec<u8>, u8) {
    let of = match member.kind {
        archive::Kind::Whiteout => 1,
        archive::Kind::Opaque => 2,
        _ => 0,
    };
    (member.path.clone(), of)
}

pub(super) fn compare(
    one: &Archive<'_>,
    two: &Archive<'_>,
    found: &mut dyn FnMut(Unplaced),
) -> Result<(), Error> {
    let (first, second) = (one.entries()?, two.entries()?);
    // Of entries with one name the last counts, as for everybody who unpacks.
    let by_key: HashMap<_, usize> =
        second.iter().enumerate().map(|(at, entry)| (key(&entry.member), at)).collect();
    let mut told = 0;
    let mut contents: Vec<(usize, usize)> = Vec::new();
    let mut order: Vec<usize> = Vec::with_capacity(first.len());
    let mut seen = vec![false; second.len()];
    for (at, entry) in first.iter().enumerate() {
        let Some(other) = by_key.get(&key(&entry.member)).copied() else {
            told += 1;
            found(only(&entry.member, Kind::OnlyInFirst));
            continue;
        };
        seen[other] = true;
        order.push(other);
        let is_same_content = entry.content == second[other].content;
        if !is_same_content && entry.content.is_some() && second[other].content.is_some() {
            contents.push((at, other));
            told += 1;
        }
        told += members(&entry.member, &second[other].member, found);
    }
    for (entry, _) in second.iter().zip(&seen).filter(|(_, seen)| !**seen) {
        told += 1;
        found(only(&entry.member, Kind::OnlyInSecond));
    }
    excerpts((one, &first), (two, &second), &contents, found)?;
    if let Some(at) = order.windows(2).position(|pair| pair[0] > pair[1]) {
        told += 1;
        let common = |at: usize| shown(&second[order[at]].member.path);
        found(Unplaced {
            path: common(at + 1),
            kind: Kind::Order,
            first: format!("behind `{}`", common(at)),
            second: format!("before `{}`", common(at)),
            excerpt: None,
        });
    }
    if told == 0 {
        let same = "the same files".to_owned();
        found(Unplaced {
            path: String::new(),
            kind: Kind::Encoding,
            first: same.clone(),
            second: same,
            excerpt: None,
        });
    }
    Ok(())
}

/// Tells of each pair of files where they begin to differ, as far as it is not too much to read.
fn excerpts(
    (one, first): (&Archive<'_>, &[Found]),
    (two, second): (&Archive<'_>, &[Found]),
    pairs: &[(usize, usize)],
    found: &mut dyn FnMut(Unplaced),
) -> Result<(), Error> {
    let looked_into = &pairs[..pairs.len().min(EXCERPTS)];
    let of = |entry: &Found| entry.member.offset;
    let wanted = |pick: &dyn Fn(&(usize, usize)) -> u64| looked_into.iter().map(pick).collect::<Vec<u64>>();
    let (a, b) = match looked_into.is_empty() {
        true => (HashMap::new(), HashMap::new()),
        false => (
            one.contents(&wanted(&|pair| of(&first[pair.0])))?,
            two.contents(&wanted(&|pair| of(&second[pair.1])))?,
        ),
    };
    for (at, other) in pairs {
        let (first, second) = (&first[*at], &second[*other]);
        let excerpt = match (a.get(&of(first)), b.get(&of(second))) {
            (Some(one), Some(two)) => Excerpt::of(one, two, 0),
            _ => None,
        };
        let size = |found: &Found| match found.member.kind {
            archive::Kind::File { size } => format!("{size} bytes"),
            _ => String::new(),
        };
        found(Unplaced {
            path: shown(&first.member.path),
            kind: Kind::Content,
            first: size(first),
            second: size(second),
            excerpt,
        });
    }
    Ok(())
}

fn only(member: &Member, kind: Kind) -> Unplaced {
    let what = noun(&member.kind).to_owned();
    let (first, second) =
        if kind == Kind::OnlyInFirst { (what, String::new()) } else { (String::new(), what) };
    Unplaced { path: shown(&member.path), kind, first, second, excerpt: None }
}

/// Tells what differs in all but the bytes; gives how many things that are.
fn members(one: &Member, two: &Member, found: &mut dyn FnMut(Unplaced)) -> usize {
    let mut told = 0;
    let mut tell = |kind: Kind, first: String, second: String| {
        told += 1;
        found(Unplaced { path: shown(&one.path), kind, first, second, excerpt: None });
    };
    if std::mem::discriminant(&one.kind) != std::mem::discriminant(&two.kind) {
        tell(Kind::Type, noun(&one.kind).to_owned(), noun(&two.kind).to_owned());
    } else {
        match (&one.kind, &two.kind) {
            (archive::Kind::Symlink(a), archive::Kind::Symlink(b))
            | (archive::Kind::HardLink(a), archive::Kind::HardLink(b))
                if a != b =>
            {
                tell(Kind::Target, shown(a), shown(b));
            }
            (a @ archive::Kind::CharDevice { .. }, b) | (a @ archive::Kind::BlockDevice { .. }, b)
                if a != b =>
            {
                tell(Kind::Type, format!("{a:?}"), format!("{b:?}"));
            }
            _ => {}
        }
    }
    if one.mode != two.mode {
        tell(Kind::Mode, format!("{:04o}", one.mode), format!("{:04o}", two.mode));
    }
    if (one.uid, one.gid) != (two.uid, two.gid) {
        tell(Kind::Owner, format!("{}:{}", one.uid, one.gid), format!("{}:{}", two.uid, two.gid));
    }
    if one.mtime != two.mtime {
        tell(Kind::Time, rfc3339(one.mtime), rfc3339(two.mtime));
    }
    if one.xattrs != two.xattrs {
        let names = |member: &Member| {
            member
                .xattrs
                .iter()
                .map(|(name, value)| format!("{}={}", shown(name), value.escape_ascii()))
                .collect::<Vec<_>>()
        };
        tell(Kind::Attribute, names(one).join(" "), names(two).join(" "));
    }
    told
}

fn noun(kind: &archive::Kind) -> &'static str {
    match kind {
        archive::Kind::Directory => "a directory",
        archive::Kind::File { .. } => "a file",
        archive::Kind::Symlink(_) => "a symlink",
        archive::Kind::HardLink(_) => "a hard link",
        archive::Kind::Fifo => "a named pipe",
        archive::Kind::CharDevice { .. } => "a character device",
        archive::Kind::BlockDevice { .. } => "a block device",
        archive::Kind::Whiteout => "a deleted file",
        archive::Kind::Opaque => "an emptied directory",
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
