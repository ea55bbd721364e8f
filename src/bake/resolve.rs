//! From names on the command line to targets with all that they inherit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as JsonValue};

use super::allow::Granted;
use super::entries::Output;
use super::fault::{Result, did_you_mean, fault, with_help};
use super::overrides::Overrides;
use super::target::Target;
use super::{Definition, Group, read};
use crate::context::glob::Glob;

/// What is to be built.
#[derive(Debug, Default)]
pub struct Resolved {
    /// By name; those that others are linked to are among them.
    pub targets: BTreeMap<String, Target>,
    /// By name; `default` is what was asked for.
    pub groups: BTreeMap<String, Group>,
    /// What `--set` allows by naming it.
    pub granted: Granted,
}

/// As many targets may inherit from each other in a row.
const DEPTH: usize = 500;

/// Finds what `names` stand for; `overrides` are those of `--set`, in their order.
///
/// # Errors
/// A name that leads nowhere, a target that needs itself, an override that means nothing.
pub fn resolve(definition: &Definition, names: &[String], overrides: &[String]) -> Result<Resolved> {
    let mut wanted: Vec<String> = Vec::new();
    for name in names {
        // Names of compose's services may have dots, which are none of bake's.
        for name in definition.matching(&name.replace('.', "_"))? {
            if !wanted.contains(&name) {
                wanted.push(name);
            }
        }
    }
    let mut resolver = Resolver {
        definition,
        overrides: Overrides::read(overrides, definition)?,
        resolved: Resolved::default(),
        known: BTreeMap::new(),
    };
    for name in &wanted {
        let (targets, groups) = resolver.members(name, &mut BTreeMap::new(), 0)?;
        for target in targets {
            if !resolver.resolved.targets.contains_key(&target) {
                let found = resolver.target(&target)?;
                resolver.resolved.targets.insert(target, found);
            }
        }
        for group in groups {
            if let Some(found) = definition.groups.iter().find(|known| known.name == group) {
                resolver.resolved.groups.insert(group, found.clone());
            }
        }
    }
    let Resolver { resolved, .. } = &mut resolver;
    for name in wanted {
        if name == "default" && resolved.groups.contains_key("default") {
            continue;
        }
        let empty = Group { name: "default".to_owned(), description: String::new(), targets: Vec::new() };
        resolved.groups.entry("default".to_owned()).or_insert(empty).targets.push(name);
    }
    if let Some(group) = resolved.groups.get_mut("default") {
        group.targets.sort();
        group.targets.dedup();
    }
    for name in resolver.resolved.targets.keys().cloned().collect::<Vec<_>>() {
        resolver.link(&name, &mut Vec::new())?;
    }
    Ok(resolver.resolved)
}

/// The targets of a group, and the groups in it.
type Members = (Vec<String>, Vec<String>);

struct Resolver<'d> {
    definition: &'d Definition,
    overrides: Overrides,
    resolved: Resolved,
    /// Targets with all that they inherit.
    known: BTreeMap<String, Target>,
}

impl Definition {
    /// The groups and targets whose names a pattern matches; what is no pattern is itself.
    fn matching(&self, pattern: &str) -> Result<Vec<String>> {
        if !pattern.contains(['*', '?', '[', ']']) {
            return Ok(vec![pattern.to_owned()]);
        }
        let groups = self.groups.iter().map(|group| &group.name);
        let all = groups.chain(self.targets.iter().map(|target| &target.name));
        let found: Vec<String> = all.filter(|name| matches(pattern, name)).cloned().collect();
        match found.is_empty() {
            true => Err(fault(format!("no target is like `{pattern}`"))),
            false => Ok(found),
        }
    }

    /// The targets that `--set` means by a pattern.
    pub(super) fn targets_like(&self, pattern: &str) -> Result<Vec<String>> {
        let names = || self.targets.iter().map(|target| target.name.as_str());
        if names().any(|name| name == pattern) {
            return Ok(vec![pattern.to_owned()]);
        }
        let found: Vec<String> = names().filter(|name| matches(pattern, name)).map(str::to_owned).collect();
        match found.is_empty() {
            true => Err(with_help(
                fault(format!("no target is like `{pattern}`")),
                did_you_mean(pattern, names()),
            )),
            false => Ok(found),
        }
    }

