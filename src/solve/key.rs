//! What counts for the cache, all in one place.
//!
//! Every function takes its operation apart without `..`: a new field does not compile until somebody
//! decides here whether it belongs to the key. Spans and titles are outside of operations, so moving or
//! re-indenting an instruction never misses. The tags carry a version, increased when the same fields come
//! to mean another result. A step is chained to its parent's *result*, never to its parent's key: a parent
//! that was run again and gave other bytes must not get a child that was made on the old ones.

use crate::cache::Preimage;
use crate::oci::ChainId;
use crate::plan::graph::{
    Chmod, ExecOp, Mount, MountKind, Network, Security, Sharing, TransferKind, TransferOp, TransferSource,
    WorkdirOp,
};

/// The key of WORKDIR on `parent`.
pub(super) fn workdir(op: &WorkdirOp, parent: ChainId) -> Preimage {
    let WorkdirOp { path, user, epoch } = op;
    let mut key = Preimage::new("workdir/1");
    key.push("parent", parent.to_string());
    key.push("path", path.as_str());
    key.push("user", user.as_str());
    push_epoch(&mut key, *epoch);
    key
}

/// Whether a command's files keep their owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// As root, and in a user namespace with ranges of ids.
    Kept,
    /// In a user namespace of one id they are written down. What that misses would make another layer.
    Recorded,
}

/// The key of RUN on `parent`. `inputs` are the identities of what its mounts read, in the order of the mounts:
/// one for each bind, and for each cache that starts from something.
pub(super) fn exec(op: &ExecOp, parent: ChainId, inputs: &[ChainId], owners: Owners) -> Preimage {
    let ExecOp {
        args,
        env,
        arguments,
        // Undeclared proxies are a fact of the machine, not of the build.
        proxy_env: _,
        cwd,
        user,
        mounts,
        pipes,
        network,
        security,
        hostname,
        extra_hosts,
        shm_size_bytes,
        ulimits,
        platform,
    } = op;
    let mut key = Preimage::new("run/1");
    key.push("parent", parent.to_string());
    key.push("command", args.join("\u{1f}"));
    for (name, value) in env.iter() {
        let kind = if arguments.contains(name) { "arg" } else { "env" };
        key.push(format!("{kind}:{name}"), value.as_str());
    }
    key.push("cwd", cwd.as_str());
    key.push("user", user.as_str());
    let mut inputs = inputs.iter();
    for mount in mounts {
        push_mount(&mut key, mount, &mut inputs);
    }
    for (name, content) in pipes {
        key.push(format!("heredoc:{name}"), content.as_str());
    }
    key.push("network", network_word(*network));
    key.push("security", security_word(*security));
    key.push("hostname", hostname.as_str());
    for (name, address) in extra_hosts {
        key.push(format!("host:{name}"), address.as_str());
    }
    key.push("shm size", shm_size_bytes.to_string());
    for (name, soft, hard) in ulimits {
        key.push(format!("ulimit:{name}"), format!("{soft}:{hard}"));
    }
    key.push("platform", platform.to_string());
    if owners == Owners::Recorded {
        key.push("owners", "one id, recorded");
    }
    key
}

fn push_mount<'a>(key: &mut Preimage, mount: &Mount, inputs: &mut impl Iterator<Item = &'a ChainId>) {
    // Where the mount stands in the Dockerfile does not count.
    let Mount { target, kind, span: _ } = mount;
    let name = format!("mount:{target}");
    match kind {
        MountKind::Bind { from: _, source, writable } => {
            key.push(&name, format!("bind {source} writable={writable}"));
            push_input(key, target, inputs.next());
        }
        MountKind::Cache { id, sharing, from, readonly, mode, uid, gid } => {
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            key.push(&name, format!("cache {id} {sharing} readonly={readonly} {mode:04o} {uid}:{gid}"));
            if let Some((_, path)) = from {
                key.push(format!("mount:{target}:from"), path.as_str());
                push_input(key, target, inputs.next());
            }
        }
        MountKind::Tmpfs { size_bytes } => key.push(&name, format!("tmpfs {size_bytes}")),
        // A secret's value is in no key: changing it does not run the step again, as with BuildKit.
        MountKind::Secret { id, file, env, required, mode, uid, gid } => {
            let env = env.as_deref().unwrap_or("");
            key.push(
                &name,
                format!("secret {id} file={file} env={env} required={required} {mode:04o} {uid}:{gid}"),
            );
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            key.push(&name, format!("ssh {id} required={required} {mode:04o} {uid}:{gid}"));
        }
    }
}

