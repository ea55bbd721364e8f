//! The messages of the Remote Execution API that are used, with the numbers of their fields from its `.proto` files.

use std::time::Duration;

use super::wire::{Malformed, Writer, fields};
use crate::oci::Digest;

/// A blob, as the protocol names it: by SHA-256 and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Blob {
    /// The name of some bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    pub(super) fn message(self) -> Writer {
        Writer::new().bytes(1, self.digest.hex()).number(2, self.size)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut hash, mut size) = (String::new(), 0);
        for field in fields(bytes) {
            match field? {
                (1, value) => hash = value.text(),
                (2, value) => size = value.number(),
                _ => {}
            }
        }
        let digest = format!("sha256:{hash}").parse().map_err(|_| Malformed)?;
        Ok(Self { digest, size })
    }
}

/// What a step of a build engine does: a command, and what it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) command: Blob,
    pub(crate) input_root: Blob,
    /// Its result is not kept under its digest, and is not looked up.
    pub(crate) do_not_cache: bool,
    /// Tells it from others that are otherwise the same.
    pub(crate) salt: Vec<u8>,
    /// It is ended after so long.
    pub(crate) timeout: Option<Duration>,
    /// What a worker must have: name and value.
    pub(crate) properties: Vec<(String, String)>,
}

impl Action {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut action =
            Writer::new().message(1, self.command.message()).message(2, self.input_root.message());
        if let Some(timeout) = self.timeout {
            action = action.message(6, Writer::new().number(1, timeout.as_secs()));
        }
        let action = action.number(7, self.do_not_cache.into()).bytes(9, &self.salt);
        with_platform(action, 10, &self.properties).done()
    }
}

/// Adds what a worker must have, sorted as the protocol wants it.
fn with_platform(writer: Writer, field: u64, properties: &[(String, String)]) -> Writer {
    if properties.is_empty() {
        return writer;
    }
    let mut sorted: Vec<&(String, String)> = properties.iter().collect();
    sorted.sort();
    let property = |(name, value): &(String, String)| Writer::new().bytes(1, name).bytes(2, value);
    writer.message(field, Writer::new().messages(1, sorted.into_iter().map(property)))
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Command {
    pub(crate) arguments: Vec<String>,
    /// Variables: name and value.
    pub(crate) environment: Vec<(String, String)>,
    /// Paths of what it makes, relative to where it runs.
    pub(crate) outputs: Vec<String>,
    /// What a worker must have. Older servers read it here, newer ones in the action.
    pub(crate) properties: Vec<(String, String)>,
}

impl Command {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let words = self.arguments.iter();
        let command = words.fold(Writer::new(), |command, word| command.always(1, word.as_bytes()));
        let mut environment = self.environment.clone();
        environment.sort();
        let variable = |(name, value): &(String, String)| Writer::new().bytes(1, name).bytes(2, value);
        let command = command.messages(2, environment.iter().map(variable));
        // Servers that know the seventh field pass over the fourth.
        let folders =
            |command, field| self.outputs.iter().fold(command, |c: Writer, path| c.bytes(field, path));
        let command = folders(command, 4);
        folders(with_platform(command, 5, &self.properties), 7).done()
    }
}

/// A file that an action made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputFile {
    pub(crate) path: String,
    pub(crate) blob: Blob,
}

/// What an action said: in its result, or in a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    Raw(Vec<u8>),
    Blob(Blob),
}

impl Default for Output {
    fn default() -> Self {
        Self::Raw(Vec::new())
    }
}