    fn unknown(&self, name: &str, by: Option<(&str, &str)>) -> Box<crate::report::Diagnostic> {
        let by = by.map(|(how, who)| format!(", which `{who}` {how}")).unwrap_or_default();
        let fault = fault(format!("there is no target `{name}`{by}"));
        if self.groups.iter().any(|group| group.name == name) {
            let help = format!("the group `{name}` is in itself, which means a target of that name");
            return Box::new(fault.help(help));
        }
        let targets = self.targets.iter().map(|target| target.name.as_str());
        let known: Vec<&str> = self.groups.iter().map(|group| group.name.as_str()).chain(targets).collect();
        if let Some(near) = did_you_mean(name, known.iter().copied()) {
            return Box::new(fault.help(near));
        }
        let shown: Vec<String> = known
            .iter()
            .filter(|name| !name.starts_with('_'))
            .take(12)
            .map(|name| format!("`{name}`"))
            .collect();
        match shown.is_empty() {
            true => fault,
            false => Box::new(fault.help(format!("there are {}", shown.join(", ")))),
        }
    }
}

/// As Go's `path.Match`; a pattern that is broken matches nothing.
fn matches(pattern: &str, name: &str) -> bool {
    Glob::new(pattern.as_bytes()).is_ok_and(|glob| glob.matches(name.as_bytes()))
}

impl Resolver<'_> {
    /// The targets of a group, and the groups that are in it; a target is itself.
    fn members(
        &self,
        name: &str,
        visited: &mut BTreeMap<String, Option<Members>>,
        depth: usize,
    ) -> Result<Members> {
        match visited.get(name) {
            Some(Some(known)) => return Ok(known.clone()),
            // A group that has its own name in it means the target of that name.
            Some(None) => return Ok((vec![name.to_owned()], Vec::new())),
            None => {}
        }
        let Some(group) = self.definition.groups.iter().find(|group| group.name == name) else {
            return Ok((vec![name.to_owned()], Vec::new()));
        };
        if depth > DEPTH {
            return Err(fault(format!("more than {DEPTH} groups are in each other")));
        }
        visited.insert(name.to_owned(), None);
        let (mut targets, mut groups) = (Vec::new(), vec![name.to_owned()]);
        for member in &group.targets {
            let (inner, inner_groups) = self.members(member, visited, depth + 1)?;
            targets.extend(inner);
            groups.extend(inner_groups);
        }
        let known = (unique(targets), unique(groups));
        visited.insert(name.to_owned(), Some(known.clone()));
        Ok(known)
    }

    /// A target with all that it inherits, and what was overridden.
    fn target(&mut self, name: &str) -> Result<Target> {
        let mut target = self.inherited(name, None, &mut Vec::new())?;
        target.inherits.clear();
        if target.context.is_none() {
            let base = target.bases.usual.clone().unwrap_or_default();
            target.context = Some(read::based(&base, "."));
        }
        if target.dockerfile.as_deref().is_none_or(str::is_empty) {
            target.dockerfile = Some("Dockerfile".to_owned());
        }
        Ok(target)
    }

    fn inherited(&mut self, name: &str, by: Option<&str>, path: &mut Vec<String>) -> Result<Target> {
        let definition = self.definition;
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        let Some(own) = definition.targets.iter().find(|target| target.name == name) else {
            return Err(definition.unknown(name, by.map(|by| ("inherits from", by))));
        };
        if let Some(from) = path.iter().position(|known| known == name) {
            let cycle: Vec<&str> = path[from..].iter().map(String::as_str).chain([name]).collect();
            let fault = fault(format!("the target `{name}` inherits from itself: {}", cycle.join(" → ")));
            return Err(Box::new(fault.help("take one of them out of `inherits`")));
        }
        if path.len() > DEPTH {
            return Err(fault(format!("more than {DEPTH} targets inherit from each other")));
        }
        path.push(name.to_owned());
        let mut target = Target { name: name.to_owned(), ..Target::default() };
        for base in &own.inherits {
            let base = self.inherited(base, Some(name), path)?;
            target.merge(&base);
        }
        path.pop();
        target.merge(own);
        self.overrides.apply(name, &mut target, &mut self.resolved.granted)?;
        target.normalize();
        self.known.insert(name.to_owned(), target.clone());
        Ok(target)
    }

    /// Finds the targets that `contexts` of a target name.
    fn link(&mut self, name: &str, path: &mut Vec<String>) -> Result<()> {
        path.push(name.to_owned());
        let contexts = self.resolved.targets.get(name).map(|target| target.contexts.clone());
        for linked in contexts.iter().flatten().filter_map(|(_, context)| context.strip_prefix("target:")) {
            if path.iter().any(|known| known == linked) || path.len() > DEPTH {
                let from = path.iter().position(|known| known == linked).unwrap_or(0);
                let cycle: Vec<&str> = path[from..].iter().map(String::as_str).chain([linked]).collect();
                let message = format!("the target `{linked}` has itself as a context: {}", cycle.join(" → "));
                return Err(fault(message));
            }
            if !self.resolved.targets.contains_key(linked) {
                let known = self.definition.targets.iter().any(|target| target.name == linked);
                if !known {
                    return Err(self.definition.unknown(linked, Some(("has as a context", name))));
                }
                let mut target = self.target(linked)?;
                target.outputs = Some(vec![Output { kind: "cacheonly".to_owned(), ..Output::default() }]);
                target.is_linked = true;
                self.resolved.targets.insert(linked.to_owned(), target);
            }
            self.link(linked, path)?;
            self.inherit_rights(name, linked)?;
        }
        path.pop();
        Ok(())
    }

    /// What is allowed to a target is needed by who has it as a context; and platforms have to be there.
    fn inherit_rights(&mut self, name: &str, linked: &str) -> Result<()> {
        let targets = &mut self.resolved.targets;
        let (rights, platforms) = match targets.get(linked) {
            Some(linked) => (linked.entitlements.clone(), linked.platforms.clone().unwrap_or_default()),
            None => return Ok(()),
        };
        let Some(target) = targets.get_mut(name) else { return Ok(()) };
        for right in rights {
            if !target.entitlements.contains(&right) {
                target.entitlements.push(right);
            }
        }
        let own = target.platforms.clone().unwrap_or_default();
        let missing = own.iter().find(|platform| !platforms.contains(platform));
        match missing.filter(|_| own.len() > 1 && platforms.len() > 1) {
            Some(missing) => Err(fault(format!(
                "the target `{name}` is for {missing}, and `{linked}`, which it has as a context, is not"
            ))),
            None => Ok(()),
        }
    }
}

