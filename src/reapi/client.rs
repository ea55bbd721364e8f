//! One instance of a server: what it can do, and results of actions.

use std::fmt;
use std::sync::Mutex;

use super::messages::{ActionResult, Blob, Capabilities, Status};
use super::wire::{Malformed, Writer};
use crate::grpc::{self, Channel, Code};
use crate::oci::Digest;
use crate::sync::lock;
use crate::text::terminal::for_people;

/// Answers with nothing large in them.
const SMALL: usize = 4 << 20;

/// Why a server could not do something.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The call failed.
    Grpc(grpc::Error),
    /// What it answered is no message of the protocol.
    Malformed {
        /// `HOST:PORT`
        host: String,
    },
    /// It does not have a blob.
    NoBlob(Digest),
    /// It did not take a blob, or did not give it.
    Blob {
        /// Which.
        digest: Digest,
        /// Its code.
        code: Code,
        /// Its words, fit to be shown.
        message: String,
    },
    /// What it gave is not what its name says.
    OtherBytes {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// It cannot do what is needed: in words.
    Unable(String),
    /// It was there, and is gone: in words.
    Gone(String),
    /// What is sent could not be read, or what came not be written.
    Here(std::io::Error),
}

impl From<grpc::Error> for Error {
    fn from(error: grpc::Error) -> Self {
        Self::Grpc(error)
    }
}

impl Error {
    /// Whether a network or a server that is down may be behind it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Grpc(error) => error.is_transient() || matches!(error, grpc::Error::Unreachable { .. }),
            Self::Gone(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(error) => error.fmt(f),
            Self::Malformed { host } => write!(f, "`{host}` does not speak the Remote Execution API"),
            Self::NoBlob(digest) => write!(f, "it does not have {digest}"),
            Self::Blob { digest, code: Code::ResourceExhausted, message } => {
                write!(f, "there is no room for {digest} ({message})")
            }
            Self::Blob { digest, code, message } => write!(f, "{digest}: it answers {code} ({message})"),
            Self::OtherBytes { expected, actual } => write!(f, "it gives {actual} for {expected}"),
            Self::Unable(text) | Self::Gone(text) => f.write_str(text),
            Self::Here(error) => error.fmt(f),
        }
    }
}

/// One instance of a server.
pub(crate) struct Client {
    pub(super) channel: Channel,
    pub(super) instance: String,
    capabilities: Mutex<Option<Capabilities>>,
}

impl Client {
    /// Contacts nothing yet.
    pub(crate) fn new(channel: Channel, instance: String) -> Self {
        Self { channel, instance, capabilities: Mutex::default() }
    }

    /// What the server can do, asked once.
    ///
    /// # Errors
    /// [`Error::Unable`] when it does not name blobs by SHA-256.
    pub(super) fn capabilities(&self) -> Result<Capabilities, Error> {
        // Whoever asks meanwhile waits for this answer.
        let mut known = lock(&self.capabilities);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let request = Writer::new().bytes(1, &self.instance).done();
        let method = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities";
        let answer = self.channel.unary(method, &request, SMALL)?;
        let capabilities = self.read(Capabilities::parse(&answer))?;
        if !capabilities.knows_sha256 {
            return Err(Error::Unable(format!("`{}` does not name blobs by SHA-256", self.channel.host())));
        }
        Ok(known.insert(capabilities).clone())
    }

    /// Whether results of actions may be written, as far as the server says.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) fn takes_results(&self) -> Result<bool, Error> {
        Ok(self.capabilities()?.takes_results)
    }

    /// The result of an action, with what it said if that is short; `None` when there is none, or when something that it names
    /// is gone. It has `limit` bytes at most.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) fn action_result(&self, action: Blob, limit: usize) -> Result<Option<ActionResult>, Error> {
        let request = Writer::new().bytes(1, &self.instance).message(2, action.message());
        // Both outputs in the result.
        let request = request.number(3, 1).number(4, 1).done();
        let method = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
        match self.channel.unary(method, &request, limit) {
            Ok(answer) => self.read(ActionResult::parse(&answer)).map(Some),
            Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the result of an action. All that it names must be there.
    ///
    /// # Errors
    /// Those of the call; [`Error::Unable`] when the server takes none.
    pub(crate) fn put_action_result(&self, action: Blob, result: &ActionResult) -> Result<(), Error> {
        if !self.takes_results()? {
            let host = self.channel.host();
            return Err(Error::Unable(format!("`{host}` takes no results of actions from clients")));
        }
        let request = Writer::new().bytes(1, &self.instance).message(2, action.message());
        let request = request.message(3, result.message()).done();
        let method = "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";
        self.channel.unary(method, &request, SMALL.max(request.len() * 2))?;
        Ok(())
    }

    /// What was read, or that it cannot be.
    pub(super) fn read<T>(&self, read: Result<T, Malformed>) -> Result<T, Error> {
        read.map_err(|Malformed| Error::Malformed { host: self.channel.host() })
    }

    /// The name of something below the instance.
    pub(super) fn resource(&self, name: &str) -> String {
        if self.instance.is_empty() { name.to_owned() } else { format!("{}/{name}", self.instance) }
    }
}

/// What a status in an answer says of a blob.
pub(super) fn of_blob(digest: Digest, status: &Status) -> Result<(), Error> {
    match Code::from_number(status.code) {
        Code::Ok => Ok(()),
        Code::NotFound => Err(Error::NoBlob(digest)),
        code => Err(Error::Blob { digest, code, message: for_people(&status.message) }),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("channel", &self.channel).finish_non_exhaustive()
    }
}
