//! The `dockerfile-parser` crate as a second opinion on the grammar that it accepts: no here-documents, no
//! directives, no byte order mark, no escaped blanks in ENV, no digests beside tags.

use dockerfile_parser::{Dockerfile as Theirs, Instruction as Their};
use proptest::prelude::*;

use super::parse;
use crate::dockerfile::listing::list;

/// Their view of an instruction in the words of our listing; `None` for what they do not take apart.
fn their(instruction: &Their) -> Option<String> {
    match instruction {
        Their::From(from) => {
            let name = from.alias.iter().map(|alias| format!(" as {:?}", alias.content));
            Some(format!("from {:?}{}", from.image.content, name.collect::<String>()))
        }
        Their::Arg(arg) => {
            let default = arg.value.iter().map(|value| format!("={:?}", value.content));
            Some(format!("arg {:?}{}", arg.name.content, default.collect::<String>()))
        }
        Their::Run(run) => Some(format!("run {:?}", run.as_exec()?.as_str_vec())),
        Their::Cmd(cmd) => Some(format!("cmd {:?}", cmd.as_exec()?.as_str_vec())),
        Their::Entrypoint(entry) => Some(format!("entrypoint {:?}", entry.as_exec()?.as_str_vec())),
        Their::Copy(copy) => {
            let flags = copy.flags.iter().map(|f| format!(" --{}={:?}", f.name.content, f.value.content));
            let flags: String = flags.collect();
            let sources: Vec<&str> = copy.sources.iter().map(|source| source.content.as_str()).collect();
            Some(format!("copy{flags} {sources:?} -> {:?}", copy.destination.content))
        }
        Their::Label(label) => {
            let pairs = label.labels.iter().map(|l| format!(" {:?}={:?}", l.name.content, l.value.content));
            Some(format!("label{}", pairs.collect::<String>()))
        }
        Their::Env(_) | Their::Misc(_) => None,
    }
}

fn instruction() -> impl Strategy<Value = String> {
    let word = "[a-z][a-z0-9]{0,5}";
    prop_oneof![
        (word, word).prop_map(|(a, b)| format!("FROM {a} AS {b}")),
        (word, word).prop_map(|(a, b)| format!("ARG {a}={b}")),
        (word, word).prop_map(|(a, b)| format!("RUN [\"{a}\", \"{b} {a}\"]")),
        (word, word).prop_map(|(a, b)| format!("RUN {a} \\\n  {b} && {a}")),
        (word, word).prop_map(|(a, b)| format!("# {a}\nCMD [\"{a}\",\"{b}\"]")),
        (word, word).prop_map(|(a, b)| format!("entrypoint [ \"{a}\" , \"{b}\" ]")),
        (word, word).prop_map(|(a, b)| format!("COPY --from={a} {b} {a} /{b}")),
        (word, word).prop_map(|(a, b)| format!("COPY \\\n  {b} \\\n  /{a}")),
        (word, word).prop_map(|(a, b)| format!("LABEL {a}={b} {b}.x={a}")),
        (word, word).prop_map(|(a, b)| format!("ENV {a}={b}\n\nWORKDIR /{a}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_where_both_read(instructions in prop::collection::vec(instruction(), 1..8)) {
        let text = format!("FROM a\n{}\n", instructions.join("\n"));
        let ours = list(&parse(&text).unwrap());
        let theirs = Theirs::parse(&text).unwrap().instructions;
        prop_assert_eq!(ours.len(), theirs.len(), "{}", text);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            if let Some(theirs) = their(theirs) {
                prop_assert_eq!(ours, &theirs);
            }
        }
    }
}
