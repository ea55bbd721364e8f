//! The texts of `created_by`, letter for letter as BuildKit writes them, which is how Go prints values.

use std::collections::HashMap;

use crate::oci::Healthcheck;
use crate::text::duration::print_go;

use super::scope::{Argument, Environment};

/// `RUN |2 A=1 B=2 /bin/sh -c …`: the ARGs so far, each once, at the value that the command sees.
pub(super) fn run(args: &[String], arguments: &[Argument], env: &Environment) -> String {
    let mut shown: Vec<(&str, &str)> = Vec::new();
    if !arguments.is_empty() {
        let mut places = HashMap::new();
        for Argument { name, value } in arguments {
            let value = env.value(name).or(value.as_deref()).unwrap_or_default();
            let place = *places.entry(name).or_insert(shown.len());
            match shown.get_mut(place) {
                Some(pair) => pair.1 = value,
                None => shown.push((name, value)),
            }
        }
    }
    let mut words = Vec::new();
    if !shown.is_empty() {
        words.push(format!("|{}", shown.len()));
        words.extend(shown.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(args.iter().cloned());
    format!("RUN {} # buildkit", words.join(" "))
}

/// Go's `%v` of a list: `[a b]`.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// Go's `%q` of a list: `["a" "b"]`.
pub(super) fn quoted(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(" "))
}

/// Go's `%+v` of a health check.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        list(&check.test),
        print_go(check.interval),
        print_go(check.timeout),
        print_go(check.start_period),
        print_go(check.start_interval),
        check.retries
    )
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if !is_printable(c) && (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if !is_printable(c) => out.push_str(&format!("\\U{:08x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Close to Go's `IsPrint`: no control characters, no blanks but the ASCII one, nothing that only
/// directs the display.
fn is_printable(c: char) -> bool {
    let directs = matches!(c as u32, 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff);
    let private = matches!(c as u32, 0xe000..=0xf8ff | 0xf_0000..);
    c == ' ' || !(c.is_control() || c.is_whitespace() || directs || private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        let items = ["a b", "\"\\", "\n\t\x01\x7f", "é日", "\u{200b}"].map(str::to_owned);
        assert_eq!(quoted(&items), "[\"a b\" \"\\\"\\\\\" \"\\n\\t\\x01\\x7f\" \"é日\" \"\\u200b\"]");
        assert_eq!(quoted(&[]), "[]");
    }

    #[test]
    fn shows_each_argument_once_at_its_present_value() {
        let mut env = Environment::default();
        env.set("A", "now");
        let argument = |name: &str, value: Option<&str>| Argument {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        let arguments = [argument("A", Some("then")), argument("D", None), argument("A", Some("again"))];
        let text = run(&["/bin/sh".to_owned(), "-c".to_owned(), "x".to_owned()], &arguments, &env);
        assert_eq!(text, "RUN |2 A=now D= /bin/sh -c x # buildkit");
    }
}
