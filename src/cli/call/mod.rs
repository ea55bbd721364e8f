//! `--call` and `--check`: what to do with a Dockerfile instead of building it.

mod check;
mod outline;

use crate::cli::Failure;
use crate::cli::error::{print, print_painted};
use crate::cli::options::build::BuildArgs;
use crate::pipeline::Request;
use crate::report::Diagnostic;

/// `--call=METHOD[,format=F][,error=true]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// What to do.
    pub(crate) method: Method,
    /// How to print it.
    pub(crate) format: Format,
    /// Findings fail the check.
    pub(crate) error: bool,
}

/// What to do with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Build it.
    Build,
    /// Tell faults and findings.
    Check,
    /// Tell the arguments and secrets of the target.
    Outline,
    /// Tell the stages.
    Targets,
}

/// How to print what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// As docker buildx prints it.
    Json,
    /// SARIF 2.1.0.
    Sarif,
}

const METHODS: [&str; 5] = ["build", "check", "lint", "outline", "targets"];

/// What the options ask for.
pub(crate) fn from_args(args: &BuildArgs) -> Result<Call, Failure> {
    let given = args.call.as_deref().or(args.docker.print.as_deref());
    read(if args.check { "check" } else { given.filter(|text| !text.is_empty()).unwrap_or("build") })
}

/// What one text asks for.
pub(crate) fn read(text: &str) -> Result<Call, Failure> {
    parse(text).map_err(|(reason, help)| {
        let diagnostic = Diagnostic::error(format!("bad value `{text}` for --call: {reason}"));
        Failure::usage(diagnostic.help(help))
    })
}

/// The error is a reason and a way on.
fn parse(text: &str) -> Result<Call, (String, String)> {
    let mut words = text.split(',');
    let method = words.next().unwrap_or_default();
    let mut call = Call { method: named(method)?, format: Format::Text, error: false };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, "true"));
        match key {
            "format" => call.format = format(value)?,
            "error" => call.error = switch(key, value)?,
            // Docker's opposite of `error`; a check that fails only when asked need not be told.
            "ignorestatus" => call.error = !switch(key, value)?,
            _ => {
                let reason = format!("unknown key `{key}`");
                return Err((reason, "the keys are `format` and `error`".to_owned()));
            }
        }
    }
    if call.format == Format::Sarif && call.method != Method::Check {
        let help = "the others print `format=text` or `format=json`".to_owned();
        return Err(("SARIF is for `check` only".to_owned(), help));
    }
    Ok(call)
}

fn named(method: &str) -> Result<Method, (String, String)> {
    match method {
        "build" => Ok(Method::Build),
        "check" | "lint" => Ok(Method::Check),
        "outline" => Ok(Method::Outline),
        "targets" => Ok(Method::Targets),
        _ => {
            let help = match crate::text::closest(method, METHODS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write `check`, `outline`, `targets` or `build`".to_owned(),
            };
            Err((format!("there is no method `{method}`"), help))
        }
    }
}

fn format(value: &str) -> Result<Format, (String, String)> {
    match value {
        "text" | "" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "sarif" => Ok(Format::Sarif),
        _ => Err((
            format!("there is no format `{value}`"),
            "write `format=text`, `format=json` or `format=sarif`".to_owned(),
        )),
    }
}

fn switch(key: &str, value: &str) -> Result<bool, (String, String)> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err((
            format!("`{value}` is neither true nor false"),
            format!("write `{key}=true` or leave it out"),
        )),
    }
}

impl Call {
    /// Does what was asked for instead of a build.
    pub(crate) fn run(self, request: &Request) -> Result<(), Failure> {
        let told = self.told(request)?;
        match told.is_painted {
            true => print_painted(&told.text),
            false => print(&told.text),
        }?;
        match told.has_failed {
            true => Err(Failure::told()),
            false => Ok(()),
        }
    }

    /// As [`Self::run`]; gives what is to be printed.
    pub(crate) fn told(self, request: &Request) -> Result<Told, Failure> {
        let plain = |text: String| Told { text, is_painted: false, has_failed: false };
        match self.method {
            Method::Check => Ok(check::told(request, self)),
            Method::Outline => outline::outline(request, self.format).map(plain),
            Method::Targets => outline::targets(request, self.format).map(plain),
            Method::Build => Ok(plain(String::new())),
        }
    }
}

/// What a call is to print.
pub(crate) struct Told {
    pub(crate) text: String,
    /// It has colours of rbuild's own.
    is_painted: bool,
    /// What was found makes it fail.
    pub(crate) has_failed: bool,
}

impl Method {
    /// As docker calls it in results.
    pub(crate) fn docker_name(self) -> &'static str {
        match self {
            Method::Build => "build",
            Method::Check => "check",
            Method::Outline => "outline",
            Method::Targets => "targets",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn methods_take_docker_s_suffixes() {
        let call = |method, format, error| Call { method, format, error };
        for (text, want) in [
            ("build", call(Method::Build, Format::Text, false)),
            ("check", call(Method::Check, Format::Text, false)),
            ("lint,format=json", call(Method::Check, Format::Json, false)),
            ("check,error=true,format=sarif", call(Method::Check, Format::Sarif, true)),
            ("check,error", call(Method::Check, Format::Text, true)),
            ("check,ignorestatus=true", call(Method::Check, Format::Text, false)),
            ("outline,format=json", call(Method::Outline, Format::Json, false)),
            ("targets", call(Method::Targets, Format::Text, false)),
        ] {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn wrong_words_are_answered_with_right_ones() {
        for (text, help) in [
            ("chek", "did you mean `check`?"),
            ("", "write `check`, `outline`, `targets` or `build`"),
            ("check,format=xml", "write `format=text`, `format=json` or `format=sarif`"),
            ("check,colour=1", "the keys are `format` and `error`"),
            ("targets,format=sarif", "the others print `format=text` or `format=json`"),
            ("check,error=yes", "write `error=true` or leave it out"),
        ] {
            assert_eq!(parse(text).unwrap_err().1, help, "{text}");
        }
    }
}
