//! ExposeProtoCasing and ExposeInvalidFormat.

use super::{EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING, Findings, message};
use crate::dockerfile::syntax::Word;

/// Looks at ports of the form `[ip:][host:]port[/protocol]` that hold no variables.
pub(super) fn check(findings: &mut Findings<'_>, words: &[Word]) {
    for word in words.iter().filter(|word| !word.text.contains('$')) {
        let (mapping, port) = match word.text.rsplit_once(':') {
            Some((mapping, port)) => (mapping.trim_matches(':'), port),
            None => ("", word.text.as_str()),
        };
        let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol.contains(|c: char| c.is_ascii_uppercase()) {
            findings.add(&EXPOSE_PROTO_CASING, word.span, message::expose_proto_casing(&word.text));
        }
        if !mapping.is_empty() {
            findings.add(&EXPOSE_INVALID_FORMAT, word.span, message::expose_invalid_format(&word.text));
        }
    }
}
