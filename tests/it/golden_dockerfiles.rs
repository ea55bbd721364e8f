//! Realistic Dockerfiles, and what the parser understands of them; see `testdata/dockerfiles/README.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbuild::dockerfile::syntax::{Dockerfile, Instruction};
use rbuild::dockerfile::{checks, listing, parse};
use rbuild::report::{Source, Span};

const UPDATE: &str = "RBUILD_BLESS";

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() })
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfiles");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

fn read(text: &str) -> Dockerfile {
    parse(&source(text)).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"))
}

/// Directives, then each instruction behind its line, its comment above it; then the findings.
fn dump(file: &Dockerfile) -> String {
    let line = |span: Span| file.source.line_column(span.start).0;
    let comment = |text: &str| text.lines().map(|line| format!("    # {line}\n")).collect::<String>();
    let instruction =
        |i: &Instruction| format!("{}{:3} {}\n", comment(&i.comment), line(i.span), listing::instruction(i));
    let mut text = format!("escape {}\n", file.directives.escape);
    text.extend(file.directives.syntax.iter().map(|syntax| format!("syntax {}\n", syntax.text)));
    text.extend(file.directives.check.iter().map(|check| {
        format!("check skip={:?} error={} experimental={:?}\n", check.skip, check.error, check.experimental)
    }));
    text.extend(file.global_args.iter().map(instruction));
    for stage in &file.stages {
        let from = &stage.from;
        let place = line(from.span);
        text.push_str(&format!("\n{}{place:3} {}\n", comment(&from.comment), listing::from(from)));
        text.extend(stage.instructions.iter().map(instruction));
    }
    text + &findings(file)
}

fn findings(file: &Dockerfile) -> String {
    let filtered = checks::filter(file, checks::check(file));
    let mut text = String::new();
    for finding in filtered.findings {
        let line = file.source.line_column(finding.labels[0].span.start).0;
        text.push_str(&format!("\n{line:3} {}: {}", finding.code.unwrap_or_default(), finding.message));
    }
    text.extend(filtered.error.map(|error| format!("\nerror: {}", error.message)));
    if text.is_empty() { text } else { text + "\n" }
}

#[test]
fn are_understood_as_before() {
    let cases = cases();
    assert!(cases.len() >= 15, "the files are missing");
    let mut changed = Vec::new();
    for case in cases {
        let text = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        let (golden, found) = (case.join("syntax.txt"), dump(&read(&text)));
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&golden, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        let difference = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
        if expected != found {
            let name = case.file_name().unwrap().display().to_string();
            changed.push(format!(
                "{name}: {}",
                difference.map_or_else(String::new, |(e, f)| format!("\n- {e}\n+ {f}"))
            ));
        }
    }
    assert!(changed.is_empty(), "{}\n{UPDATE}=1 accepts what is meant", changed.join("\n"));
}

#[test]
fn are_printed_as_they_are_understood() {
    for case in cases() {
        let file = read(&std::fs::read_to_string(case.join("Dockerfile")).unwrap());
        let printed = file.to_string();
        assert_eq!(listing::list(&file), listing::list(&read(&printed)), "{}\n{printed}", case.display());
    }
}
