//! The page: one file with its style, its script and its data, that asks nobody for anything.
//!
//! Its policy (Content-Security-Policy, Level 3) allows this one script and this one style, by their hashes, and no request at all. What
//! builds and images say is in it as JSON, which no parser of HTML can leave: `<`, `>` and `&` are written as escapes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Report;
use super::text::text;
use crate::text::terminal::{harmless_json, is_unsafe};

const PAGE: &str = include_str!("template/page.html");
const STYLE: &str = include_str!("template/page.css");
/// In the order in which they use each other.
const SCRIPTS: [&str; 8] = [
    include_str!("template/dom.js"),
    include_str!("template/words.js"),
    include_str!("template/model.js"),
    include_str!("template/timeline.js"),
    include_str!("template/slots.js"),
    include_str!("template/treemap.js"),
    include_str!("template/tables.js"),
    include_str!("template/main.js"),
];
/// As wide as the text is where scripts are not allowed.
const TEXT_COLUMNS: usize = 110;

/// The page of a report.
pub fn html(report: &Report) -> String {
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.join("\n"));
    let value = |name: &str| match name {
        "style" => STYLE.to_owned(),
        "style-hash" => hash(STYLE),
        "script-hash" => hash(&script),
        "script" => script.clone(),
        "data" => json(report),
        "title" => escaped(&format!("{} · rbuild", report.title)),
        "text" => escaped(&text(report, TEXT_COLUMNS)),
        "version" => escaped(&report.rbuild),
        _ => String::new(),
    };
    filled(PAGE, value)
}

/// The template with values in its places. What stands in a value is not looked at.
fn filled(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(200_000);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        out.push_str(&value(name));
        rest = after;
    }
    out + rest
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// JSON that is no markup whatever is in it, and that no terminal acts upon.
fn json(report: &Report) -> String {
    // Nothing in it can fail to be written: names of members are texts.
    let json = harmless_json(serde_json::to_string(report).unwrap_or_default());
    let mut out = String::with_capacity(json.len() + 1024);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if is_unsafe(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, Step};

    const HOSTILE: &str = "</script><script>alert(1)</script>{{data}}<!--\u{1b}[2J\u{202e}\u{2028}&amp;\"";

    #[test]
    fn nothing_leaves_the_data() {
        let step = Step { number: 1, target: 1, title: HOSTILE.to_owned(), ..Step::default() };
        let record = Record { steps: vec![step], ..Record::default() };
        let report = Report { title: HOSTILE.to_owned(), record: Some(record), ..Report::default() };
        let page = html(&report);
        assert_eq!(page.matches("<script").count(), 2, "{page}");
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("<!--") && !page.contains(['\u{1b}', '\u{202e}']), "{page}");
        let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next());
        let data: serde_json::Value = serde_json::from_str(data.unwrap_or_default()).unwrap_or_default();
        assert_eq!(data["record"]["steps"][0]["title"], HOSTILE);
        for request in ["http://", "https://", "src=", "@import", "url("] {
            let around = page
                .find(request)
                .map(|at| page[at.saturating_sub(40)..].chars().take(90).collect::<String>());
            // The name of SVG's elements is no address that anybody asks.
            assert!(
                around
                    .as_ref()
                    .is_none_or(|around| around.contains("www.w3.org/2000/svg") || around.contains("url(#")),
                "{around:?}"
            );
        }
    }

    #[test]
    fn the_template_is_small() {
        let page = html(&Report::default());
        assert!(page.len() < 90_000, "{}", page.len());
    }
}
