//! Indexes that name other indexes.

use std::collections::BTreeSet;

use super::{Descriptor, Digest, Index};

/// So far below the first one indexes may be nested. One level is in use.
pub const MAX_INDEX_DEPTH: u32 = 3;

/// An index that is nested deeper than [`MAX_INDEX_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the index {0} is nested too deeply: {MAX_INDEX_DEPTH} levels of indexes in an index are read")]
pub struct TooDeep(pub Digest);

impl Index {
    /// What the index and those that it names list, other than indexes, in order. `open` reads an index, and gives `None`
    /// for one that is not there. Each is opened once, however often it is named: four small documents that name each
    /// other a thousand times would stand for as many images as nobody can list. An entry that does not say its
    /// platform has that of the index it is in.
    ///
    /// # Errors
    /// [`TooDeep`], and what `open` says.
    pub fn flatten<E: From<TooDeep>>(
        self,
        open: &mut dyn FnMut(&Descriptor) -> Result<Option<Index>, E>,
    ) -> Result<Vec<Descriptor>, E> {
        let mut flat = Flat { found: Vec::new(), opened: BTreeSet::new() };
        flat.add(self, open, 0)?;
        Ok(flat.found)
    }
}

struct Flat {
    found: Vec<Descriptor>,
    opened: BTreeSet<Digest>,
}

impl Flat {
    fn add<E: From<TooDeep>>(
        &mut self,
        index: Index,
        open: &mut dyn FnMut(&Descriptor) -> Result<Option<Index>, E>,
        depth: u32,
    ) -> Result<(), E> {
        for entry in index.manifests {
            if !entry.media_type.is_index() {
                self.found.push(entry);
                continue;
            }
            if !self.opened.insert(entry.digest) {
                continue;
            }
            if depth == MAX_INDEX_DEPTH {
                return Err(TooDeep(entry.digest).into());
            }
            let Some(mut inner) = open(&entry)? else { continue };
            for below in &mut inner.manifests {
                below.platform = below.platform.take().or_else(|| entry.platform.clone());
            }
            self.add(inner, open, depth + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{MediaType, Platform};

    fn entry(kind: MediaType, name: &str) -> Descriptor {
        Descriptor::new(kind, Digest::of(name.as_bytes()), 1)
    }

    fn index(manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: None,
            manifests,
            annotations: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn each_index_is_opened_once() {
        let inner = Descriptor { platform: Some(Platform::host()), ..entry(MediaType::INDEX, "i") };
        let top = index([vec![inner; 1000], vec![entry(MediaType::MANIFEST, "m")]].concat());
        let mut opened = 0;
        let flat = top.flatten::<TooDeep>(&mut |_| {
            opened += 1;
            Ok(Some(index(vec![entry(MediaType::MANIFEST, "n"), entry(MediaType::INDEX, "i")])))
        });
        let platforms: Vec<Option<Platform>> =
            flat.unwrap().into_iter().map(|found| found.platform).collect();
        assert_eq!((opened, platforms), (1, vec![Some(Platform::host()), None]));
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let mut level = 0;
        let flat = index(vec![entry(MediaType::INDEX, "0")]).flatten::<TooDeep>(&mut |_| {
            level += 1;
            Ok(Some(index(vec![entry(MediaType::INDEX, &level.to_string())])))
        });
        let last = Digest::of(MAX_INDEX_DEPTH.to_string().as_bytes());
        assert_eq!((flat, level), (Err(TooDeep(last)), MAX_INDEX_DEPTH));
    }
}