impl Output {
    fn write(&self, writer: Writer, raw: u64, blob: u64) -> Writer {
        match self {
            Self::Raw(bytes) => writer.bytes(raw, bytes),
            Self::Blob(named) => writer.message(blob, named.message()),
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ActionResult {
    pub(crate) files: Vec<OutputFile>,
    /// Folders: the name of each, and of the `Tree` that lists it.
    pub(crate) folders: Vec<(String, Blob)>,
    pub(crate) exit_code: i32,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    /// Who ran it, as far as that was said.
    pub(crate) worker: String,
    /// How long it waited for that.
    pub(crate) waited: Option<Duration>,
}

impl ActionResult {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.message().done()
    }

    pub(super) fn message(&self) -> Writer {
        let file = |file: &OutputFile| Writer::new().bytes(1, &file.path).message(2, file.blob.message());
        let folder = |(path, tree): &(String, Blob)| Writer::new().bytes(1, path).message(3, tree.message());
        let writer = Writer::new().messages(2, self.files.iter().map(file));
        let writer = writer.messages(3, self.folders.iter().map(folder));
        // Negative numbers are written as of 64 bits.
        let writer = writer.number(4, i64::from(self.exit_code) as u64);
        self.stderr.write(self.stdout.write(writer, 5, 6), 7, 8)
    }

    /// Reads one. What is not known is passed over.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut result = Self::default();
        for field in fields(bytes) {
            match field? {
                (2, value) => {
                    let (path, blob) = named(value.bytes(), 2)?;
                    result.files.push(OutputFile { path, blob });
                }
                (3, value) => result.folders.push(named(value.bytes(), 3)?),
                (4, value) => result.exit_code = value.number() as i32,
                (5, value) if !value.bytes().is_empty() => {
                    result.stdout = Output::Raw(value.bytes().to_vec());
                }
                (6, value) => result.stdout = or_blob(result.stdout, value.bytes())?,
                (7, value) if !value.bytes().is_empty() => {
                    result.stderr = Output::Raw(value.bytes().to_vec());
                }
                (8, value) => result.stderr = or_blob(result.stderr, value.bytes())?,
                (9, value) => result.read_metadata(value.bytes())?,
                _ => {}
            }
        }
        Ok(result)
    }
}

impl ActionResult {
    fn read_metadata(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (mut queued, mut started) = (None, None);
        for field in fields(bytes) {
            match field? {
                (1, value) => self.worker = value.text(),
                (2, value) => queued = Some(time(value.bytes())?),
                (3, value) => started = Some(time(value.bytes())?),
                _ => {}
            }
        }
        self.waited = started.zip(queued).map(|(started, queued)| started.saturating_sub(queued));
        Ok(())
    }
}

/// A `Timestamp`, since 1970.
fn time(bytes: &[u8]) -> Result<Duration, Malformed> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in fields(bytes) {
        match field? {
            (1, value) => seconds = value.number(),
            (2, value) => nanoseconds = value.number(),
            _ => {}
        }
    }
    Ok(Duration::from_secs(seconds.min(1 << 40)) + Duration::from_nanos(nanoseconds.min(1_000_000_000)))
}

/// Servers may give what was said and the name of its blob; then the name says nothing more.
fn or_blob(known: Output, bytes: &[u8]) -> Result<Output, Malformed> {
    match known {
        Output::Raw(raw) if raw.is_empty() => Ok(Output::Blob(Blob::parse(bytes)?)),
        known => Ok(known),
    }
}

/// A path, and the blob in the field of that number.
fn named(bytes: &[u8], number: u64) -> Result<(String, Blob), Malformed> {
    let (mut path, mut blob) = (String::new(), Err(Malformed));
    for field in fields(bytes) {
        match field? {
            (1, value) => path = value.text(),
            (field, value) if field == number => blob = Blob::parse(value.bytes()),
            _ => {}
        }
    }
    Ok((path, blob?))
}

/// A folder of files alone, as a `Tree`: what lists more files than fit into a result.
pub(crate) fn tree_of(files: &[OutputFile]) -> Vec<u8> {
    let file = |file: &OutputFile| Writer::new().bytes(1, &file.path).message(2, file.blob.message());
    Writer::new().message(1, Writer::new().messages(1, files.iter().map(file))).done()
}

/// What a server can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Capabilities {
    pub(super) knows_sha256: bool,
    pub(super) takes_results: bool,
    pub(super) runs_actions: bool,
    /// Bytes of all blobs in one message; 0 when it does not say.
    pub(super) batch_limit: u64,
    /// Of one blob; 0 when it does not say.
    pub(super) blob_limit: u64,
    pub(super) takes_zstd: bool,
}

