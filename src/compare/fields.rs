//! Documents in JSON, field by field.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Kind, Unplaced};

/// A value longer than this is cut.
const SHOWN: usize = 200;

/// Tells each field that differs by its path (RFC 6901), but for those below `except`.
pub(super) fn compare(first: &Value, second: &Value, except: &[&str], found: &mut dyn FnMut(Unplaced)) {
    walk(String::new(), Some(first), Some(second), except, found);
}

fn walk(
    path: String,
    first: Option<&Value>,
    second: Option<&Value>,
    except: &[&str],
    found: &mut dyn FnMut(Unplaced),
) {
    if first == second || except.contains(&path.as_str()) {
        return;
    }
    match (first, second) {
        (Some(Value::Object(one)), Some(Value::Object(two))) => {
            let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
            for name in names {
                let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                walk(path, one.get(name), two.get(name), except, found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(two))) => {
            for at in 0..one.len().max(two.len()) {
                walk(format!("{path}/{at}"), one.get(at), two.get(at), except, found);
            }
        }
        (first, second) => {
            let kind = match (first, second) {
                (_, None) => Kind::OnlyInFirst,
                (None, _) => Kind::OnlyInSecond,
                // What is a time in one is one in the other, if they are of the same field.
                (Some(Value::String(one)), Some(Value::String(two))) if is_time(one) && is_time(two) => {
                    Kind::Time
                }
                _ => Kind::Field,
            };
            found(Unplaced { path, kind, first: shown(first), second: shown(second), excerpt: None });
        }
    }
}

fn is_time(text: &str) -> bool {
    crate::oci::parse_rfc3339(text).is_some()
}

fn shown(value: Option<&Value>) -> String {
    let text = match value {
        None => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(first: &Value, second: &Value) -> Vec<String> {
        let mut all = Vec::new();
        compare(first, second, &["/not"], &mut |field| {
            all.push(format!("{} {}: {:?} {:?}", field.path, field.kind.word(), field.first, field.second));
        });
        all
    }

    #[test]
    fn each_field_by_its_path() {
        let one = json!({"a": 1, "env": ["A=1", "B=2"], "created": "2020-01-01T00:00:00Z", "not": 1, "x/y": {"z": "s"}});
        let two = json!({"a": 1, "env": ["A=1", "B=3", "C=4"], "created": "2021-01-01T00:00:00Z", "not": 2, "x/y": {}});
        assert_eq!(
            told(&one, &two),
            [
                "/created time: \"2020-01-01T00:00:00Z\" \"2021-01-01T00:00:00Z\"",
                "/env/1 field: \"B=2\" \"B=3\"",
                "/env/2 only-in-second: \"\" \"C=4\"",
                "/x~1y/z only-in-first: \"s\" \"\"",
            ]
        );
        assert_eq!(told(&one, &one), [""; 0]);
    }
}
