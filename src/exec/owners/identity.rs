//! Who a process believes to be, by the kernel's rules (credentials(7)).

use std::collections::HashMap;

/// "As it is", in calls that take several ids.
const UNCHANGED: u32 = u32::MAX;

/// A refused change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotPermitted;

/// One kind of ids of a process: those of its user, or of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(in crate::exec) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    /// Decides about files.
    pub(super) files: u32,
}

/// A process's user and groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(in crate::exec) struct Identity {
    pub(super) users: Ids,
    pub(super) group: Ids,
    pub(super) groups: Vec<u32>,
    /// It asked to keep its capabilities when it is root no longer (PR_SET_KEEPCAPS), as `setpriv` does.
    pub(super) keeps_capabilities: bool,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, files: id }
    }

    fn has(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid, setgid.
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), NotPermitted> {
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            (self.effective, self.files) = (id, id);
        } else {
            return Err(NotPermitted);
        }
        Ok(())
    }

    /// setreuid, setregid.
    fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), NotPermitted> {
        let may_real = real == UNCHANGED || real == self.real || real == self.effective;
        let may_effective = effective == UNCHANGED || self.has(effective);
        let permitted = privileged || (may_real && may_effective);
        if !permitted {
            return Err(NotPermitted);
        }
        let old = self.real;
        self.real = or(real, self.real);
        self.effective = or(effective, self.effective);
        if real != UNCHANGED || (effective != UNCHANGED && effective != old) {
            self.saved = self.effective;
        }
        self.files = self.effective;
        Ok(())
    }

    /// setresuid, setresgid.
    fn set_three(&mut self, ids: [u32; 3], privileged: bool) -> Result<(), NotPermitted> {
        if !privileged && !ids.iter().all(|id| *id == UNCHANGED || self.has(*id)) {
            return Err(NotPermitted);
        }
        let [real, effective, saved] = ids;
        self.real = or(real, self.real);
        self.effective = or(effective, self.effective);
        self.saved = or(saved, self.saved);
        self.files = self.effective;
        Ok(())
    }

    /// setfsuid, setfsgid: never fails; gives what was before.
    fn set_files(&mut self, id: u32, privileged: bool) -> u32 {
        let before = self.files;
        if id != UNCHANGED && (privileged || id == self.files || self.has(id)) {
            self.files = id;
        }
        before
    }

    /// A new program; `id` when its file is setuid or setgid.
    fn execute(&mut self, id: Option<u32>) {
        self.effective = id.unwrap_or(self.effective);
        (self.saved, self.files) = (self.effective, self.effective);
    }
}

fn or(id: u32, current: u32) -> u32 {
    if id == UNCHANGED { current } else { id }
}

/// What a call wants to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Uid(u32),
    Gid(u32),
    TwoUids(u32, u32),
    TwoGids(u32, u32),
    ThreeUids([u32; 3]),
    ThreeGids([u32; 3]),
    FilesUid(u32),
    FilesGid(u32),
    Groups(Vec<u32>),
}

impl Identity {
    pub(super) fn new(uid: u32, gid: u32, mut groups: Vec<u32>) -> Self {
        // As the kernel tells them.
        groups.sort_unstable();
        Self { users: Ids::all(uid), group: Ids::all(gid), groups, keeps_capabilities: false }
    }

    /// Root may become anyone; capabilities apart from that are not modelled.
    pub(in crate::exec) fn is_privileged(&self) -> bool {
        self.users.effective == 0 || self.keeps_capabilities
    }

    /// Applies a change; gives what the call returns.
    pub(super) fn apply(&mut self, change: Change) -> Result<u32, NotPermitted> {
        let privileged = self.is_privileged();
        let (users, group) = (&mut self.users, &mut self.group);
        match change {
            Change::Uid(id) => users.set(id, privileged)?,
            Change::Gid(id) => group.set(id, privileged)?,
            Change::TwoUids(real, effective) => users.set_two(real, effective, privileged)?,
            Change::TwoGids(real, effective) => group.set_two(real, effective, privileged)?,
            Change::ThreeUids(ids) => users.set_three(ids, privileged)?,
            Change::ThreeGids(ids) => group.set_three(ids, privileged)?,
            Change::FilesUid(id) => return Ok(users.set_files(id, privileged)),
            Change::FilesGid(id) => return Ok(group.set_files(id, privileged)),
            Change::Groups(groups) if privileged => self.groups = groups,
            Change::Groups(_) => return Err(NotPermitted),
        }
        Ok(0)
    }

    /// Another program starts; `user` and `group` when its file is setuid or setgid.
    pub(super) fn execute(&mut self, user: Option<u32>, group: Option<u32>) {
        self.users.execute(user);
        self.group.execute(group);
        self.keeps_capabilities = false;
    }

