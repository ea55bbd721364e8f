//! What a worker left, as a cache that is read: the head is a file of the action's result, and layers are blobs of the engine's CAS.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::known::path_of;
use super::names::keep;
use super::pod::{Failed, Worker};
use super::{Brought, Engine, Fault, On, worker};
use crate::cache::Precedence;
use crate::oci::{Descriptor, Digest, Platform};
use crate::pipeline::{ContextFrom, Target};
use crate::reapi::{self, ActionResult, Blob, Client, OutputFile, Packing, files_of_tree};
use crate::report::Events;
use crate::shared_cache::backend::{self, Backend, Content, Error, Head, PackId, Put, Sent};
use crate::store::{self, Folder, Store};

/// A head, or a list of files, that is larger is not read.
const LIMIT: u64 = 64 << 20;
/// Blobs that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Who has them.
#[derive(Debug)]
enum Keeper {
    Cas(Box<Client>),
    /// A pod, which is there until the build here is done.
    Pod(Arc<Worker>),
    /// Nobody any more: what was not needed is known by its name alone.
    Nobody,
}

/// The results of one build.
#[derive(Debug)]
pub(super) struct Outputs {
    keeper: Keeper,
    name: String,
    head: Vec<u8>,
    blobs: BTreeMap<Digest, Blob>,
    /// How long the worker built, if it said so.
    pub(super) took: Option<Duration>,
}

/// Reads what the action left.
pub(super) fn read(client: Client, result: &ActionResult, on: &On) -> Result<Outputs, Fault> {
    let mut files: Vec<OutputFile> = result.files.clone();
    let bad = |what: &str| Fault::engine(format!("{} gives no result: {what}", on.shown));
    for (path, tree) in &result.folders {
        if tree.size > LIMIT {
            return Err(bad("its list of files is too long"));
        }
        let bytes = client.read_blob(*tree)?;
        let listed = files_of_tree(&bytes).map_err(|_| bad("its list of files is none"))?;
        let below = |file: OutputFile| OutputFile { path: format!("{path}/{}", file.path), ..file };
        files.extend(listed.into_iter().map(below));
    }
    let head =
        files.iter().find(|file| file.path == worker::HEAD).ok_or_else(|| bad("the cache is not in it"))?;
    if head.blob.size > LIMIT {
        return Err(bad("the cache in it is too large"));
    }
    let head = client.read_blob(head.blob)?;
    let took = files.iter().find_map(|file| worker::took(&file.path));
    let blobs = files.iter().map(|file| (file.blob.digest, file.blob)).collect();
    let (keeper, name) = (Keeper::Cas(Box::new(client)), on.shown.clone());
    Ok(Outputs { keeper, name, head, blobs, took })
}

/// Reads what a pod left: the files there, each with its size.
pub(super) fn of_pod(worker: Arc<Worker>, files: &[(String, u64)], on: &On) -> Result<Outputs, Fault> {
    let bad = |what: &str| Fault::engine(format!("{} gives no result: {what}", on.shown));
    let size = files.iter().find(|(path, _)| path == worker::HEAD).map(|(_, size)| *size);
    let size = size.ok_or_else(|| bad("the cache is not in it"))?;
    if size > LIMIT {
        return Err(bad("the cache in it is too large"));
    }
    let mut head = Vec::new();
    let got = worker.get(worker::HEAD, size, &mut head);
    got.map_err(|failed| match failed {
        Failed::There(fault) => fault,
        Failed::Here(e) => bad(&e.to_string()),
    })?;
    let blob = |(path, size): &(String, u64)| {
        let digest: Digest = format!("sha256:{}", path.rsplit('/').next()?).parse().ok()?;
        (*path == path_of(worker::OUTPUT, &digest)).then_some((digest, Blob { digest, size: *size }))
    };
    let blobs = files.iter().filter_map(blob).collect();
    let took = files.iter().find_map(|(path, _)| worker::took(path));
    // What one pod does not give another one may: each is known by its own name.
    let name = format!("{}, {}", on.shown, worker.place());
    Ok(Outputs { keeper: Keeper::Pod(worker), name, head, blobs, took })
}

/// What workers made of this build last, as far as it was remembered; whether it is still there turns out when it is needed.
pub(super) fn remembered(targets: &[Target], on: &On) -> Brought {
    let files = targets.iter().flat_map(|target| files_of(target, on));
    let files = files.filter_map(|file| std::fs::read(file).ok());
    // Several may have been one worker's.
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for bytes in files {
        if !kept.contains(&bytes) {
            kept.push(bytes);
        }
    }
    let outputs = kept.iter().filter_map(|bytes| outputs_of(bytes, on));
    outputs.map(|made| (Precedence::Usual, made)).collect()
}

fn outputs_of(bytes: &[u8], on: &On) -> Option<Arc<dyn Backend>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (list, head) = (&bytes[..end], &bytes[end + 1..]);
    let listed: Vec<(Digest, u64)> = serde_json::from_slice(list).ok()?;
    let keeper = match &on.engine {
        Engine::Reapi { at, .. } => Keeper::Cas(Box::new(backend::client(at).ok()?)),
        Engine::Kubernetes(_) => Keeper::Nobody,
    };
    let blobs = listed.into_iter().map(|(digest, size)| (digest, Blob { digest, size })).collect();
    let name = match keeper {
        Keeper::Nobody => format!("{}, a pod that is gone", on.shown),
        Keeper::Cas(_) | Keeper::Pod(_) => on.shown.clone(),
    };
    Some(Arc::new(Outputs { keeper, name, head: head.to_vec(), blobs, took: None }))
}

