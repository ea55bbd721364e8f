//! A server of the Remote Execution API: its action cache keeps the head and packs, its CAS layers and indexes.
//!
//! The key of a result is the digest of an action that nobody runs, and that is there, too, for servers that look:
//!
//! ```text
//! Command  arguments: "rbuild-head/1" NAME, or "rbuild-pack/1" NAME SLOT
//! Action   that command, an empty folder, salt: "rbuild shared cache 1"
//! ```
//!
//! The pack is what the action said: in the result up to 1 MiB, beyond that in a blob. More than a thousand blobs are not output
//! files one by one, but a `Tree`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::{LIMIT, Packed, Server, path_of};
use crate::grpc::{Address, Channel, Metadata};
use crate::http::{Environment, Settings, Trusted};
use crate::oci::{Descriptor, Digest};
use crate::reapi::{
    self, Action, ActionResult, Blob, Client, Command, Output, OutputFile, Packing, Source, tree_of,
};
use crate::shared_cache::backend::web::{at_once, settings};
use crate::shared_cache::backend::{Content, Error, Sent};
use crate::shared_cache::spec::{HeaderFrom, ReapiAt, Secret};
use crate::store::{self, Store};
use crate::sync::lock;

/// A pack of up to so many bytes stands in the result itself.
const IN_RESULT: usize = 1 << 20;
/// So many blobs are named one by one.
const FILES: usize = 1000;
const SALT: &[u8] = b"rbuild shared cache 1";

/// One instance of a server.
#[derive(Debug)]
pub struct Reapi {
    at: ReapiAt,
    patience: Duration,
    /// Or why there is none.
    client: Result<Client, String>,
    /// What the server was found to have or not, by [`Server::expect`].
    known: Mutex<BTreeMap<Digest, bool>>,
}

impl Reapi {
    /// Contacts nothing yet; tokens are read.
    pub(in crate::shared_cache::backend) fn new(at: ReapiAt, environment: Environment) -> Self {
        let settings = settings(environment);
        let stall_timeout = at.timeout.unwrap_or(settings.stall_timeout);
        let client = client(&at, Settings { stall_timeout, ..settings });
        Self { at, patience: stall_timeout, client, known: Mutex::default() }
    }

    fn client(&self) -> Result<&Client, Error> {
        self.client.as_ref().map_err(|why| Error::Server(why.clone()))
    }

