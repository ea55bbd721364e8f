//! Lays one compose file over another, or a service over the one that it extends.

use super::super::fault::Result;
use crate::yaml::{Entry, Node, Tag, Yaml};

/// `over` laid over `base`; `path` says where both are.
pub(super) fn merge(base: Node, over: Node, path: &[&str]) -> Result<Node> {
    match over.tag {
        Tag::Override => return Ok(Node { tag: Tag::None, ..over }),
        // What is reset is taken away by whoever has it.
        Tag::Reset => return Ok(over.with(Yaml::Null)),
        Tag::None => {}
    }
    match path {
        ["services", _, "build"] => return merge_maps(as_build(base), as_build(over), path),
        ["services", _, "environment"]
        | ["services", _, "build", "args" | "additional_contexts" | "labels"] => {
            return Ok(over_pairs(&base, &over));
        }
        ["services", _, "build", "ssh"] => return Ok(over_pairs(&base, &over)),
        ["services", _, "env_file"] => return Ok(appended(as_list(base), as_list(over))),
        ["services", _, "build", "extra_hosts"] => {
            let (mut base, over) = (hosts(&base), hosts(&over));
            let known: Vec<Option<String>> = base.iter().map(Node::scalar).collect();
            base.extend(over.into_iter().filter(|host| !known.contains(&host.scalar())));
            let place = base.first().cloned();
            return Ok(place.map_or_else(|| Node::empty(&super::nowhere()), |p| p.with(Yaml::List(base))));
        }
        ["services", _, "build", "ulimits", _] => return Ok(over),
        _ => {}
    }
    if over.is_null() {
        return Ok(base);
    }
    match (&base.value, &over.value) {
        (Yaml::Map(_), Yaml::Map(_)) => merge_maps(base, over, path),
        (Yaml::List(_), Yaml::List(_)) => Ok(appended(base, over)),
        (Yaml::Map(_) | Yaml::List(_), _) => {
            let message = format!(
                "{} cannot take the place of {}, which an earlier file has",
                over.kind(),
                base.kind()
            );
            Err(over.fault(message, "here"))
        }
        _ => Ok(over),
    }
}

fn merge_maps(mut base: Node, over: Node, path: &[&str]) -> Result<Node> {
    let Yaml::Map(entries) = over.value else { return Ok(base) };
    for Entry { key, value, key_span } in entries {
        if value.tag == Tag::Reset {
            base.set(&key, None);
            continue;
        }
        let merged = match base.get(&key) {
            None => Node { tag: Tag::None, ..value },
            Some(known) => {
                let inner: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
                merge(known.clone(), value, &inner)?
            }
        };
        base.set(&key, Some(merged));
        if let Yaml::Map(entries) = &mut base.value
            && let Some(entry) = entries.iter_mut().find(|entry| entry.key == key)
        {
            entry.key_span = key_span;
        }
    }
    Ok(base)
}

/// `build: FOLDER` is short for `build: {context: FOLDER}`.
pub(super) fn as_build(node: Node) -> Node {
    match node.scalar() {
        Some(_) => {
            let mut build = node.with(Yaml::Map(Vec::new()));
            build.set("context", Some(Node { tag: Tag::None, ..node }));
            build
        }
        None => node,
    }
}

/// A single value is a list of one.
fn as_list(node: Node) -> Node {
    match node.value {
        Yaml::List(_) => node,
        _ => {
            let place = node.with(Yaml::Null);
            place.with(Yaml::List(vec![node]))
        }
    }
}

fn appended(base: Node, over: Node) -> Node {
    let place = over.with(Yaml::Null);
    match (base.value, over.value) {
        (Yaml::List(mut base), Yaml::List(over)) => {
            base.extend(over);
            place.with(Yaml::List(base))
        }
        (_, over) => place.with(over),
    }
}

fn over_pairs(base: &Node, over: &Node) -> Node {
    let mut all = over.with(Yaml::Map(Vec::new()));
    for (key, value) in pairs(base).into_iter().chain(pairs(over)) {
        all.set(&key, Some(value));
    }
    all
}

/// Keys with values, of a map or of a list of `KEY=VALUE`; a key alone has null.
pub(super) fn pairs(node: &Node) -> Vec<(String, Node)> {
    match &node.value {
        Yaml::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
        Yaml::List(elements) => elements
            .iter()
            .filter_map(|element| {
                let text = element.scalar()?;
                Some(match text.split_once('=') {
                    Some((key, value)) => (key.to_owned(), element.with(Yaml::Text(value.to_owned()))),
                    None => (text, element.with(Yaml::Null)),
                })
            })
            .collect(),
        _ => node.scalar().map(|text| (text, node.with(Yaml::Null))).into_iter().collect(),
    }
}

/// `HOST=ADDRESS`, each.
pub(super) fn hosts(node: &Node) -> Vec<Node> {
    match &node.value {
        Yaml::List(elements) => elements.clone(),
        Yaml::Map(entries) => {
            let one = |entry: &Entry| {
                let addresses: Vec<String> = match &entry.value.value {
                    Yaml::List(all) => all.iter().filter_map(Node::scalar).collect(),
                    _ => vec![entry.value.scalar().unwrap_or_default()],
                };
                let text = move |address: String| Yaml::Text(format!("{}={address}", entry.key));
                addresses.into_iter().map(move |address| entry.value.with(text(address))).collect::<Vec<_>>()
            };
            entries.iter().flat_map(one).collect()
        }
        _ => Vec::new(),
    }
}
