//! `--on`: who does the build.

use std::time::Duration;

use crate::cli::Failure;
use crate::pipeline::On;
use crate::report::Diagnostic;
use crate::shared_cache::spec;
use crate::text::duration::parse_age;

/// Before the names of properties.
const PROPERTY: &str = "platform.";

/// `--on`
pub(crate) fn parse(text: Option<&str>) -> Result<Option<On>, Failure> {
    let Some(text) = text else { return Ok(None) };
    // It may have a token in it, and is not repeated as it is.
    let bad = |why: String| Failure::usage(Diagnostic::error(format!("`--on {}`: {why}", spec::shown(text))));
    on(text).map(Some).map_err(bad)
}

fn on(text: &str) -> Result<On, String> {
    let is_ours = |key: &str| matches!(key, "timeout" | "fallback") || key.starts_with(PROPERTY);
    let (engine, others) = spec::engine(text, is_ours)?;
    let shown = engine.endpoint.replacen("grpc", "reapi", 1);
    let shown = format!("`{shown}`");
    let mut on = On { engine, shown, properties: Vec::new(), timeout: None, falls_back: false };
    for (key, value) in others {
        match (key.as_str(), value.as_str()) {
            ("fallback", "local") => on.falls_back = true,
            ("fallback", "none") => on.falls_back = false,
            ("fallback", other) => return Err(format!("`fallback={other}`: it is `local` or `none`")),
            ("timeout", time) => {
                let seconds = parse_age(time).and_then(|seconds| u64::try_from(seconds).ok());
                let seconds = seconds.filter(|seconds| *seconds > 0);
                let seconds = seconds.ok_or_else(|| format!("`timeout={time}` is no time such as `1h`"))?;
                on.timeout = Some(Duration::from_secs(seconds));
            }
            (key, value) => {
                let name = key.strip_prefix(PROPERTY).unwrap_or(key);
                if name.is_empty() {
                    return Err("`platform.=`: the property has no name".to_owned());
                }
                on.properties.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    Ok(on)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn engines_are_read() {
        let on = on("reapis://e.example,instance=main,token=hidden,platform.OSFamily=linux,platform.Pool=a=b,timeout=2h,fallback=local").unwrap();
        assert_eq!((&*on.engine.endpoint, &*on.engine.instance), ("grpcs://e.example:443", "main"));
        assert_eq!(on.shown, "`reapis://e.example:443`");
        let properties = [("OSFamily", "linux"), ("Pool", "a=b")];
        assert_eq!(on.properties, properties.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((on.timeout, on.falls_back), (Some(Duration::from_secs(7200)), true));
        assert!(!format!("{on:?}").contains("hidden"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let begins = "it begins with `reapi://HOST:PORT` or, over TLS, `reapis://HOST[:PORT]`";
        for (text, expected) in [
            ("", "no fields"),
            ("host:1", begins),
            ("reapi://host", begins),
            ("http://host:1", begins),
            ("reapi://host:1,x", "field 2 is no `KEY=VALUE`"),
            ("reapi://host:1,name=x", "`name` is unknown"),
            ("reapi://host:1,fallback=no", "`fallback=no`: it is `local` or `none`"),
            ("reapi://host:1,timeout=soon", "`timeout=soon` is no time such as `1h`"),
            (
                "reapi://host:1,token=x",
                "tokens do not travel in plain text: write the endpoint with `reapis://`",
            ),
        ] {
            assert_eq!(on(text).unwrap_err(), expected, "{text}");
        }
    }
}
