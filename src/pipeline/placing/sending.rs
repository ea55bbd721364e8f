//! All that travels as blobs, and what a server lacks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;

use super::files::Travelling;
use super::known::{self, Known};
use super::order::Order;
use super::{Fault, worker};
use crate::exec::Stop;
use crate::oci::Hasher;
use crate::reapi::{Action, Blob, Client, Command, Folder, Packing, Source};
use crate::report::Diagnostic;
use crate::text::size::bytes;

/// rbuild itself, from which it runs: the link leads to it also when it was replaced meanwhile.
const SELF: &str = "/proc/self/exe";
/// Bytes of small files that are held at once.
const GATHERED: u64 = 3 << 20;
/// Where a worker's programs are, as far as rbuild calls any: engines give actions no variables but theirs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Actions of one version are those of no other.
const SALT: &str = concat!("rbuild ", env!("CARGO_PKG_VERSION"));

/// All that a worker reads.
#[derive(Default)]
pub(super) struct Package {
    contexts: Vec<Travelling>,
    /// Where its files lie, what is in each, and whether it can be executed.
    inputs: Vec<(String, Blob, bool)>,
    /// rbuild's own, where it travels.
    program: Option<Blob>,
    /// Messages, and the order.
    messages: BTreeMap<Blob, Vec<u8>>,
    files: BTreeMap<Blob, From>,
    /// How many files the contexts have, and how many bytes these.
    counts: (usize, u64),
    /// How many layers of earlier builds, and how many bytes these.
    layers: (usize, u64),
}

/// Where a file is.
enum From {
    /// In the context of that number.
    Context(usize, String),
    /// In the store.
    Store(PathBuf),
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) blobs: usize,
    pub(super) of: usize,
    pub(super) bytes: u64,
}

impl Package {
    pub(super) fn of(
        order: &Order,
        (contexts, known): (Vec<Travelling>, Option<Known>),
    ) -> Result<Self, Fault> {
        let told = serde_json::to_vec(order);
        let told = told.map_err(|e| Fault::engine(format!("the build cannot be written down: {e}")))?;
        let mut package = Self::default();
        package.add_message(worker::ORDER.to_owned(), told);
        for (number, context) in contexts.iter().enumerate() {
            for (path, blob, is_executable) in context.files() {
                package.inputs.push((worker::input(number, path), blob, is_executable));
                package.files.insert(blob, From::Context(number, path.to_owned()));
                package.counts = (package.counts.0 + 1, package.counts.1 + blob.size);
            }
        }
        if let Some(Known { head, indexes, layers }) = known {
            package.add_message(worker::KNOWN_HEAD.to_owned(), head);
            for (blob, bytes) in indexes {
                package.add_message(known::path_of(worker::KNOWN, &blob.digest), bytes);
            }
            for (blob, path) in layers {
                package.inputs.push((known::path_of(worker::KNOWN, &blob.digest), blob, false));
                package.files.insert(blob, From::Store(path));
                package.layers = (package.layers.0 + 1, package.layers.1 + blob.size);
            }
        }
        Ok(Self { contexts, ..package })
    }

    pub(super) fn add_message(&mut self, path: String, bytes: Vec<u8>) {
        let blob = Blob::of(&bytes);
        self.inputs.push((path, blob, false));
        self.messages.insert(blob, bytes);
    }

    /// As [`add_message`](Self::add_message), in the place of the one that lay there.
    pub(super) fn replace_message(&mut self, path: &str, bytes: Vec<u8>) {
        if let Some(at) = self.inputs.iter().position(|(known, ..)| known == path) {
            let (_, blob, _) = self.inputs.remove(at);
            self.messages.remove(&blob);
        }
        self.add_message(path.to_owned(), bytes);
    }