    /// What a message said: there, or in a blob of its own.
    fn said(&self, output: Output) -> Result<Option<Vec<u8>>, Error> {
        match output {
            Output::Raw(bytes) => Ok(Some(bytes)),
            Output::Blob(blob) if blob.size > LIMIT => {
                Err(Error::NoPack(format!("it is larger than {} MiB", LIMIT >> 20)))
            }
            Output::Blob(blob) => match self.client()?.read_blob(blob) {
                Ok(bytes) => Ok(Some(bytes)),
                // As a result whose files are gone.
                Err(reapi::Error::NoBlob(_)) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn fetch_one(&self, store: &Store, blob: &Descriptor) -> Result<(), Error> {
        if store.intact_blob(&blob.digest)? == Some(blob.size) {
            return Ok(());
        }
        let (client, named) = (self.client()?, of(blob));
        let mut writer = store.new_blob()?;
        if client.is_small(blob.size)? {
            let bytes = client.read_small(named)?;
            writer.write_all(&bytes).map_err(|e| Error::io("write", writer.path(), e))?;
        } else {
            let path = writer.path().to_owned();
            client.read_stream(named, packing(blob), &mut writer).map_err(|error| match error {
                reapi::Error::Here(e) => Error::io("write", &path, e),
                error => error.into(),
            })?;
        }
        writer.commit(Some(blob.digest)).map(drop).map_err(|error| match error {
            store::Error::WrongDigest { expected, actual } => Error::OtherBytes { expected, actual },
            error => error.into(),
        })
    }
}

impl Server for Reapi {
    fn name(&self) -> String {
        let slash = if self.at.instance.is_empty() { "" } else { "/" };
        format!("{}{slash}{}#{}", self.at.endpoint, self.at.instance, self.at.name)
    }

    fn cache(&self) -> &str {
        &self.at.name
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn result(&self, key: &[&str]) -> Result<Option<Packed>, Error> {
        let [_, (action, _)] = blobs_of(key);
        let Some(result) = self.client()?.action_result(action, LIMIT as usize)? else { return Ok(None) };
        let (pack, name) = (self.said(result.stdout)?, self.said(result.stderr)?);
        let (Some(pack), Some(name)) = (pack, name) else { return Ok(None) };
        match pack.is_empty() {
            true => Err(Error::NoPack("it is no result that rbuild wrote".to_owned())),
            false => Ok(Some(Packed { pack, name, blobs: Vec::new() })),
        }
    }

    fn put_result(&self, key: &[&str], result: &Packed) -> Result<(), Error> {
        let client = self.client()?;
        let key = blobs_of(key);
        let mut small: Vec<(Blob, &[u8])> = key.iter().map(|(blob, bytes)| (*blob, &**bytes)).collect();
        small.push((Blob::of(b""), b""));
        let file = |(digest, size): &(Digest, u64)| OutputFile {
            path: path_of(digest),
            blob: Blob { digest: *digest, size: *size },
        };
        let files: Vec<OutputFile> = result.blobs.iter().map(file).collect();
        let mut answer = ActionResult { stderr: Output::Raw(result.name.clone()), ..ActionResult::default() };
        let tree;
        if files.len() > FILES {
            tree = tree_of(&files);
            let blob = Blob::of(&tree);
            answer.folders.push(("blobs".to_owned(), blob));
            client.put_blob(blob, &tree)?;
        } else {
            answer.files = files;
        }
        if result.pack.len() > IN_RESULT {
            let blob = Blob::of(&result.pack);
            client.put_blob(blob, &result.pack)?;
            answer.stdout = Output::Blob(blob);
        } else {
            answer.stdout = Output::Raw(result.pack.clone());
        }
        client.put_small(&small)?;
        let [_, (action, _)] = &key;
        client.put_action_result(*action, &answer)?;
        Ok(())
    }

    fn expect(&self, blobs: &[Descriptor]) {
        let Ok(client) = &self.client else { return };
        let named: Vec<Blob> = blobs.iter().map(of).collect();
        // What goes wrong is met again with the first blob.
        if let Ok(missing) = client.missing(&named) {
            let found = named.iter().map(|blob| (blob.digest, !missing.contains(blob)));
            lock(&self.known).extend(found);
        }
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        Ok(self.client()?.read_blob(of(blob))?)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor]) -> Result<(), Error> {
        at_once(blobs, |blob| self.fetch_one(store, blob)).into_iter().collect()
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        let (client, named) = (self.client()?, of(blob));
        let known = lock(&self.known).remove(&blob.digest);
        let is_there = match known {
            Some(is_there) => is_there,
            None => client.missing(&[named])?.is_empty(),
        };
        if is_there {
            return Ok(Sent::Known);
        }
        match content {
            Content::Bytes(bytes) => client.put_blob(named, bytes)?,
            Content::Stored(store) if client.is_small(blob.size)? => {
                let bytes = store.read_blob(blob, blob.size)?;
                client.put_small(&[(named, &bytes)])?;
            }
            Content::Stored(store) => {
                let path = store.blob_path(&blob.digest);
                client.put_stream(named, Source::File(&path), packing(blob))?;
            }
        }
        Ok(Sent::Bytes(blob.size))
    }
}

fn of(blob: &Descriptor) -> Blob {
    Blob { digest: blob.digest, size: blob.size }
}

/// Layers are compressed, unless somebody wanted them plain.
fn packing(blob: &Descriptor) -> Packing {
    match blob.media_type.as_str().ends_with(".tar") {
        true => Packing::Zstd,
        false => Packing::Never,
    }
}

/// The command and the action of a key, each with its name.
fn blobs_of(key: &[&str]) -> [(Blob, Vec<u8>); 2] {
    let named = |bytes: Vec<u8>| (Blob::of(&bytes), bytes);
    let arguments = key.iter().map(|word| (*word).to_owned()).collect();
    let command = Command { arguments, ..Command::default() };
    let command = named(command.to_bytes());
    // An empty folder is an empty message.
    let action = Action {
        command: command.0,
        input_root: Blob::of(b""),
        do_not_cache: false,
        salt: SALT.to_vec(),
        timeout: None,
        properties: Vec::new(),
    };
    [command, named(action.to_bytes())]
}

/// The client of a place. What is wrong with files and variables is told without their content.
pub(in crate::shared_cache::backend) fn client(at: &ReapiAt, settings: Settings) -> Result<Client, String> {
    let address = Address::parse(&at.endpoint).ok_or("`endpoint=` is no address of gRPC")?;
    let headers = at.headers.iter().map(|(name, from)| {
        let value =
            header(from, &settings.environment).map_err(|why| format!("the header `{name}`: {why}"))?;
        Ok(Metadata { name: name.clone(), value })
    });
    let metadata = headers.collect::<Result<Vec<Metadata>, String>>()?;
    let trust = Trusted { ca: at.ca.iter().cloned().collect(), client: at.client.clone(), insecure: false };
    let channel = Channel::new(address, metadata, Settings { trust, ..settings });
    Ok(Client::new(channel, at.instance.clone()))
}

fn header(from: &HeaderFrom, environment: &Environment) -> Result<String, String> {
    let value = match from {
        HeaderFrom::Value(Secret(value)) => value.clone(),
        HeaderFrom::Variable(name) => {
            environment.text(&[name]).ok_or(format!("the variable `{name}` is not set"))?.to_owned()
        }
        HeaderFrom::File(path) => {
            let bytes = crate::rootfs::read_regular(path);
            let bytes = bytes.map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
            String::from_utf8(bytes).map_err(|_| format!("`{}` is no text", path.display()))?
        }
    };
    let value = value.trim();
    match value.is_empty() || value.contains(|c: char| c.is_control() || !c.is_ascii()) {
        true => Err("its value has to be one line of ASCII".to_owned()),
        false => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As python's stubs of the protocol serialise the same messages: whoever asks by another program finds the head by this.
    #[test]
    fn keys_are_what_they_were() {
        let [(_, command), (action, _)] = blobs_of(&["rbuild-head/1", "main"]);
        assert_eq!(command, b"\x0a\x0drbuild-head/1\x0a\x04main");
        assert_eq!(action.digest.hex(), "6208f31a4df654d17966f7b7239707e9d52236b9b01f88baa1863d5059044e4d");
        assert_eq!(action.size, 161);
    }

    #[test]
    fn tokens_come_from_where_the_option_says() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        std::fs::write(&file, "from-a-file\n").expect("written");
        let environment = Environment::empty().with("TOKEN", "from-the-environment");
        for (from, expected) in [
            (HeaderFrom::Value(Secret("value".to_owned())), Ok("value")),
            (HeaderFrom::Variable("TOKEN".to_owned()), Ok("from-the-environment")),
            (HeaderFrom::File(file), Ok("from-a-file")),
            (HeaderFrom::Variable("OTHER".to_owned()), Err("the variable `OTHER` is not set")),
            (HeaderFrom::Value(Secret("a\nb".to_owned())), Err("its value has to be one line of ASCII")),
            (HeaderFrom::Value(Secret(String::new())), Err("its value has to be one line of ASCII")),
        ] {
            assert_eq!(header(&from, &environment).as_deref().map_err(|e| &**e), expected);
        }
    }
}
