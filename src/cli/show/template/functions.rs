//! The functions of templates: Go's own that compare and print, and docker's.

use serde_json::{Value, json};

use super::TemplateError;
use super::eval::{is_true, shown};

const NAMES: [&str; 25] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad",
    "print", "printf", "println", "replace", "slice", "split", "title", "trim", "truncate", "upper",
];

fn error(text: impl Into<String>) -> TemplateError {
    TemplateError(text.into())
}

/// What function `name` makes of `arguments`.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let text = |text: String| Ok(Value::String(text));
    let wrong = || error(format!("`{name}` cannot take {} arguments of these kinds", arguments.len()));
    match (name, arguments) {
        ("json", [value]) => text(value.to_string()),
        ("len", [value]) => length(value).map(|len| json!(len)).ok_or_else(wrong),
        ("lower", [value]) => text(shown(value).to_lowercase()),
        ("upper", [value]) => text(shown(value).to_uppercase()),
        ("title", [value]) => text(titled(&shown(value))),
        ("trim", [value]) => text(shown(value).trim().to_owned()),
        ("join", [Value::Array(items), separator]) => {
            text(items.iter().map(shown).collect::<Vec<_>>().join(&shown(separator)))
        }
        ("join", [Value::Null, _]) => text(String::new()),
        ("split", [value, separator]) => {
            Ok(shown(value).split(&shown(separator)).map(str::to_owned).collect::<Vec<_>>().into())
        }
        ("replace", [value, from, to]) => text(shown(value).replace(&shown(from), &shown(to))),
        ("truncate", [value, Value::Number(len)]) => {
            text(shown(value).chars().take(len.as_u64().unwrap_or(0) as usize).collect())
        }
        ("pad", [value, before, after]) => match (value.as_str(), before.as_u64(), after.as_u64()) {
            (Some(value), Some(before @ ..=1000), Some(after @ ..=1000)) => {
                text(format!("{}{value}{}", " ".repeat(before as usize), " ".repeat(after as usize)))
            }
            _ => Err(wrong()),
        },
        ("print", values) => text(values.iter().map(shown).collect::<Vec<_>>().join(" ")),
        ("println", values) => text(values.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [Value::String(format), values @ ..]) => text(printf(format, values)?),
        ("index", [value, keys @ ..]) => {
            keys.iter().try_fold(value.clone(), |value, key| element(&value, key))
        }
        ("slice", [value, bounds @ ..]) => slice(value, bounds).ok_or_else(wrong),
        ("not", [value]) => Ok(Value::Bool(!is_true(value))),
        ("and", [.., last]) => Ok(arguments.iter().find(|v| !is_true(v)).unwrap_or(last).clone()),
        ("or", [.., last]) => Ok(arguments.iter().find(|v| is_true(v)).unwrap_or(last).clone()),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            Ok(Value::Bool(others.iter().any(|other| other == first)))
        }
        ("ne", [a, b]) => Ok(Value::Bool(a != b)),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = order(a, b).ok_or_else(wrong)?;
            Ok(Value::Bool(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }))
        }
        _ if NAMES.contains(&name) => Err(wrong()),
        _ => Err(error(format!("there is no function `{name}`; there are {}", NAMES.join(", ")))),
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(items) => Some(items.len()),
        Value::Object(map) => Some(map.len()),
        Value::Null => Some(0),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

fn titled(text: &str) -> String {
    let mut starts = true;
    let letter = |c: char| {
        let upper = starts;
        starts = c.is_whitespace();
        if upper { c.to_uppercase().to_string() } else { c.to_string() }
    };
    text.chars().map(letter).collect()
}

/// An element of a list must be there; one of a map need not be.
fn element(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        (Value::Array(items), Value::Number(at)) => {
            let item = at.as_u64().and_then(|at| items.get(at as usize));
            item.cloned().ok_or_else(|| error(format!("the list has no element {at}")))
        }
        (Value::Object(map), Value::String(name)) => Ok(map.get(name).cloned().unwrap_or(Value::Null)),
        (Value::Null, _) => Ok(Value::Null),
        _ => Err(error(format!("`index` cannot find {key} in `{}`", shown(value)))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Option<Value> {
    let bounds = bounds.iter().map(|b| b.as_u64().map(|b| b as usize)).collect::<Option<Vec<_>>>()?;
    let (from, to) = (bounds.first().copied().unwrap_or(0), bounds.get(1).copied());
    match value {
        Value::String(text) => Some(text.get(from..to.unwrap_or(text.len()))?.into()),
        Value::Array(items) => Some(items.get(from..to.unwrap_or(items.len()))?.to_vec().into()),
        _ => None,
    }
}

fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// The verbs `%s`, `%v`, `%d`, `%q` and `%%`, with a width.
fn printf(format: &str, values: &[Value]) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut width = String::new();
        let verb = loop {
            match chars.next() {
                Some(c) if c.is_ascii_digit() || (c == '-' && width.is_empty()) => width.push(c),
                other => break other,
            }
        };
        let mut next = || values.next().ok_or_else(|| error("`printf` has fewer values than verbs"));
        let text = match verb {
            Some('%') => "%".to_owned(),
            Some('s' | 'v' | 'd') => shown(next()?),
            Some('q') => Value::String(shown(next()?)).to_string(),
            other => {
                return Err(error(format!(
                    "`printf` knows %s, %v, %d and %q, not `%{}`",
                    other.unwrap_or(' ')
                )));
            }
        };
        let columns = width.trim_start_matches('-').parse::<usize>().unwrap_or(0).min(1000);
        out.push_str(&match width.starts_with('-') {
            true => format!("{text:columns$}"),
            false => format!("{text:>columns$}"),
        });
    }
    Ok(out)
}
