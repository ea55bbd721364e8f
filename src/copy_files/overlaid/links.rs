//! Names of one file: one holds the content, the others link to it.
//!
//! Until the step's layer is whole they link to a group, not to the name that holds the content. So when that name goes, the
//! next one takes over at no cost to the others, however many there are.

use std::collections::{HashMap, VecDeque};

/// See the module.
#[derive(Default)]
pub(super) struct Links {
    groups: Vec<Group>,
    /// Groups by the name that holds the content.
    held: HashMap<Vec<u8>, usize>,
}

struct Group {
    holder: Vec<u8>,
    /// Names that were linked to it, in that order; what they are now is known elsewhere.
    links: VecDeque<Vec<u8>>,
}

/// What an entry has in place of a target: no path, because none holds a NUL.
fn mark(group: usize) -> Vec<u8> {
    [&[0], group.to_le_bytes().as_slice()].concat()
}

impl Links {
    /// Notes that the name `at` links to the file at `target`; gives what its entry has as the target.
    pub(super) fn add(&mut self, target: &[u8], at: &[u8]) -> Vec<u8> {
        let Self { groups, held } = self;
        let group = *held.entry(target.to_vec()).or_insert_with(|| {
            groups.push(Group { holder: target.to_vec(), links: VecDeque::new() });
            groups.len() - 1
        });
        groups[group].links.push_back(at.to_vec());
        mark(group)
    }

    /// The path behind what [`Links::add`] gave.
    pub(super) fn target(&self, link: &[u8]) -> Vec<u8> {
        let group =
            link.strip_prefix(&[0]).and_then(|number| number.try_into().ok()).map(usize::from_le_bytes);
        group
            .and_then(|group| self.groups.get(group))
            .map_or_else(|| link.to_vec(), |group| group.holder.clone())
    }

    /// The name `at` goes: if it held the content of a group, gives the next name that does, which is the first of which
    /// `is_link` says that its entry has this as its target still.
    pub(super) fn pass_on(&mut self, at: &[u8], is_link: impl Fn(&[u8], &[u8]) -> bool) -> Option<Vec<u8>> {
        let group = self.held.remove(at)?;
        let link = mark(group);
        let Group { holder, links } = &mut self.groups[group];
        let next = std::iter::from_fn(|| links.pop_front()).find(|path| is_link(path, &link))?;
        holder.clone_from(&next);
        self.held.insert(next.clone(), group);
        Some(next)
    }
}