/// Where it is: by the build, a platform each, and by the engine.
fn files_of(target: &Target, on: &On) -> Vec<PathBuf> {
    let Target { name, request } = target;
    let ContextFrom::Directory(context) = &request.context else { return Vec::new() };
    let Ok(context) = std::fs::canonicalize(context) else { return Vec::new() };
    let Ok(store) = Store::open(&request.store_root) else { return Vec::new() };
    let (stage, engine) = (&request.options.target, on.id());
    let file = |platform: Platform| {
        let build = format!("{context:?} {:?} {name} {stage:?} {platform}", request.dockerfile);
        store.private(Folder::Placed).join(Digest::of(format!("{build} {engine}").as_bytes()).hex())
    };
    request.platforms_or_host().into_iter().map(file).collect()
}

impl Outputs {
    /// Remembers it for each of these builds, since layers that no output needs do not come here, and the next build shall find their steps.
    /// What goes wrong costs that build time.
    pub(super) fn remember(&self, targets: &[Target], on: &On) {
        let write = |target: &Target| -> Option<()> {
            let listed: Vec<(Digest, u64)> =
                self.blobs.values().map(|blob| (blob.digest, blob.size)).collect();
            let mut bytes = serde_json::to_vec(&listed).ok()?;
            bytes.push(b'\n');
            bytes.extend(&self.head);
            let store = Store::open(&target.request.store_root).ok()?;
            std::fs::create_dir_all(store.private(Folder::Placed)).ok()?;
            files_of(target, on).iter().try_for_each(|file| keep(&store, file, &bytes))
        };
        if targets.iter().any(|target| write(target).is_none()) {
            tracing::debug!("what a worker made is not remembered");
        }
    }

    fn of(&self, blob: &Descriptor) -> Result<Blob, Error> {
        let known = self.blobs.get(&blob.digest).filter(|known| known.size == blob.size);
        known.copied().ok_or(Error::NoBlob(blob.digest))
    }

    fn fetch_one(&self, store: &Store, blob: &Descriptor) -> Result<(), Error> {
        if store.intact_blob(&blob.digest)? == Some(blob.size) {
            return Ok(());
        }
        let named = self.of(blob)?;
        let mut writer = store.new_blob()?;
        let path = writer.path().to_owned();
        let failed = |error: reapi::Error| match error {
            reapi::Error::Here(e) => Error::io("write", &path, e),
            error => error.into(),
        };
        match &self.keeper {
            Keeper::Cas(client) if client.is_small(named.size)? => {
                let bytes = client.read_small(named)?;
                writer.write_all(&bytes).map_err(|e| Error::io("write", &path, e))?;
            }
            Keeper::Cas(client) => client.read_stream(named, Packing::Never, &mut writer).map_err(failed)?,
            Keeper::Pod(worker) => worker.get_blob(named, &mut writer).map_err(|failed| match failed {
                Failed::There(fault) => Error::Server(fault.told()),
                Failed::Here(e) => Error::io("write", &path, e),
            })?,
            Keeper::Nobody => return Err(Error::NoBlob(named.digest)),
        }
        writer.commit(Some(blob.digest)).map(drop).map_err(|error| match error {
            store::Error::WrongDigest { expected, actual } => Error::OtherBytes { expected, actual },
            error => error.into(),
        })
    }
}

impl Backend for Outputs {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        Ok(Some(Head::of_cache(self.head.clone(), None)))
    }

    fn put_head(&self, _: &[u8], _: &[Descriptor], _: Option<&Head>) -> Result<Put, Error> {
        Err(read_only())
    }

    fn put_pack(&self, _: &PackId, _: &[u8], _: &[Descriptor]) -> Result<(), Error> {
        Err(read_only())
    }

    fn remove(&self) -> Result<(), Error> {
        Err(read_only())
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let named = self.of(blob)?;
        match &self.keeper {
            Keeper::Cas(client) => Ok(client.read_blob(named)?),
            Keeper::Pod(worker) => {
                let mut bytes = Vec::new();
                worker.get_blob(named, &mut bytes).map_err(|failed| match failed {
                    Failed::There(fault) => Error::Server(fault.told()),
                    Failed::Here(e) => Error::Server(e.to_string()),
                })?;
                backend::verified(blob, bytes)
            }
            Keeper::Nobody => Err(Error::NoBlob(named.digest)),
        }
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        let next = std::sync::Mutex::new(blobs.iter());
        let first = std::sync::Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(blobs.len()) {
                scope.spawn(|| {
                    loop {
                        let blob = crate::sync::lock(&next).next();
                        let Some(blob) = blob else { return };
                        if let Err(error) = self.fetch_one(store, blob) {
                            crate::sync::lock(&first).get_or_insert(error);
                        }
                    }
                });
            }
        });
        crate::sync::into_inner(first).map_or(Ok(()), Err)
    }

    fn send(&self, _: &Descriptor, _: Content<'_>) -> Result<Sent, Error> {
        Err(read_only())
    }
}

fn read_only() -> Error {
    Error::Server("what a worker left is only read".to_owned())
}
