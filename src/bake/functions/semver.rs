//! Semantic versions against constraints, as the library Masterminds/semver has them.

use std::cmp::Ordering;

use super::{Call, Outcome, at};
use crate::bake::value::Value;

/// A version; what follows `+` does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    /// What follows `-`, in its parts.
    pre: Vec<String>,
}

/// What a constraint leaves open: `1.x` has only one number.
struct Partial {
    version: Version,
    /// How many numbers it names.
    named: usize,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let partial = Partial::parse(text)?;
        (partial.named > 0).then_some(partial.version)
    }

    fn bumped(&self, at: usize) -> Self {
        let mut numbers = [0; 3];
        numbers[..=at].copy_from_slice(&self.numbers[..=at]);
        numbers[at] = numbers[at].saturating_add(1);
        Self { numbers, pre: Vec::new() }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => order(&self.pre, &other.pre),
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn order(one: &[String], two: &[String]) -> Ordering {
    for (one, two) in one.iter().zip(two) {
        let by = match (one.parse::<u64>(), two.parse::<u64>()) {
            (Ok(one), Ok(two)) => one.cmp(&two),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => one.cmp(two),
        };
        if by != Ordering::Equal {
            return by;
        }
    }
    one.len().cmp(&two.len())
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (numbers, pre) = text.split_once('-').map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
        let parts: Vec<&str> = numbers.split('.').collect();
        let mut version = Version { numbers: [0; 3], pre: Vec::new() };
        let mut named = 0;
        if parts.len() > 3 {
            return None;
        }
        for (at, part) in parts.iter().enumerate() {
            match *part {
                "x" | "X" | "*" => break,
                digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    version.numbers[at] = digits.parse().ok()?;
                    named = at + 1;
                }
                _ => return None,
            }
        }
        if let Some(pre) = pre {
            let is_part =
                |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !pre.split('.').all(is_part) {
                return None;
            }
            version.pre = pre.split('.').map(str::to_owned).collect();
        }
        Some(Self { version, named })
    }
}

pub(super) fn semvercmp(call: &Call<'_>) -> Outcome {
    let (version, constraint) = (call.text(0), call.text(1));
    let Some(version) = Version::parse(version) else {
        return at(0, format!("`{version}` is no semantic version"));
    };
    for alternative in constraint.split("||") {
        let Some(tests) = tests(alternative) else {
            return at(1, format!("`{constraint}` is no constraint on versions"));
        };
        let mut holds = true;
        for (operator, operand) in tests {
            match check(&version, operator, &operand) {
                Some(this) => holds &= this,
                None => return at(1, format!("`{constraint}` is no constraint on versions")),
            }
        }
        if holds {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

const OPERATORS: [&str; 11] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];

/// Operators with their operands; a range of two versions is two tests.
fn tests(text: &str) -> Option<Vec<(&str, String)>> {
    if let Some((from, to)) = text.split_once(" - ") {
        return Some(vec![(">=", from.trim().to_owned()), ("<=", to.trim().to_owned())]);
    }
    let mut tests = Vec::new();
    for mut rest in text.split(',').map(str::trim) {
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let operator = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)).unwrap_or("");
            let after = rest[operator.len()..].trim_start();
            let end = after.find(|c: char| c.is_whitespace() || "<>=!~^".contains(c)).unwrap_or(after.len());
            if end == 0 {
                return None;
            }
            tests.push((operator, after[..end].to_owned()));
            rest = after[end..].trim_start();
        }
    }
    Some(tests)
}

fn check(version: &Version, operator: &str, operand: &str) -> Option<bool> {
    let Partial { version: wanted, named } = Partial::parse(operand)?;
    // Versions before a release count only where the constraint names one.
    let is_hidden = !version.pre.is_empty() && wanted.pre.is_empty();
    let within = |below: Version| *version >= wanted && *version < below;
    Some(match operator {
        "!=" if named < 3 => !(named > 0 && within(wanted.bumped(named - 1))),
        "!=" => *version != wanted,
        _ if is_hidden => false,
        "" | "=" | "~" | "~>" | "^" if named == 0 => true,
        "" | "=" if named < 3 => within(wanted.bumped(named - 1)),
        "" | "=" => *version == wanted,
        ">" if named == 0 => false,
        ">" if named < 3 => *version >= wanted.bumped(named - 1),
        ">" => *version > wanted,
        ">=" | "=>" => *version >= wanted,
        "<" => *version < wanted,
        "<=" | "=<" if named == 0 => true,
        "<=" | "=<" if named < 3 => *version < wanted.bumped(named - 1),
        "<=" | "=<" => *version <= wanted,
        "~" | "~>" => within(wanted.bumped(named.min(2) - 1)),
        "^" => {
            let first = wanted.numbers[..named].iter().position(|number| *number > 0);
            within(wanted.bumped(first.unwrap_or(named - 1)))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests_of_constraints {
    use super::*;

    #[test]
    fn constraints() {
        for (version, constraint, holds) in [
            ("1.2.3", ">= 1.2, < 2", true),
            ("2.0.0", ">= 1.2 < 2", false),
            ("1.9.9", "^1.2", true),
            ("0.3.0", "^0.2.3", false),
            ("1.2.9", "~1.2.3", true),
            ("1.3.0", "~1.2", false),
            ("1.3.0", "~1", true),
            ("1.2.3-rc.1", ">= 1.0", false),
            ("1.2.3-rc.1", ">= 1.2.3-0", true),
            ("v1.5", "1.x || 3", true),
            ("3.1.0", "1.x || 3", true),
            ("1.4.0", "1.2 - 1.4.5", true),
            ("1.2.4", "!=1.2.3", true),
            ("1.2.3", "*", true),
        ] {
            let version = Version::parse(version).expect("a version");
            let all = |part: &str| {
                tests(part)
                    .expect("a constraint")
                    .iter()
                    .all(|(op, operand)| check(&version, op, operand) == Some(true))
            };
            assert_eq!(constraint.split("||").any(all), holds, "{version:?} {constraint}");
        }
    }
}
