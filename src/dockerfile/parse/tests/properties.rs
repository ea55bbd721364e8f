//! What holds for any text.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{parse, source};
use crate::dockerfile::listing::list;
use crate::dockerfile::{checks, mount, parse_trigger, words};
use crate::report::{Diagnostic, Span};

/// Pieces from which texts are made that reach far into the parser.
const PIECES: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "CMD ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "VOLUME ",
    "EXPOSE ",
    "SHELL ",
    "# escape=`\n",
    "# check=skip=all\n",
    "#",
    "\\\n",
    "`\n",
    "\n",
    "\r\n",
    " ",
    "\t",
    "a",
    "é",
    "=",
    "\"",
    "'",
    "\\",
    "$",
    "${",
    "}",
    ":-",
    "<<",
    "<<-",
    "EOF",
    "\nEOF\n",
    "[",
    "]",
    ",",
    "--",
    "--from=",
    "--mount=",
    "--chown",
    " AS ",
    "1s",
    "{",
    "\u{feff}",
    "\u{a0}",
    "\0",
    "/",
    "*",
    "?",
    "%",
];

fn text() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..40);
    let made = pieces.prop_map(|pieces| pieces.concat());
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let arbitrary = bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    prop_oneof![4 => made.clone(), 4 => made.prop_map(|text| format!("FROM a\n{text}")), 1 => arbitrary]
}

/// An instruction of any kind that can be printed and read again.
fn instruction() -> impl Strategy<Value = String> {
    let word = "[a-z$/.é]{1,6}";
    let quoted = "([a-z]{0,3}|\"[a-z $]{0,6}\"|'[a-z $]{0,6}'|\\\\ [a-z]){1,3}";
    let one = "(USER|WORKDIR|STOPSIGNAL|MAINTAINER|EXPOSE|VOLUME|CMD|ENTRYPOINT|ONBUILD RUN)";
    prop_oneof![
        (word, quoted).prop_map(|(key, value)| format!("ENV {key}={value} b={value}")),
        (word, word).prop_map(|(key, value)| format!("LABEL {key} {value}  x=y")),
        (word, quoted).prop_map(|(key, value)| format!("ARG {key} c={value}")),
        (quoted, word).prop_map(|(flag, a)| format!("COPY --chown={flag} --link --exclude={flag} {a} b /d")),
        (word, word).prop_map(|(a, b)| format!("ADD [\"{a} {b}\", \"{b}\"]")),
        ("[a-z\n\t]{0,9}", "(|3)", "(E|'E'|-E)")
            .prop_map(|(body, n, e)| format!("RUN x {n}<<{e}\n{body}\nE")),
        ("[a-z\n\t]{0,9}", "(E|'E'|-E)").prop_map(|(body, e)| format!("COPY <<{e} y /d\n{body}\nE")),
        (quoted, word).prop_map(|(flag, a)| format!("RUN --mount=id={flag},x --network=none {a}  {a}")),
        (1u32..99, "(ms|s|m|h)")
            .prop_map(|(n, unit)| format!("HEALTHCHECK --interval={n}{unit} --retries={n} CMD x")),
        (one, word, word).prop_map(|(keyword, a, b)| format!("{keyword} {a} {b}")),
        Just("SHELL [\"a\", \"\\u00e9\\n\"]".to_owned()),
        (word, "[a-z][a-z0-9._-]{0,3}")
            .prop_map(|(image, name)| format!("FROM --platform=x {image} AS {name}")),
    ]
}

fn inside(span: Span, text: &str) -> bool {
    text.get(span.start as usize..span.end as usize).is_some()
}