    /// Makes an action of it, with rbuild's program.
    pub(super) fn as_action(
        &mut self,
        (words, outputs): (&[&str], &[&str]),
        properties: &[(String, String)],
        timeout: Option<Duration>,
    ) -> Result<Blob, Fault> {
        let unreadable =
            |e: io::Error| vec![Diagnostic::error(format!("cannot read rbuild's own program: {e}"))];
        let program = match self.program {
            Some(program) => program,
            None => blob_of(Path::new(SELF)).map_err(unreadable)?,
        };
        let mut root = Folder::default();
        for (path, blob, is_executable) in &self.inputs {
            root.add(path, *blob, *is_executable);
        }
        root.add("rbuild", program, true);
        let input_root = root.messages(&mut self.messages);
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let command = Command {
            arguments: owned(words),
            environment: vec![("PATH".to_owned(), PATH.to_owned())],
            outputs: owned(outputs),
            properties: properties.to_vec(),
        };
        let mut add = |bytes: Vec<u8>| {
            let blob = Blob::of(&bytes);
            self.messages.insert(blob, bytes);
            blob
        };
        let command = add(command.to_bytes());
        let action = Action {
            command,
            input_root,
            timeout,
            // rbuild's own keys decide what is the same.
            do_not_cache: true,
            salt: SALT.into(),
            properties: properties.to_vec(),
        };
        let action = add(action.to_bytes());
        self.program = Some(program);
        Ok(action)
    }

    /// Where files lie, what is in each, and whether it can be executed.
    pub(super) fn inputs(&self) -> &[(String, Blob, bool)] {
        &self.inputs
    }

    /// All that the server has to have.
    pub(super) fn names(&self) -> Vec<Blob> {
        let all = self.messages.keys().chain(self.files.keys()).chain(&self.program);
        all.copied().collect::<BTreeSet<Blob>>().into_iter().collect()
    }

    /// Whether something of what the user has is among them.
    pub(super) fn has_files(&self, missing: &BTreeSet<Blob>) -> bool {
        missing.iter().any(|blob| self.files.contains_key(blob) || self.messages.contains_key(blob))
    }

    /// What travels, for people.
    pub(super) fn told(&self) -> String {
        let (count, size) = self.counts;
        let files = if count == 1 { "file" } else { "files" };
        let context = format!("{count} {files} of the context ({})", bytes(size));
        match self.layers {
            (0, _) => format!("the Dockerfile, build arguments and {context}"),
            (count, size) => {
                let layers = if count == 1 { "layer" } else { "layers" };
                let layers = format!("{count} {layers} of earlier builds ({})", bytes(size));
                format!("the Dockerfile, build arguments, {context} and {layers}")
            }
        }
    }

    /// Sends what is missing.
    pub(super) fn send(
        &self,
        client: &Client,
        missing: &BTreeSet<Blob>,
        stop: &Stop,
    ) -> Result<Moved, Fault> {
        let moved = self.moved(missing);
        let mut batches: Vec<Vec<Blob>> = vec![Vec::new()];
        let (mut large, mut size) = (Vec::new(), 0);
        for blob in missing {
            if !client.is_small(blob.size)? {
                large.push(vec![*blob]);
                continue;
            }
            if size + blob.size > GATHERED {
                batches.push(Vec::new());
                size = 0;
            }
            size += blob.size;
            batches.last_mut().expect("there is one").push(*blob);
        }
        // Large ones first, so that the last of them is not waited for alone.
        large.extend(batches.into_iter().filter(|batch| !batch.is_empty()));
        large.par_iter().with_max_len(1).try_for_each(|batch| {
            let interrupted = || Fault::Build(vec![Diagnostic::error("the build was interrupted")]);
            if stop.is_wanted() {
                return Err(interrupted());
            }
            let sent = match batch.as_slice() {
                [one] if !client.is_small(one.size)? => self.send_large(client, *one, stop),
                several => self.send_small(client, several),
            };
            sent.map_err(|fault| if stop.is_wanted() { interrupted() } else { fault })
        })?;
        Ok(moved)
    }

    /// What is missing, and what of all that travels that is.
    pub(super) fn moved(&self, missing: &BTreeSet<Blob>) -> Moved {
        Moved {
            blobs: missing.len(),
            of: self.names().len(),
            bytes: missing.iter().fold(0, |sum, blob| sum.saturating_add(blob.size)),
        }
    }

