//! The key of RUN.

use super::Value;
use super::mounts::{Shown, push_mount};
use crate::cache::Preimage;
use crate::oci::{ChainId, Platform};
use crate::plan::graph::{ExecOp, Network, Security};

/// Whether a command's files keep their owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As root, and in a user namespace with ranges of ids.
    Kept,
    /// In a user namespace of one id they are written down. What that misses would make another layer.
    Recorded,
}

/// The key of RUN on `parent`.
pub fn run(op: &ExecOp<Shown>, parent: ChainId, owners: Owners) -> Preimage {
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
    let mut key = Preimage::new("run/2");
    key.push("parent", parent.to_string());
    for arg in args {
        key.push("command", arg);
    }
    for (name, value) in env.iter() {
        let kind = if arguments.contains(name) { "arg" } else { "env" };
        key.push(format!("{kind}:{name}"), value);
    }
    key.push("cwd", cwd);
    key.push("user", user);
    mounts.iter().for_each(|mount| push_mount(&mut key, mount));
    for (name, content) in pipes {
        key.push(format!("heredoc:{name}"), content);
    }
    key.push("network", network_word(*network));
    key.push("security", security_word(*security));
    key.push("hostname", hostname);
    for (name, address) in extra_hosts {
        key.push(format!("host:{name}"), address);
    }
    key.push("shm size", shm_size_bytes.to_string());
    for (name, soft, hard) in ulimits {
        key.push(format!("ulimit:{name}"), Value::of("limit").number("soft", *soft).number("hard", *hard));
    }
    push_platform(&mut key, platform);
    match owners {
        Owners::Kept => {}
        Owners::Recorded => key.push("owners", "one id, recorded"),
    }
    key
}

fn push_platform(key: &mut Preimage, platform: &Platform) {
    let Platform { architecture, os, os_version, os_features, variant } = platform;
    let mut value = Value::of("platform")
        .text("os", os)
        .text("architecture", architecture)
        .option("variant", variant.as_deref())
        .option("version", os_version.as_deref());
    for feature in os_features {
        value = value.text("feature", feature);
    }
    key.push("platform", value);
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