    /// Whether a file of `owner` may be given to `uid` and `gid`, each perhaps unchanged.
    pub(super) fn may_give(&self, owner: (u32, u32), uid: Option<u32>, gid: Option<u32>) -> bool {
        let own = owner.0 == self.users.files;
        let same_user = uid.is_none_or(|uid| uid == owner.0);
        let in_group = |gid: u32| gid == owner.1 || gid == self.group.files || self.groups.contains(&gid);
        self.users.files == 0 || (own && same_user && gid.is_none_or(in_group))
    }
}

/// The identities that were met, by number. Processes carry the number; number 0 is who the step runs as.
pub(super) struct Identities {
    list: Vec<Identity>,
    numbers: HashMap<Identity, u64>,
}

impl Identities {
    pub(super) fn new(first: Identity) -> Self {
        Self { list: vec![first.clone()], numbers: HashMap::from([(first, 0)]) }
    }

    /// A number that nobody gave out is that of the first.
    pub(super) fn get(&self, number: u64) -> &Identity {
        let at = usize::try_from(number).unwrap_or(0);
        self.list.get(at).unwrap_or(&self.list[0])
    }

    pub(super) fn number(&mut self, identity: Identity) -> u64 {
        if let Some(number) = self.numbers.get(&identity) {
            return *number;
        }
        let number = self.list.len() as u64;
        self.list.push(identity.clone());
        self.numbers.insert(identity, number);
        number
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn root() -> Identity {
        Identity::new(0, 0, vec![0])
    }

    #[test]
    fn apt_cannot_become_root_again() {
        let mut who = root();
        who.apply(Change::Groups(vec![65_534])).unwrap();
        who.apply(Change::ThreeGids([65_534; 3])).unwrap();
        who.apply(Change::ThreeUids([42; 3])).unwrap();
        assert_eq!(who, Identity::new(42, 65_534, vec![65_534]));
        for change in [
            Change::Uid(0),
            Change::Gid(0),
            Change::TwoUids(0, UNCHANGED),
            Change::ThreeUids([UNCHANGED, 0, UNCHANGED]),
            Change::Groups(vec![0]),
        ] {
            assert_eq!(who.apply(change.clone()), Err(NotPermitted), "{change:?}");
        }
        assert_eq!(who.apply(Change::FilesUid(0)).unwrap(), 42);
        assert_eq!(who.users.files, 42);
    }

    #[test]
    fn a_saved_id_leads_back() {
        let mut who = root();
        who.apply(Change::ThreeUids([UNCHANGED, 7, UNCHANGED])).unwrap();
        assert!(!who.is_privileged());
        assert_eq!(who.users.files, 7);
        who.apply(Change::Uid(0)).unwrap();
        assert!(who.is_privileged());
        who.apply(Change::TwoUids(7, 7)).unwrap();
        assert_eq!(who.apply(Change::Uid(0)), Err(NotPermitted));
    }

    #[test]
    fn a_setuid_program_gives_its_owner() {
        let mut who = Identity::new(7, 8, vec![8]);
        who.execute(Some(0), None);
        assert_eq!((who.users.real, who.users.effective, who.users.saved), (7, 0, 0));
        who.apply(Change::Uid(0)).unwrap();
        assert_eq!(who.users, Ids::all(0));
        assert_eq!(who.group, Ids::all(8));
    }

    #[test]
    fn kept_capabilities_last_until_exec() {
        let mut who = Identity { keeps_capabilities: true, ..root() };
        who.apply(Change::ThreeUids([7; 3])).unwrap();
        who.apply(Change::ThreeGids([8; 3])).unwrap();
        who.execute(None, None);
        assert_eq!(who.apply(Change::Gid(0)), Err(NotPermitted));
    }

    #[test]
    fn only_root_gives_files_away() {
        let who = Identity::new(7, 8, vec![8, 9]);
        assert!(root().may_give((7, 8), Some(0), Some(0)));
        assert!(who.may_give((7, 8), Some(7), Some(9)));
        assert!(who.may_give((7, 8), None, None));
        assert!(!who.may_give((7, 8), Some(0), None));
        assert!(!who.may_give((7, 8), None, Some(10)));
        assert!(!who.may_give((0, 8), None, Some(9)));
    }

    #[test]
    fn equal_identities_have_one_number() {
        let mut all = Identities::new(root());
        let number = all.number(Identity::new(7, 7, vec![]));
        assert_eq!(all.number(Identity::new(7, 7, vec![])), number);
        assert_eq!(all.number(root()), 0);
        assert_eq!(all.get(number).users.real, 7);
        assert_eq!(all.get(u64::MAX), &root());
    }
}