fn unique(names: Vec<String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    names.into_iter().filter(|name| known.insert(name.clone())).collect()
}

impl Resolved {
    /// What `--print` shows: a definition in JSON that asks for the same.
    pub fn printed(&self) -> String {
        let target = |(name, target): (&String, &Target)| (name.clone(), target.json());
        self.shown(self.targets.iter().map(target).collect())
    }

    /// As [`Self::printed`], with what was found of each target.
    pub fn printed_with(&self, found: &Map<String, JsonValue>) -> String {
        let target = |(name, target): (&String, &Target)| {
            let mut all = Map::from_iter([("build".to_owned(), target.json())]);
            if let Some(JsonValue::Object(found)) = found.get(name) {
                all.extend(found.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            (name.clone(), JsonValue::Object(all))
        };
        self.shown(self.targets.iter().map(target).collect())
    }

    fn shown(&self, targets: Map<String, JsonValue>) -> String {
        let mut all = Map::new();
        if !self.groups.is_empty() {
            let group = |(name, group): (&String, &Group)| {
                let mut fields = Map::new();
                if !group.description.is_empty() {
                    fields.insert("description".to_owned(), group.description.as_str().into());
                }
                fields.insert("targets".to_owned(), group.targets.clone().into());
                (name.clone(), JsonValue::Object(fields))
            };
            all.insert("group".to_owned(), JsonValue::Object(self.groups.iter().map(group).collect()));
        }
        all.insert("target".to_owned(), JsonValue::Object(targets));
        let json = serde_json::to_string_pretty(&JsonValue::Object(all)).unwrap_or_default();
        super::escape_like_go(&json)
    }
}
