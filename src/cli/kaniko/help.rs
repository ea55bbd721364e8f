//! `executor --help`.

use std::fmt::Write as _;

use super::flags::{Becomes, FLAGS, Flag, Kind};

/// Which options there are, and what becomes of each.
pub(super) fn text() -> String {
    let mut text =
        "rbuild, as kaniko's executor: kaniko's options, and nothing of the job's container is changed.\n\n\
        Usage: executor --context=DIR --dockerfile=FILE --destination=NAME …\n       \
        executor push FILE --destination=NAME …\n       executor login REGISTRY …\n\n\
        Options that mean what they meant:\n"
            .to_owned();
    let meant = |flag: &&Flag| matches!(flag.becomes, Becomes::Meant(_));
    for flag in FLAGS.iter().filter(meant) {
        let _ = writeln!(text, "  {}", shown(flag));
    }
    text.push_str("\nOptions that change nothing, and are said to:\n");
    for flag in FLAGS {
        if let Becomes::Nothing(reason) = flag.becomes {
            let _ = writeln!(text, "  {}: {reason}", shown(flag));
        }
    }
    text.push_str("\nOptions that are refused:\n");
    for flag in FLAGS {
        if let Becomes::Refused(help) = flag.becomes {
            let _ = writeln!(text, "  {}: {help}", shown(flag));
        }
    }
    text.push_str("\nIts own options rbuild has under its own name: `rbuild --help`.\n");
    text
}

fn shown(flag: &Flag) -> String {
    let short = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let value = match flag.kind {
        Kind::Switch => "",
        Kind::Value => "=…",
    };
    format!("{short}--{}{value}", flag.name)
}