fn all_inside(diagnostics: &[Diagnostic], text: &str) -> bool {
    diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels).all(|label| inside(label.span, text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_every_place_is_inside(text in text()) {
        match parse(&text) {
            Ok(file) => {
                prop_assert!(all_inside(&checks::filter(&file, checks::check(&file)).findings, &text));
                for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                    prop_assert!(inside(instruction.span, &text) && inside(instruction.keyword.span, &text));
                }
            }
            Err(errors) => prop_assert!(!errors.is_empty() && all_inside(&errors, &text), "{:#?}", errors),
        }
        let _ = parse_trigger(&source(&text));
    }

    #[test]
    fn no_word_panics(text in text(), pattern in "[a*?\\\\/}é$]{0,8}") {
        let env = BTreeMap::from([("a".to_owned(), text.clone())]);
        let trimmed = format!("${{a#{pattern}}}${{a%%{pattern}}}");
        let replaced = format!("${{a//{pattern}/{text}}}");
        for word in [text, trimmed, replaced] {
            for escape in ['\\', '`'] {
                let _ = words::expand(&word, escape, &env);
                let _ = words::expand_words(&word, escape, &env);
                let _ = words::expand_display(&word, escape, &env);
            }
            let _ = words::expand_heredoc(&word, &env);
            let _ = mount::fields(&word).and_then(|fields| mount::Mount::parse(&fields));
            let _ = mount::Device::parse(&word);
        }
    }

    #[test]
    fn quoting_protects_from_expansion(text in "[^']{0,20}") {
        let expanded = words::expand(&format!("'{text}'"), '\\', &words::NoVariables).unwrap();
        prop_assert_eq!(expanded.text, text);
    }

    #[test]
    fn printing_and_reading_changes_nothing(instructions in prop::collection::vec(instruction(), 0..6)) {
        let text = format!("ARG g=1\nFROM a\n{}\n", instructions.join("\n"));
        let file = parse(&text).map_err(|errors| TestCaseError::fail(format!("{text}\n{errors:#?}")))?;
        let printed = file.to_string();
        let again = parse(&printed).map_err(|errors| TestCaseError::fail(format!("{printed}\n{errors:#?}")))?;
        prop_assert_eq!(list(&file), list(&again), "{}", printed);
    }

    #[test]
    fn names_of_here_documents_are_printed_as_they_are(name in "[-a-z'\"\\\\$ ]{1,5}", body in "[a-z\n]{0,4}") {
        let escaped: String = name.chars().flat_map(|c| ['\\', c]).collect();
        let text = format!("FROM a\nRUN <<{escaped}\n{body}\n{name}\nCOPY [\"<<-{name}\", \"/d\"]\n");
        if let Ok(file) = parse(&text) {
            prop_assert_eq!(list(&file), list(&parse(&file.to_string()).unwrap()), "{}", text);
        }
    }

    /// A line with a substitution that nobody can read has no markers, also when its flags are quoted to be printed.
    #[test]
    fn what_is_no_marker_is_printed_as_none(
        value in "[a-z$\\{ '\"]{0,6}",
        escape in prop::sample::select(vec!['\\', '`']),
    ) {
        let text = format!("# escape={escape}\nFROM a\nRUN --mount=target=/{value} x <<EOF\nCMD ${{\n");
        if let Ok(file) = parse(&text) {
            prop_assert_eq!(list(&file), list(&parse(&file.to_string()).unwrap()), "{}", text);
        }
    }

    #[test]
    fn line_ends_and_a_byte_order_mark_do_not_matter(
        instructions in prop::collection::vec(instruction().prop_filter("one line", |i| !i.contains('\n')), 1..6),
    ) {
        let text = format!("FROM a\n{}", instructions.join("\n"));
        let windows = format!("\u{feff}{}\r\n", text.replace('\n', "\r\n"));
        prop_assert_eq!(list(&parse(&text).unwrap()), list(&parse(&windows).unwrap()));
    }
}

#[test]
fn quotes_of_flags_make_no_marker_readable() {
    let file = parse("FROM a\nRUN --mount=target=/${U.4 x <<EOF\nCMD a\n").unwrap();
    assert_eq!(list(&file), list(&parse(&file.to_string()).unwrap()), "{file}");
}
