//! What each layer did to the packages, and what two images differ by.

use std::collections::BTreeMap;

use super::keep::Layered;
use super::merge::{Component, State, state};
use super::package::Kind;
use crate::layer::view::RootView;

/// How a package came to be as it is, or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added,
    /// It had another version.
    Changed {
        /// Which.
        from: String,
    },
    /// It is not there any more.
    Removed,
}

/// A change to one package.
#[derive(Debug, Clone)]
pub struct Event<'l> {
    /// The layer that made it.
    pub layer: usize,
    /// The package, as it was where it was removed.
    pub component: Component<'l>,
    /// What was done.
    pub change: Change,
}

/// What an image has, and how it came there.
#[derive(Debug, Clone)]
pub struct History<'l> {
    /// The root that its layers make.
    pub view: RootView,
    /// What it has.
    pub state: State<'l>,
    /// What was done, from the lowest layer on.
    pub events: Vec<Event<'l>>,
}

impl<'l> History<'l> {
    /// The layer that brought a package in its version, and what it did.
    pub fn brought(&self, component: &Component<'_>) -> Option<&Event<'l>> {
        let is_it = |event: &&Event<'_>| {
            event.change != Change::Removed
                && identity(&event.component) == identity(component)
                && event.component.package.version == component.package.version
                && event.component.purl == component.purl
        };
        self.events.iter().rev().find(is_it)
    }
}

/// Goes through the layers of an image, the lowest first.
pub fn history(layers: &[Layered]) -> History<'_> {
    let (mut view, mut now, mut events) = (RootView::default(), State::default(), Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        view = view.push(layer.index.clone());
        let then = std::mem::replace(&mut now, state(&view, layers));
        let difference = difference(&then, &now);
        events.extend(difference.into_iter().map(|Difference { component, change }| Event {
            layer: number,
            component,
            change,
        }));
    }
    History { view, state: now, events }
}

/// A package that two states differ by.
#[derive(Debug, Clone)]
pub struct Difference<'l> {
    /// The package: of the second state, unless it was removed.
    pub component: Component<'l>,
    /// What has to be done to the first state.
    pub change: Change,
}

type Identity<'c> = (Kind, &'c str, &'c str, &'c str);

/// What stays when a package is upgraded.
fn identity<'c>(component: &'c Component<'_>) -> Identity<'c> {
    let arch =
        if component.package.kind.is_of_distribution() { component.package.qualifier("arch") } else { None };
    (component.package.kind, &component.package.name, arch.unwrap_or(""), component.place())
}

/// What has to be done to `a` to have `b`.
pub fn difference<'l>(a: &State<'l>, b: &State<'l>) -> Vec<Difference<'l>> {
    let mut sides: BTreeMap<Identity<'_>, [Vec<&Component<'l>>; 2]> = BTreeMap::new();
    for (side, state) in [a, b].into_iter().enumerate() {
        for component in &state.components {
            sides.entry(identity(component)).or_default()[side].push(component);
        }
    }
    let mut found = Vec::new();
    for [mut old, mut new] in sides.into_values() {
        // What is on both sides is no difference; several versions of one module may be in one program.
        old.retain(|component| {
            let version = &component.package.version;
            match new.iter().position(|other| other.package.version == *version) {
                Some(same) => {
                    new.remove(same);
                    false
                }
                None => true,
            }
        });
        let changed = old.len().min(new.len());
        let (removed, added) = (old.split_off(changed), new.split_off(changed));
        let mut push = |component: &Component<'l>, change| {
            found.push(Difference { component: component.clone(), change });
        };
        for (old, new) in old.into_iter().zip(new) {
            push(new, Change::Changed { from: old.package.version.clone() });
        }
        removed.into_iter().for_each(|component| push(component, Change::Removed));
        added.into_iter().for_each(|component| push(component, Change::Added));
    }
    found
}
