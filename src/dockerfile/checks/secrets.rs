//! SecretsUsedInArgOrEnv.

use super::{Findings, SECRETS_USED_IN_ARG_OR_ENV, message};
use crate::dockerfile::syntax::Word;

/// Parts of a name, between underscores, that tell of a secret.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
/// Parts that tell that it is none.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check<'w>(
    findings: &mut Findings<'_>,
    instruction: &str,
    names: impl Iterator<Item = &'w Word>,
) {
    for name in names.filter(|name| tells_of_secret(&name.text)) {
        let message = message::secrets_used_in_arg_or_env(instruction, &name.text);
        let finding = findings.add(&SECRETS_USED_IN_ARG_OR_ENV, name.span, message);
        finding.help.push("use `RUN --mount=type=secret`, which leaves no trace in the image".to_owned());
    }
}

fn tells_of_secret(name: &str) -> bool {
    let holds =
        |words: &[&str]| name.split('_').any(|part| words.iter().any(|w| part.eq_ignore_ascii_case(w)));
    holds(&SECRET) && !holds(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::tells_of_secret;

    #[test]
    fn names() {
        for name in ["API_KEY", "apikey", "DATABASE_PASSWORD", "secret_MESSAGE", "AUTH", "x_token_y"] {
            assert!(tells_of_secret(name), "{name}");
        }
        for name in ["KEYS", "PUBLIC_KEY", "TOKEN_FILE", "AUTHOR", "TOKEN_VERSION", "MONKEY", ""] {
            assert!(!tells_of_secret(name), "{name}");
        }
    }
}
