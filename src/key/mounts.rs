//! What the mounts of a RUN say to its key, and what tells one cache mount from another.

use super::Value;
use crate::cache::{Key, Preimage};
use crate::oci::ChainId;
use crate::plan::graph::{CacheOwner, Mount, MountKind, Sharing};

/// What a mount reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A whole root, by its identity.
    Root(ChainId),
    /// The files at and below its source, by what they are.
    Files(Key),
}

/// What the options say, and then what it shows: two fields at most for each mount, named by its target.
pub(super) fn push_mount(key: &mut Preimage, mount: &Mount<Shown>) {
    // Where the mount stands in the Dockerfile does not count.
    let Mount { target, kind, span: _ } = mount;
    key.push(format!("mount:{target}"), value(kind));
    if let Some(mounted) = mount.mounted() {
        let value = match mounted.from {
            Shown::Root(chain) => chain.to_string(),
            Shown::Files(files) => files.hex(),
        };
        key.push(format!("mounted:{target}"), value);
    }
}

fn value(kind: &MountKind<Shown>) -> Value {
    match kind {
        MountKind::Bind { from: _, source, writable } => {
            Value::of("bind").text("source", source).flag("writable", *writable)
        }
        MountKind::Cache { id, sharing, from, readonly, owner } => {
            let value = Value::of("cache")
                .text("id", id)
                .word("sharing", sharing_word(*sharing))
                .flag("readonly", *readonly)
                .option("source", from.as_ref().map(|(_, source)| source.as_str()));
            owned(value, owner.as_ref())
        }
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

fn owned(value: Value, owner: Option<&CacheOwner>) -> Value {
    match owner {
        None => value,
        Some(CacheOwner { mode, uid, gid }) => value.mode(*mode).owner(*uid, *gid),
    }
}

/// What makes a cache mount the same one in another step.
#[derive(Debug, Clone, Copy)]
pub struct CacheIdentity<'m> {
    /// `id=`, or the target.
    pub id: &'m str,
    /// The root and the path in it that it starts from.
    pub from: Option<(ChainId, &'m str)>,
    /// See [`CacheOwner`].
    pub owner: Option<CacheOwner>,
}

/// The name of the directory of a cache mount. Owners on disk differ between root and user namespaces (`owners`), so these
/// do not share. What is left out adds no field: such caches have the names that they always had.
pub fn cache_directory(identity: &CacheIdentity<'_>, owners: &str) -> Key {
    let CacheIdentity { id, from, owner } = identity;
    let mut preimage = Preimage::new("cache-mount/1");
    preimage.push("id", id);
    preimage.push("owners", owners);
    if let Some((root, source)) = from {
        preimage.push("from", root.to_string());
        preimage.push("source", source);
    }
    if owner.is_some() {
        preimage.push("owner", owned(Value::of("directory"), owner.as_ref()));
    }
    preimage.key()
}