    /// Reads a blob, from its beginning to its end. Whether it is what its name says is seen by who gets it.
    pub(super) fn read(&self, blob: &Blob) -> Result<Box<dyn io::Read + '_>, Fault> {
        match self.messages.get(blob) {
            Some(message) => Ok(Box::new(message.as_slice())),
            None => Ok(Box::new(self.open(blob).map_err(|e| changed(&e))?)),
        }
    }

    fn send_small(&self, client: &Client, blobs: &[Blob]) -> Result<(), Fault> {
        let read = |blob: &Blob| -> Result<(Blob, Vec<u8>), Fault> {
            if let Some(message) = self.messages.get(blob) {
                return Ok((*blob, message.clone()));
            }
            let mut bytes = Vec::new();
            self.open(blob)
                .and_then(|file| file.take(blob.size + 1).read_to_end(&mut bytes))
                .map_err(|e| changed(&e))?;
            match Blob::of(&bytes) == *blob {
                true => Ok((*blob, bytes)),
                false => Err(changed(&io::Error::other("it changed while it was read"))),
            }
        };
        let held: Vec<(Blob, Vec<u8>)> = blobs.iter().map(read).collect::<Result<_, _>>()?;
        let given: Vec<(Blob, &[u8])> = held.iter().map(|(blob, bytes)| (*blob, bytes.as_slice())).collect();
        Ok(client.put_small(&given)?)
    }

    fn send_large(&self, client: &Client, blob: Blob, stop: &Stop) -> Result<(), Fault> {
        let goes_on = || !stop.is_wanted();
        if let Some(message) = self.messages.get(&blob) {
            return Ok(client.put_stream_while(blob, Source::Bytes(message), Packing::Zstd, &goes_on)?);
        }
        let open = || self.open(&blob);
        Ok(client.put_stream_while(blob, Source::Opening(&open), self.packing(&blob), &goes_on)?)
    }

    /// Layers are compressed already.
    fn packing(&self, blob: &Blob) -> Packing {
        match self.files.get(blob) {
            Some(From::Store(_)) => Packing::Never,
            Some(From::Context(..)) | None => Packing::Zstd,
        }
    }

    fn open(&self, blob: &Blob) -> io::Result<File> {
        match self.files.get(blob) {
            Some(From::Context(number, path)) => self.contexts[*number].open(path),
            Some(From::Store(path)) => File::open(path),
            None => File::open(SELF),
        }
    }
}

/// Whether rbuild needs no program that links it: its file names none (ELF, program headers). What cannot be read counts as such.
pub(super) fn is_static() -> bool {
    const INTERPRETER: usize = 3;
    let mut start = Vec::new();
    let read = File::open(SELF).and_then(|file| file.take(64 << 10).read_to_end(&mut start));
    let number = |at: usize, size: usize| {
        let bytes = start.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    // Of 64 bits, and little-endian, as all that rbuild is compiled for.
    let headers = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    let Some((first, size, count)) = read.ok().and_then(|_| headers()) else { return true };
    let mut kinds = (0..count.min(64)).filter_map(|at| number(first.checked_add(at * size)?, 4));
    !kinds.any(|kind| kind == INTERPRETER)
}

pub(super) fn changed(error: &io::Error) -> Fault {
    Fault::Build(vec![Diagnostic::error(format!("a file of the context cannot be sent: {error}"))])
}

fn blob_of(path: &Path) -> io::Result<Blob> {
    let (mut file, mut hasher, mut size) = (File::open(path)?, Hasher::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Blob { digest: hasher.finish(), size }),
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_sent_again_is_another_action_with_what_it_reads_now() {
        let mut package = Package { program: Some(Blob::of(b"a program")), ..Package::default() };
        package.add_message("order.json".to_owned(), b"an order".to_vec());
        let mut action = |name: &[u8]| {
            package.replace_message("saying.json", name.to_vec());
            let action = package.as_action((&["./rbuild"], &["out"]), &[], None).unwrap();
            let paths: Vec<&str> = package.inputs.iter().map(|(path, ..)| path.as_str()).collect();
            assert_eq!(paths, ["order.json", "saying.json"]);
            (action, package.names())
        };
        let (first, second) = (action(b"one"), action(b"two"));
        assert_ne!(first.0, second.0);
        let has = |name: &[u8]| second.1.contains(&Blob::of(name));
        assert!(has(b"two") && has(b"an order") && has(b"a program") && !has(b"one"));
        assert!(second.1.contains(&second.0));
    }
}
