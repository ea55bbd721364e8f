//! What `rbuild bake --list` prints.

use serde_json::{Value, json};

use crate::bake::{Definition, escape_like_go};

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    Table,
    Json,
}

/// Targets and groups by name; those whose names begin with `_` are for others to inherit from.
pub(in crate::cli) fn targets(definition: &Definition, form: Form) -> String {
    let targets = definition.targets.iter().map(|target| (&target.name, target.description.clone(), false));
    let groups = definition.groups.iter().map(|group| {
        let mut names = group.targets.clone();
        names.sort();
        let names = names.join(", ");
        let description = match (group.description.as_str(), names.as_str()) {
            (description, "") => description.to_owned(),
            ("", names) => names.to_owned(),
            (description, names) => format!("{description} ({names})"),
        };
        (&group.name, description, true)
    });
    let mut all: Vec<(&String, String, bool)> = targets.chain(groups).collect();
    all.retain(|(name, ..)| !name.starts_with('_'));
    all.sort_by_key(|(name, ..)| *name);
    match form {
        Form::Table => {
            let rows = all.into_iter().map(|(name, description, _)| vec![name.clone(), description]);
            table(
                &std::iter::once(vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()])
                    .chain(rows)
                    .collect::<Vec<_>>(),
            )
        }
        Form::Json => pretty(all.into_iter().map(|(name, description, is_group)| {
            let mut entry = json!({"name": name});
            if !description.is_empty() {
                entry["description"] = json!(description);
            }
            if is_group {
                entry["group"] = json!(true);
            }
            entry
        })),
    }
}

/// Variables by name.
pub(in crate::cli) fn variables(definition: &Definition, form: Form) -> String {
    let all = definition.variables.iter();
    match form {
        Form::Table => {
            let heading = ["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"].map(str::to_owned).to_vec();
            let rows = all.map(|variable| {
                let value = variable.value.clone().unwrap_or_else(|| "<null>".to_owned());
                vec![
                    variable.name.clone(),
                    variable.of.clone().unwrap_or_default(),
                    value,
                    variable.description.clone(),
                ]
            });
            table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
        }
        Form::Json => pretty(all.map(|variable| {
            let mut entry = json!({"name": variable.name});
            if !variable.description.is_empty() {
                entry["description"] = json!(variable.description);
            }
            if let Some(of) = &variable.of {
                entry["type"] = json!(of);
            }
            if let Some(value) = &variable.value {
                entry["value"] = json!(value);
            }
            entry
        })),
    }
}

fn pretty(entries: impl Iterator<Item = Value>) -> String {
    let array = Value::Array(entries.collect());
    escape_like_go(&format!("{array:#}\n"))
}

/// Columns that begin at multiples of eight, parted by tabs, as buildx writes them.
fn table(rows: &[Vec<String>]) -> String {
    const TAB: usize = 8;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or(0) + 1).next_multiple_of(TAB)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let missing = widths[column] - cell.chars().count();
                text.push_str(&"\t".repeat(missing.div_ceil(TAB)));
            }
        }
        text.push('\n');
    }
    text
}
