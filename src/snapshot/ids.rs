//! Ids inside and outside a user namespace.

use serde::{Deserialize, Serialize};

/// A run of ids, as one line of `/proc/PID/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id inside.
    pub inside: u32,
    /// What it is outside.
    pub outside: u32,
    /// How many follow one another.
    pub count: u32,
}

/// How ids on disk become ids of the image.
///
/// Empty (the default): as they are. So it is for root without a namespace, and also for a process *inside*
/// the user namespace, because there `stat` has translated them already. Only a process outside that reads
/// files made inside needs the ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Ranges of user ids.
    pub uids: Vec<IdRange>,
    /// Ranges of group ids.
    pub gids: Vec<IdRange>,
}

impl IdMap {
    /// The user inside; the outside id as the error.
    pub fn uid(&self, outside: u32) -> Result<u32, u32> {
        translate(&self.uids, outside)
    }

    /// The group inside; the outside id as the error.
    pub fn gid(&self, outside: u32) -> Result<u32, u32> {
        translate(&self.gids, outside)
    }
}

fn translate(ranges: &[IdRange], outside: u32) -> Result<u32, u32> {
    if ranges.is_empty() {
        return Ok(outside);
    }
    let inside = |range: &IdRange| {
        let offset = outside.checked_sub(range.outside).filter(|&offset| offset < range.count)?;
        range.inside.checked_add(offset)
    };
    ranges.iter().find_map(inside).ok_or(outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_every_range_are_errors() {
        let own = IdRange { inside: 0, outside: 1000, count: 1 };
        let sub = IdRange { inside: 1, outside: 100_000, count: 65_536 };
        let map = IdMap { uids: vec![own, sub], gids: vec![] };
        assert_eq!([1000, 100_000, 165_535].map(|id| map.uid(id)), [Ok(0), Ok(1), Ok(65_536)]);
        assert_eq!([0, 1001, 165_536].map(|id| map.uid(id)), [Err(0), Err(1001), Err(165_536)]);
        assert_eq!(map.gid(7), Ok(7));
    }
}