fn push_input(key: &mut Preimage, target: &str, input: Option<&ChainId>) {
    if let Some(chain) = input {
        key.push(format!("mounted:{target}"), chain.to_string());
    }
}

/// The key of COPY or ADD on `parent`, without what it reads: the caller adds a field for each file, or for
/// each step that it reads from.
pub(super) fn transfer(op: &TransferOp, parent: ChainId) -> Preimage {
    let TransferOp {
        kind,
        sources,
        destination,
        chown,
        chmod,
        link,
        parents,
        excludes,
        unpack,
        checksum,
        keep_git_dir,
        epoch,
    } = op;
    let mut key = Preimage::new(match kind {
        TransferKind::Copy => "copy/1",
        TransferKind::Add => "add/1",
    });
    key.push("parent", parent.to_string());
    for source in sources {
        push_source(&mut key, source);
    }
    key.push("destination", destination.as_str());
    key.push("chown", chown.as_deref().unwrap_or("-"));
    key.push(
        "chmod",
        match chmod {
            None => "-".to_owned(),
            Some(Chmod::Octal(mode)) => format!("{mode:04o}"),
            Some(Chmod::Symbolic(clauses)) => clauses.clone(),
        },
    );
    key.push("flags", format!("link={link} parents={parents} unpack={unpack:?} keep-git-dir={keep_git_dir}"));
    for exclude in excludes {
        key.push("exclude", exclude.as_str());
    }
    // That of a repository says what to expect of it, and it was compared when it was fetched; files enter by content.
    let is_repository = matches!(sources.as_slice(), [TransferSource::Git { .. }]);
    key.push("checksum", checksum.as_deref().filter(|_| !is_repository).unwrap_or("-"));
    push_epoch(&mut key, *epoch);
    key
}

fn push_source(key: &mut Preimage, source: &TransferSource) {
    match source {
        TransferSource::Path { from: _, pattern, span: _ } => key.push("source", pattern.as_str()),
        TransferSource::Inline { name, content } => key.push(format!("heredoc:{name}"), content.as_str()),
        // What is behind a URL is added by content; the address itself may hold a password.
        TransferSource::Url { url, span: _ } | TransferSource::Git { url, span: _ } => {
            key.push("source", without_user_info(url));
        }
    }
}

/// `https://user:password@host/x` as `https://host/x`.
pub(super) fn without_user_info(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

fn push_epoch(key: &mut Preimage, epoch: Option<i64>) {
    if let Some(epoch) = epoch {
        key.push("arg:SOURCE_DATE_EPOCH", epoch.to_string());
    }
}

fn network_word(network: Network) -> &'static str {
    match network {
        Network::Default => "default",
        Network::Host => "host",
        Network::None => "none",
        Network::Pasta => "pasta",
    }
}

fn security_word(security: Security) -> &'static str {
    match security {
        Security::Sandbox => "sandbox",
        Security::Insecure => "insecure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_in_no_key() {
        assert_eq!(without_user_info("https://me:pw@host/a@b"), "https://host/a@b");
        assert_eq!(without_user_info("https://host/a@b"), "https://host/a@b");
        assert_eq!(without_user_info("git@host:a"), "git@host:a");
    }
}
