//! `--ssh`

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::request::bad;
use crate::cli::Failure;
use crate::pipeline::SshFrom;

/// All of them; an id may stand once.
pub(crate) fn parse(values: &[String]) -> Result<Vec<(String, SshFrom)>, Failure> {
    let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut known = BTreeSet::new();
    values
        .iter()
        .map(|value| {
            let fail = |reason: String| bad("--ssh", value, &reason);
            let parsed = one(value, agent.as_deref()).map_err(fail)?;
            match known.insert(parsed.0.clone()) {
                true => Ok(parsed),
                false => Err(fail(format!("there are two for `{}`", parsed.0))),
            }
        })
        .collect()
}

fn one(text: &str, agent: Option<&Path>) -> Result<(String, SshFrom), String> {
    let (id, paths) = text.split_once('=').map_or((text, None), |(id, paths)| (id, Some(paths)));
    if id.is_empty() {
        return Err("the id is missing; write it as default, ID=SOCKET or ID=KEY".into());
    }
    let Some(paths) = paths.filter(|paths| !paths.is_empty()) else {
        let agent = agent.ok_or("no agent runs: $SSH_AUTH_SOCK is not set; start one, or name a key file")?;
        return Ok((id.to_owned(), SshFrom::Agent(agent.to_owned())));
    };
    let paths: Vec<PathBuf> = paths.split(',').map(PathBuf::from).collect();
    let mut sockets = 0;
    for path in &paths {
        let meta = std::fs::metadata(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        sockets += usize::from(meta.file_type().is_socket());
        if !meta.is_file() && !meta.file_type().is_socket() {
            return Err(format!("`{}` is neither a key file nor the socket of an agent", path.display()));
        }
    }
    match (sockets, paths.as_slice()) {
        (0, _) => Ok((id.to_owned(), SshFrom::Keys(paths))),
        (1, [path]) => Ok((id.to_owned(), SshFrom::Agent(path.clone()))),
        _ => Err("an agent stands alone; keys of files can be several".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_an_agent_or_keys() {
        let agent = Path::new("/run/agent");
        let found = |text: &str| one(text, Some(agent)).map(|(id, from)| format!("{id} {from:?}"));
        assert_eq!(found("default"), Ok("default Agent(\"/run/agent\")".into()));
        assert_eq!(found("git="), Ok("git Agent(\"/run/agent\")".into()));
        assert_eq!(found("k=/etc/passwd,/etc/group"), Ok("k Keys([\"/etc/passwd\", \"/etc/group\"])".into()));
        for (text, expected) in [
            ("", "the id is missing"),
            ("=x", "the id is missing"),
            ("k=/nowhere", "No such"),
            ("k=/", "neither"),
        ] {
            let error = found(text).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(one("default", None).is_err());
    }
}