impl Capabilities {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const SHA256: u64 = 1;
        const ZSTD: u64 = 1;
        let mut can = Self::default();
        for field in fields(bytes) {
            match field? {
                (1, cache) => {
                    for field in fields(cache.bytes()) {
                        match field? {
                            (1, value) => can.knows_sha256 |= value.numbers().contains(&SHA256),
                            (2, value) => {
                                for field in fields(value.bytes()) {
                                    let (number, value) = field?;
                                    can.takes_results |= number == 1 && value.number() != 0;
                                }
                            }
                            (4, value) => can.batch_limit = value.number(),
                            (6, value) => can.takes_zstd |= value.numbers().contains(&ZSTD),
                            (8, value) => can.blob_limit = value.number(),
                            _ => {}
                        }
                    }
                }
                (2, execution) => {
                    for field in fields(execution.bytes()) {
                        let (number, value) = field?;
                        can.runs_actions |= number == 2 && value.number() != 0;
                    }
                }
                _ => {}
            }
        }
        Ok(can)
    }
}

/// `google.rpc.Status`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Status {
    pub(crate) code: u64,
    pub(crate) message: String,
}

impl Status {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut status = Self::default();
        for field in fields(bytes) {
            match field? {
                (1, value) => status.code = value.number(),
                (2, value) => status.message = value.text(),
                _ => {}
            }
        }
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn results_are_what_others_read() {
        let blob = Blob { digest: Digest::of(b""), size: 300 };
        let hex = blob.digest.hex();
        let files = vec![OutputFile { path: format!("blobs/{hex}"), blob }];
        let raw = |text: &[u8]| Output::Raw(text.to_vec());
        let result = ActionResult { files, stdout: raw(b"pack"), stderr: raw(b"1-a"), ..Default::default() };
        let bytes = result.to_bytes();
        // As protoc writes it: `output_files { path: … digest { hash: … size_bytes: 300 } } stdout_raw: … stderr_raw: …`.
        let file =
            [&[10, 70][..], b"blobs/", hex.as_bytes(), &[18, 69, 10, 64], hex.as_bytes(), &[16, 172, 2]];
        let file = file.concat();
        let expected = [&[18, 143, 1][..], &file, &[42, 4], b"pack", &[58, 3], b"1-a"].concat();
        assert_eq!(bytes, expected);
        assert_eq!(ActionResult::parse(&bytes), Ok(result));
        // Fields that are not known.
        let more = [&[72, 150, 1, 73, 1, 2, 3, 4, 5, 6, 7, 8, 77, 1, 2, 3, 4][..], &bytes].concat();
        assert_eq!(ActionResult::parse(&more).unwrap().stdout, raw(b"pack"));
        // What was said is in a blob, and a negative exit code.
        let named = ActionResult {
            exit_code: -1,
            stdout: Output::Blob(blob),
            folders: vec![("blobs".to_owned(), blob)],
            ..Default::default()
        };
        assert_eq!(ActionResult::parse(&named.to_bytes()), Ok(named));
        assert_eq!(ActionResult::parse(b"<html>"), Err(Malformed));
        // A digest that is none.
        assert_eq!(ActionResult::parse(&[18, 4, 18, 2, 10, 0]), Err(Malformed));
    }

    #[test]
    fn capabilities() {
        let cache = Writer::new().bytes(1, [1, 2]).message(2, Writer::new().number(1, 1));
        let cache = cache.number(4, 4_000_000).number(6, 1).number(8, 1 << 30);
        let bytes = Writer::new().message(1, cache).message(2, Writer::new().number(2, 1)).done();
        let can = Capabilities::parse(&bytes).unwrap();
        let expected = Capabilities {
            knows_sha256: true,
            takes_results: true,
            runs_actions: true,
            batch_limit: 4_000_000,
            blob_limit: 1 << 30,
            takes_zstd: true,
        };
        assert_eq!(can, expected);
        assert_eq!(Capabilities::parse(&[]).unwrap(), Capabilities::default());
    }
}
