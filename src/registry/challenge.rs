//! The `WWW-Authenticate` header (RFC 9110, 11.6.1), which may hold several challenges.

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter, by its name in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header value; what does not parse ends the list.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = take_token(rest);
        if word.is_empty() {
            return challenges;
        }
        let word = word.to_ascii_lowercase();
        match (after.trim_start().strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = take_value(value.trim_start());
                challenge.parameters.push((word, value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge { scheme: word, parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

fn take_token(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_what_registries_send() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let challenges = parse(header);
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameter("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(challenges[0].parameter("realm"), Some("https://auth.docker.io/token"));
    }

    #[test]
    fn reads_several_and_odd_ones() {
        let challenges = parse(r#"Negotiate, BASIC Realm="a \"b\"" , Bearer realm=x, error = "y""#);
        let schemes: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(challenges[1].parameter("realm"), Some("a \"b\""));
        assert_eq!(challenges[2].parameter("error"), Some("y"));
        for broken in ["", "=", "\"", "Bearer realm=\"x", "a=b", ",,,"] {
            assert!(parse(broken).len() <= 1, "{broken}");
        }
    }

    proptest::proptest! {
        #[test]
        fn survives_anything(header in "[a-z=\", \\\\é]{0,60}") {
            parse(&header);
        }
    }
}
