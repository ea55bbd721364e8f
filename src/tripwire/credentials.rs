//! What has the looks of a credential: texts whose makers gave them a mark by which they are known, so that chance is ruled out.
//!
//! The marks are those that the services publish for scanners: <https://docs.github.com/en/code-security/reference/secret-security/supported-secret-scanning-patterns>.

/// A kind of credential.
#[derive(Debug)]
pub(super) struct Kind {
    /// With its article.
    pub(super) name: &'static str,
    /// What it begins with.
    pub(super) prefix: &'static str,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    /// So many letters and digits at least, and of the other signs these.
    Token { len: usize, signs: &'static [u8] },
    /// The mark of a private key's PEM, and some of the key.
    PrivateKey,
}

const fn token(name: &'static str, prefix: &'static str, len: usize, signs: &'static [u8]) -> Kind {
    Kind { name, prefix, rest: Rest::Token { len, signs } }
}

/// All of them.
pub(super) static KINDS: [Kind; 16] = [
    Kind { name: "a private key", prefix: "-----BEGIN ", rest: Rest::PrivateKey },
    token("an AWS access key", "AKIA", 16, b""),
    token("a GitHub token", "ghp_", 36, b""),
    token("a GitHub token", "gho_", 36, b""),
    token("a GitHub token", "ghu_", 36, b""),
    token("a GitHub token", "ghs_", 36, b""),
    token("a GitHub token", "ghr_", 36, b""),
    token("a GitHub token", "github_pat_", 70, b"_"),
    token("a GitLab token", "glpat-", 20, b"_-."),
    token("a Slack token", "xoxb-", 40, b"-"),
    token("a Slack token", "xoxp-", 40, b"-"),
    token("a Stripe key", "sk_live_", 24, b""),
    token("a token for npm", "npm_", 36, b""),
    // The service's own encoding of its name follows.
    token("a token for PyPI", "pypi-AgEIcHlwaS5vcmc", 50, b"_-"),
    token("a token for Docker Hub", "dckr_pat_", 27, b"_-"),
    token("an Anthropic key", "sk-ant-api", 80, b"_-"),
];

impl Kind {
    /// Whether `text`, which begins with the prefix, is one. `before` is what stands before it.
    pub(super) fn fits(&self, before: &[u8], text: &[u8]) -> bool {
        let rest = &text[self.prefix.len()..];
        match self.rest {
            Rest::Token { len, signs } => {
                let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                let is_of_it = |b: &&u8| b.is_ascii_alphanumeric() || signs.contains(b);
                let token = &rest[..rest.iter().take_while(is_of_it).count()];
                // All of AWS's are upper case, and of one length; its documentation has some that end so.
                let is_right = match self.prefix {
                    "AKIA" => {
                        token.len() == len
                            && !token.iter().any(u8::is_ascii_lowercase)
                            && !token.ends_with(b"EXAMPLE")
                    }
                    _ => token.len() >= len,
                };
                let is_varied = token.iter().any(u8::is_ascii_digit) && token.iter().any(|b| *b != token[0]);
                is_right && is_varied && !before.last().is_some_and(is_word)
            }
            Rest::PrivateKey => is_private_key(rest),
        }
    }
}

/// What follows `-----BEGIN `.
fn is_private_key(rest: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    // Such as `RSA `, `OPENSSH `, `ENCRYPTED `.
    let Some(at) = memchr::memmem::find(&rest[..rest.len().min(MARK.len() + 12)], MARK) else { return false };
    let is_kind = rest[..at].iter().all(|b| b.is_ascii_uppercase() || *b == b' ');
    // A program that knows the mark has no key behind it. In JSON a line ends in two characters.
    let body = &rest[at + MARK.len()..];
    let body = body.strip_prefix(b"\\n").unwrap_or_else(|| body.trim_ascii_start());
    let digits = body.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')).count();
    is_kind && digits >= 40
}

#[cfg(test)]
mod tests {
    use super::super::{Needles, Scanner, What};

    fn looks_like(text: &str) -> Vec<String> {
        let whats = Scanner::new(&Needles::default()).whats(text.as_bytes());
        let like = |what| match what {
            What::Looks { like } => like,
            What::Given { name, .. } => name,
        };
        whats.into_iter().map(like).collect()
    }

    /// In two parts, so that nothing takes this file for a leak.
    fn joined(mark: &str, rest: &str) -> String {
        format!("key = \"{mark}{rest}\"\n")
    }

    #[test]
    fn credentials_are_known_by_their_marks() {
        let digits =
            "0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2yZ3aB4cD5eF6gH7iJ8kL9mN0oP1qR2sT3uV4wX5yZ6aB7cD8eF9";
        for (mark, rest, like) in [
            ("ghp_", &digits[..36], "a GitHub token"),
            ("github_pat_", &digits[..82], "a GitHub token"),
            ("glpat-", &digits[..20], "a GitLab token"),
            ("npm_", &digits[..36], "a token for npm"),
            ("sk_live_", &digits[..24], "a Stripe key"),
            ("AKIA", "IOSFODNN7QWERTYU", "an AWS access key"),
            ("dckr_pat_", &digits[..27], "a token for Docker Hub"),
            ("-----BEGIN OPENSSH ", &format!("PRIVATE KEY-----\n{}", &digits[..70]), "a private key"),
            ("-----BEGIN ", &format!("PRIVATE KEY-----\\n{}", &digits[..64]), "a private key"),
            ("-----BEGIN RSA ", &format!("PRIVATE KEY-----\r\n{}", &digits[..64]), "a private key"),
        ] {
            assert_eq!(looks_like(&joined(mark, rest)), [like], "{mark}{rest}");
        }
    }

    #[test]
    fn what_only_resembles_them_is_none() {
        for (mark, rest) in [
            ("ghp_", "short"),
            ("ghp_", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
            ("npm_", "config_registry_is_a_name_of_an_environment_variable"),
            ("AKIA", "IOSFODNN7EXAMPLE"),
            ("AKIA", "IOSFODNN7QWERTYUIOPASDFGH"),
            ("xAKIA", "IOSFODNN7QWERTYU"),
            (
                "-----BEGIN ",
                "CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQMIIBszCCAVmgAwIBAgIUQMIIBszCCAVmgAwIBAgIUQ",
            ),
            ("-----BEGIN RSA ", "PRIVATE KEY-----\0-----END RSA PRIVATE KEY-----"),
            (
                "-----BEGIN ",
                "PUBLIC KEY-----\nMIIBszCCAVmgAwIBAgIUQMIIBszCCAVmgAwIBAgIUQMIIBszCCAVmgAwIBAgIUQ",
            ),
        ] {
            assert_eq!(looks_like(&joined(mark, rest)), [""; 0], "{mark}{rest}");
        }
    }
}
