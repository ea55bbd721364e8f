//! What the mounts of a RUN say to its key, and what tells one cache mount from another.

use super::Value;
use crate::cache::{Key, Preimage};
use crate::oci::ChainId;
use crate::plan::graph::{Mount, MountKind, Sharing};

/// What a mount reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A whole root, by its identity.
    Root(ChainId),
    /// The files at and below its source, by what they are.
    Files(Key),
}

/// What the options say: one field for each mount, named by its target.
pub(super) fn push_mount(key: &mut Preimage, mount: &Mount) {
    // Where the mount stands in the Dockerfile does not count.
    let Mount { target, kind, span: _ } = mount;
    key.push(format!("mount:{target}"), value(kind));
}

/// What the mount at `target` reads.
pub(super) fn push_shown(key: &mut Preimage, target: &str, shown: &Shown) {
    let value = match shown {
        Shown::Root(chain) => chain.to_string(),
        Shown::Files(files) => files.hex(),
    };
    key.push(format!("mounted:{target}"), value);
}

fn value(kind: &MountKind) -> Value {
    match kind {
        MountKind::Bind { from: _, source, writable } => {
            Value::of("bind").text("source", source).flag("writable", *writable)
        }
        MountKind::Cache { id, sharing, from, readonly, mode, uid, gid } => Value::of("cache")
            .text("id", id)
            .word("sharing", sharing_word(*sharing))
            .flag("readonly", *readonly)
            .mode(*mode)
            .owner(*uid, *gid)
            .option("source", from.as_ref().map(|(_, source)| source.as_str())),
        MountKind::Tmpfs { size_bytes } => Value::of("tmpfs").number("size", *size_bytes),
        // A secret's value is in no key: changing it does not run the step again, as with BuildKit.
        MountKind::Secret { id, file, env, required, mode, uid, gid } => Value::of("secret")
            .text("id", id)
            .flag("file", *file)
            .option("env", env.as_deref())
            .flag("required", *required)
            .mode(*mode)
            .owner(*uid, *gid),
        MountKind::Ssh { id, required, mode, uid, gid } => {
            Value::of("ssh").text("id", id).flag("required", *required).mode(*mode).owner(*uid, *gid)
        }
    }
}

fn sharing_word(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Shared => "shared",
        Sharing::Private => "private",
        Sharing::Locked => "locked",
    }
}

/// The name of the directory of a cache mount, of any id. Owners on disk differ between root and user namespaces, so these
/// do not share.
pub fn cache_directory(id: &str, owners: &str) -> Key {
    let mut preimage = Preimage::new("cache-mount/1");
    preimage.push("id", id);
    preimage.push("owners", owners);
    preimage.key()
}
