//! How kaniko's options say to talk to registries.

use std::path::{Path, PathBuf};

use super::flags::Id;
use super::words::Typed;
use crate::cli::Failure;
use crate::cli::options::request::{bad, variable};
use crate::config::{Flags, Foreign};
use crate::registry::VariableLogins;
use crate::report::Diagnostic;

/// Reads the options and kaniko's variables.
pub(super) fn flags(typed: &Typed) -> Result<Flags, Failure> {
    let mut maps = Vec::new();
    let given = typed.all(Id::Map).map(str::to_owned).chain(variable("KANIKO_REGISTRY_MAP"));
    for pair in
        given.collect::<Vec<_>>().iter().flat_map(|value| value.split(';')).filter(|pair| !pair.is_empty())
    {
        maps.push(split("--registry-map", pair)?);
    }
    let mut ca = Vec::new();
    for value in typed.all(Id::Certificate) {
        let (host, file) = split("--registry-certificate", value)?;
        ca.push((host, readable("--registry-certificate", value, &file)?));
    }
    let mut client = Vec::new();
    for value in typed.all(Id::ClientCertificate) {
        let option = "--registry-client-cert";
        let (host, files) = split(option, value)?;
        let wrong = || bad(option, value, "write it as REGISTRY=CERTIFICATE,KEY");
        let (certificate, key) = files.split_once(',').ok_or_else(wrong)?;
        client.push((host, readable(option, value, certificate)?, readable(option, value, key)?));
    }
    let insecure = typed.all(Id::InsecureRegistry).chain(typed.all(Id::SkipTlsVerifyRegistry));
    Ok(Flags {
        mirrors: typed.all(Id::Mirror).map(str::to_owned).chain(variable("KANIKO_REGISTRY_MIRROR")).collect(),
        insecure: insecure.map(str::to_owned).collect(),
        tls_verify: None,
        cert_dir: None,
        foreign: Foreign {
            maps,
            only_mirrors: typed.is_on(Id::NoFallback, false),
            ca,
            client,
            insecure_pull: typed.is_on(Id::InsecurePull, false) || typed.is_on(Id::SkipTlsVerifyPull, false),
            insecure_push: typed.is_on(Id::Insecure, false) || typed.is_on(Id::SkipTlsVerify, false),
        },
    })
}

fn split(option: &str, text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((registry, rest)) if !registry.is_empty() && !rest.is_empty() => {
            Ok((registry.to_owned(), rest.to_owned()))
        }
        _ => Err(bad(option, text, "write it as REGISTRY=…")),
    }
}

/// A certificate that is not there would be one that is not trusted, and the error far from its cause.
fn readable(option: &str, value: &str, file: &str) -> Result<PathBuf, Failure> {
    match std::fs::File::open(file) {
        Ok(_) => Ok(PathBuf::from(file)),
        Err(error) => Err(bad(option, value, &format!("`{file}`: {error}"))),
    }
}

/// Which logins are looked for beside those of files.
pub(super) fn logins(typed: &Typed) -> Result<VariableLogins, Failure> {
    let helpers: Vec<&str> = typed.all(Id::Helpers).collect();
    let mut logins = VariableLogins { kaniko: helpers.is_empty(), gitlab: helpers.is_empty() };
    for helper in helpers {
        match helper {
            "" => {}
            "env" => logins.kaniko = true,
            "gitlab" => logins.gitlab = true,
            "google" | "ecr" | "acr" => {
                let program = match helper {
                    "google" => "docker-credential-gcr",
                    "ecr" => "docker-credential-ecr-login",
                    _ => "docker-credential-acr-env",
                };
                let error =
                    format!("`--credential-helpers={helper}`: rbuild has no helper of a cloud's built in");
                let help = format!(
                    "put `{program}` into the image, and name it under `credHelpers` in $DOCKER_CONFIG/config.json"
                );
                return Err(Failure::usage(Diagnostic::error(error).help(help)));
            }
            _ => {
                let reason = "there are env and gitlab, and an empty one for none";
                return Err(bad("--credential-helpers", helper, reason));
            }
        }
    }
    Ok(logins)
}

/// The folder of docker's configuration in kaniko's image, if nothing names another and the user has none.
pub(super) fn config_folder() -> Option<PathBuf> {
    const KANIKO: &str = "/kaniko/.docker";
    let has_file = |folder: &Path| folder.join("config.json").is_file();
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let is_said = variable("DOCKER_CONFIG").is_some() || home.as_deref().is_some_and(has_file);
    Some(PathBuf::from(KANIKO)).filter(|folder| !is_said && has_file(folder))
}
