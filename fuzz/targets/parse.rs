//! Any text: no panic, every place inside of the text, and what is printed reads as the same.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rbuild::dockerfile::syntax::{Dockerfile, InstructionKind, Word};
use rbuild::dockerfile::{MAX_ERRORS, MAX_WARNINGS, checks, listing, mount, parse, parse_trigger};
use rbuild::report::{Diagnostic, Source, Span};

fuzz_target!(|text: &str| {
    let source = source(text);
    match parse(&source) {
        Ok(file) => right(&file, text),
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS);
            all_inside(&errors, text);
        }
    }
    let _ = parse_trigger(&source);
});

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() })
}

fn right(file: &Dockerfile, text: &str) {
    let findings = checks::check(file);
    assert!(findings.len() <= MAX_WARNINGS);
    all_inside(&checks::filter(file, findings).findings, text);
    let instructions =
        file.global_args.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions));
    for instruction in instructions {
        inside(instruction.span, text);
        inside(instruction.keyword.span, text);
        match &instruction.kind {
            InstructionKind::Run(run) => mounts(&run.mounts, text),
            InstructionKind::Onbuild(onbuild) => {
                let _ = parse_trigger(&self::source(&onbuild.expression));
            }
            _ => {}
        }
    }
    round_trip(file);
}

fn mounts(mounts: &[Word], text: &str) {
    for word in mounts {
        inside(word.span, text);
        let fields = mount::fields(&word.text).expect("the parser read the mount");
        let _ = mount::Mount::parse(&fields);
    }
}

fn round_trip(file: &Dockerfile) {
    let printed = file.to_string();
    let again = match parse(&source(&printed)) {
        Ok(again) => again,
        Err(errors) => panic!("what was printed cannot be read: {printed:?}\n{errors:#?}"),
    };
    assert_eq!(listing::list(file), listing::list(&again), "{printed:?}");
}

fn inside(span: Span, text: &str) {
    assert!(text.get(span.start as usize..span.end as usize).is_some(), "{span:?}");
}

fn all_inside(diagnostics: &[Diagnostic], text: &str) {
    diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels).for_each(|label| inside(label.span, text));
}
