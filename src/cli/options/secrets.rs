//! `--secret` and `--tripwire`: what a build is given that must not be in the image, and what becomes of it if it would be.

use std::path::PathBuf;

use super::request::all;
use crate::cli::Failure;
use crate::cli::face::Face;
use crate::pipeline::{Secret, SecretFrom, Tripwire};
use crate::report::Diagnostic;

/// `--secret`
pub(crate) fn parse(given: &[String]) -> Result<Vec<Secret>, Failure> {
    all(given, "--secret", secret)
}

/// `--tripwire`. Who calls docker expects nothing that docker does not do.
pub(super) fn tripwire(option: Option<&str>, face: Face) -> Result<Tripwire, Failure> {
    let variable = "RBUILD_TRIPWIRE";
    let (place, word) = match (option, std::env::var(variable)) {
        (Some(word), _) => ("--tripwire", word.to_owned()),
        (None, Ok(word)) if !word.trim().is_empty() => (variable, word.trim().to_owned()),
        _ if face == Face::Own => return Ok(Tripwire::Stop),
        _ => return Ok(Tripwire::Warn),
    };
    match word.as_str() {
        "stop" => Ok(Tripwire::Stop),
        "warn" => Ok(Tripwire::Warn),
        "off" => Ok(Tripwire::Off),
        _ => {
            Err(Failure::usage(Diagnostic::error(format!("`{place}={word}`: it is `stop`, `warn` or `off`"))))
        }
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    let (mut id, mut from, mut kind, mut is_exempt) = (None, None, None, false);
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').ok_or("write it as id=ID,src=FILE or id=ID,env=NAME")?;
        match key {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => from = Some(SecretFrom::File(PathBuf::from(value))),
            "env" => from = Some(SecretFrom::Env(value.to_owned())),
            "tripwire" => match value {
                "on" => is_exempt = false,
                "off" => is_exempt = true,
                _ => return Err(format!("tripwire may be `on` or `off`, not `{value}`")),
            },
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            "type" => return Err(format!("type `{value}` is neither file nor env")),
            _ => return Err(format!("unknown key `{key}`; there are id, src, env, type and tripwire")),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or("the id is missing")?;
    // With docker, `type=env,src=NAME` means the variable; a bare id means the variable or file of that name.
    let from = match (from, kind.as_deref()) {
        (Some(SecretFrom::File(path)), Some("env")) => SecretFrom::Env(path.to_string_lossy().into_owned()),
        (Some(from), _) => from,
        (None, Some("file")) => SecretFrom::File(PathBuf::from(&id)),
        (None, _) if std::env::var_os(&id).is_some() => SecretFrom::Env(id.clone()),
        (None, _) => SecretFrom::File(PathBuf::from(&id)),
    };
    Ok(Secret { id, from, is_exempt })
}
