//! Decides what may go, and lets it go.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::path::PathBuf;

use super::inventory::{Error, Inventory};
use super::unit::{self, Unit, UnitKind};
use super::{derived, sessions};
use crate::oci::{ChainId, DiffId, Digest};
use crate::snapshot::measuring;
use crate::store::{ExclusiveLock, Folder, Measuring, Store};

/// What is to go beside what nothing can use any more. Nothing that a name needs ever goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Everything that no name needs, also what the next build would use.
    pub all: bool,
    /// What was last used before this moment, in seconds since 1970.
    pub unused_since: Option<i64>,
    /// What was used longest ago, until the store takes up no more than so many bytes on disk.
    pub keep_bytes: Option<u64>,
}

/// What is to go.
#[derive(Debug, Default)]
pub struct Plan {
    /// What a user may know of, the one used longest ago first.
    pub units: Vec<Unit>,
    /// Files of the cache that say nothing any more.
    records: Vec<String>,
    /// Blobs that nothing needs then.
    pub blobs: Vec<Digest>,
    /// Files derived from layers that nothing needs then, and notes.
    files: Vec<PathBuf>,
    /// Trees that nothing needs then, of units and others.
    trees: Vec<PathBuf>,
    /// What that frees on disk, in bytes. What another layout shares frees nothing.
    pub freed_bytes: u64,
    /// What the store takes up on disk before, in bytes.
    pub before_bytes: u64,
}

/// How often each thing is needed.
#[derive(Default)]
struct Needs {
    blobs: Counts<Digest>,
    diff_ids: Counts<DiffId>,
    chains: Counts<ChainId>,
}

struct Counts<T>(BTreeMap<T, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Copy + Hash> Counts<T> {
    fn add(&mut self, items: &[T]) {
        items.iter().for_each(|item| *self.0.entry(*item).or_default() += 1);
    }

    /// Takes one need of each away; gives those that nobody needs then.
    fn take(&mut self, items: &[T]) -> Vec<T> {
        let mut free = Vec::new();
        for item in items {
            if let Some(count) = self.0.get_mut(item) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(item);
                    free.push(*item);
                }
            }
        }
        free
    }

    fn has(&self, item: &T) -> bool {
        self.0.contains_key(item)
    }
}

/// What `policy` would have go now. Holds as long as nobody else uses the store.
///
/// # Errors
/// What the system refuses.
pub fn plan(store: &Store, policy: &Policy) -> Result<Plan, Error> {
    plan_on(store, &Inventory::take(store)?, &mut measuring(store)?, policy)
}

/// What `policy` would have go of what `inventory` found.
pub(super) fn plan_on(
    store: &Store,
    inventory: &Inventory,
    measuring: &mut Measuring,
    policy: &Policy,
) -> Result<Plan, Error> {
    Planner::new(store, inventory, measuring)?.plan(policy)
}

/// Lets go of what `policy` says, and gives what went. The trash is the caller's to empty.
///
/// # Errors
/// What the system refuses; what went before stays gone, and nothing that names something that is gone stays.
pub fn prune(lock: &ExclusiveLock, policy: &Policy) -> Result<Plan, Error> {
    let plan = plan(lock.store(), policy)?;
    carry_out(lock, &plan)?;
    Ok(plan)
}

struct Planner<'s> {
    store: &'s Store,
    inventory: &'s Inventory,
    needs: Needs,
    units: Vec<Unit>,
    /// Of trees that are units, by their stack.
    trees: BTreeMap<ChainId, Vec<(PathBuf, u64)>>,
    plan: Plan,
}

impl<'s> Planner<'s> {
    fn new(store: &'s Store, inventory: &'s Inventory, measuring: &mut Measuring) -> Result<Self, Error> {
        let mut needs = Needs::default();
        let units = unit::all(store, inventory, measuring)?;
        let names = inventory
            .named
            .values()
            .map(|image| unit::of_image(UnitKind::Unnamed(image.target.digest), image, 0));
        let (_, sessions) = sessions::units(store, measuring)?;
        for unit in names.chain(sessions).chain(units.iter().cloned()) {
            needs.blobs.add(&unit.blobs);
            needs.diff_ids.add(&unit.diff_ids);
            needs.chains.add(&unit.chains);
        }
        let mut trees: BTreeMap<ChainId, Vec<(PathBuf, u64)>> = BTreeMap::new();
        for unit in &units {
            if let UnitKind::Tree(chain, home) = &unit.kind {
                trees.entry(*chain).or_default().push((home.clone(), unit.own_bytes));
            }
        }
        measuring.again();
        let before_bytes = measuring.tree(store.root()).disk_bytes;
        let plan = Plan { before_bytes, ..Plan::default() };
        Ok(Self { store, inventory, needs, units, trees, plan })
    }

    fn plan(mut self, policy: &Policy) -> Result<Plan, Error> {
        self.waste()?;
        let chosen = |unit: &Unit| match (policy.all, policy.unused_since, policy.keep_bytes) {
            (_, Some(moment), _) => unit.last_used < moment,
            (true, None, _) => true,
            (false, None, None) => matches!(unit.kind, UnitKind::Unnamed(_)),
            (false, None, Some(_)) => false,
        };
        let (go, stay): (Vec<Unit>, Vec<Unit>) =
            std::mem::take(&mut self.units).into_iter().partition(chosen);
        go.into_iter().for_each(|unit| self.drop_unit(unit));
        let keep = policy.keep_bytes.unwrap_or(u64::MAX);
        // What the next build would not miss at all goes before everything else.
        let (unnamed, others): (Vec<Unit>, Vec<Unit>) =
            stay.into_iter().partition(|unit| matches!(unit.kind, UnitKind::Unnamed(_)));
        let stay = unnamed.into_iter().chain(others);
        for unit in stay {
            if self.plan.before_bytes.saturating_sub(self.plan.freed_bytes) <= keep {
                break;
            }
            self.drop_unit(unit);
        }
        self.derived(policy.all && policy.unused_since.is_none())?;
        Ok(self.plan)
    }

