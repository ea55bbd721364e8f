//! The folders of a store, each by its owner's name for it.

/// A folder `ROOT/rbuild/<name>`. What is in one of another module is that module's affair; here is only where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// Names, a file for each.
    Tags,
    /// What names stood for in registries.
    Fetched,
    /// The cache's records.
    Records,
    /// A folder for each live process.
    Scratch,
    /// What arrived of blobs whose transfer broke off.
    Partial,
    /// What is to be removed.
    Trash,
    /// Indexes of layers, by diff id.
    Indexes,
    /// Digests of the files of layers, by diff id.
    Digests,
    /// What packages layers have, by diff id.
    Inventories,
    /// Where layers can be cut, by digest.
    Segments,
    /// Unpacked layers, by their kind and chain.
    Trees,
    /// Cache mounts and their locks.
    CacheMounts,
    /// Mirrors of git repositories.
    Git,
    /// What is known of the files of contexts.
    StatCache,
    /// Kept sessions.
    Sessions,
    /// The output of builds.
    Logs,
    /// What the steps of images did, by manifest.
    Builds,
    /// Records of builds.
    History,
    /// What workers of build engines made, and where it is.
    Placed,
}

impl Folder {
    /// Its file name.
    pub const fn name(self) -> &'static str {
        match self {
            Folder::Tags => "tags",
            Folder::Fetched => "fetched",
            Folder::Records => "records",
            Folder::Scratch => "tmp",
            Folder::Partial => "partial",
            Folder::Trash => "trash",
            Folder::Indexes => "indexes",
            Folder::Digests => "digests",
            Folder::Inventories => "inventories",
            Folder::Segments => "segments",
            Folder::Trees => "trees",
            Folder::CacheMounts => "cachemounts",
            Folder::Git => "git",
            Folder::StatCache => "statcache",
            Folder::Sessions => "sessions",
            Folder::Logs => "logs",
            Folder::Builds => "builds",
            Folder::History => "history",
            Folder::Placed => "placed",
        }
    }
}