    /// What nothing can use: records without their blob, explanations of what is gone, blobs that nobody names.
    fn waste(&mut self) -> Result<(), Error> {
        self.plan.records.extend(self.inventory.broken.iter().cloned());
        let unneeded: Vec<Digest> =
            self.inventory.blobs.keys().filter(|digest| !self.needs.blobs.has(digest)).copied().collect();
        unneeded.iter().for_each(|digest| self.drop_blob(*digest));
        let orphans: Vec<ChainId> =
            self.trees.keys().filter(|chain| !self.needs.chains.has(chain)).copied().collect();
        orphans.iter().for_each(|chain| self.drop_trees(*chain));
        Ok(())
    }

    fn drop_unit(&mut self, unit: Unit) {
        match &unit.kind {
            // It went with its stack already.
            UnitKind::Tree(chain, home) => {
                if let Some(trees) = self.trees.get_mut(chain)
                    && let Some(at) = trees.iter().position(|(path, _)| path == home)
                {
                    let (path, bytes) = trees.remove(at);
                    self.plan.trees.push(path);
                    self.plan.freed_bytes += bytes;
                } else {
                    return;
                }
            }
            _ => self.plan.freed_bytes += unit.own_bytes,
        }
        let free = self.needs.blobs.take(&unit.blobs);
        free.into_iter().for_each(|digest| self.drop_blob(digest));
        self.needs.diff_ids.take(&unit.diff_ids);
        let free = self.needs.chains.take(&unit.chains);
        free.into_iter().for_each(|chain| self.drop_trees(chain));
        self.plan.units.push(unit);
    }

    fn drop_blob(&mut self, digest: Digest) {
        if let Some(blob) = self.inventory.blobs.get(&digest) {
            self.plan.freed_bytes += if blob.shared { 0 } else { blob.disk_bytes };
            self.plan.blobs.push(digest);
        }
    }

    fn drop_trees(&mut self, chain: ChainId) {
        for (path, bytes) in self.trees.remove(&chain).unwrap_or_default() {
            self.plan.trees.push(path);
            self.plan.freed_bytes += bytes;
        }
    }

    /// Explanations and derived files of what stays are kept, unless everything is to go that can be made again.
    fn derived(&mut self, of_all: bool) -> Result<(), Error> {
        let gone: BTreeSet<String> = self
            .plan
            .units
            .iter()
            .filter_map(|unit| match &unit.kind {
                UnitKind::Step(key) => Some(key.hex()),
                _ => None,
            })
            .collect();
        let stays = |key: &crate::cache::Key| !gone.contains(&key.hex());
        let keys =
            self.inventory.entries.iter().map(|entry| entry.record.key).filter(stays).map(|key| key.hex());
        let (records, bytes) = derived::explanations(self.store, self.inventory, &keys.collect())?;
        self.plan.records.extend(records);
        self.plan.freed_bytes += bytes;
        let needs = &self.needs;
        let unneeded = |file: derived::Derived| match file {
            derived::Derived::OfLayer(diff_id) => of_all || !needs.diff_ids.has(&diff_id),
            derived::Derived::OfBlob(digest) => of_all || !needs.blobs.has(&digest),
            derived::Derived::NoteOn(manifest) => !needs.blobs.has(&manifest),
            derived::Derived::Unknown => true,
        };
        if of_all {
            // What arrived of transfers that broke off.
            for (path, _) in self.store.entries_of(&self.store.folder(Folder::Partial))? {
                self.plan.freed_bytes += Measuring::default().alone(&path).disk_bytes;
                self.plan.files.push(path);
            }
        }
        for (path, bytes) in derived::files(self.store, unneeded)? {
            self.plan.files.push(path);
            self.plan.freed_bytes += bytes;
        }
        Ok(())
    }
}

/// What names goes before what is named, so that no moment leaves a name without its thing.
fn carry_out(lock: &ExclusiveLock, plan: &Plan) -> Result<(), Error> {
    let store = lock.store();
    for unit in &plan.units {
        match &unit.kind {
            UnitKind::Step(key) => {
                store.remove_record(&key.hex())?;
                store.remove_record(&format!("{}.why", key.hex()))?;
            }
            UnitKind::Base(_, names) => {
                names.iter().try_for_each(|name| store.forget_fetched(name))?;
            }
            UnitKind::CacheMount(path)
            | UnitKind::Git(path)
            | UnitKind::Context(path)
            | UnitKind::Session(path)
            | UnitKind::Log(path) => {
                store.trash(path)?;
            }
            UnitKind::Unnamed(_) | UnitKind::Tree(..) => {}
        }
        if let UnitKind::CacheMount(path) = &unit.kind {
            for kind in ["note", "note-new", "lock"] {
                store.trash(&path.with_extension(kind))?;
            }
        }
    }
    plan.records.iter().try_for_each(|name| store.remove_record(name))?;
    plan.trees.iter().chain(&plan.files).try_for_each(|path| store.trash(path))?;
    // Manifests first: an image without one is none, one without a layer is broken.
    let (manifests, others): (Vec<&Digest>, Vec<&Digest>) = plan.blobs.iter().partition(|digest| {
        plan.units.iter().any(
            |unit| matches!(&unit.kind, UnitKind::Unnamed(top) | UnitKind::Base(top, _) if top == *digest),
        )
    });
    manifests.into_iter().chain(others).try_for_each(|digest| store.remove_blob(digest))
}
