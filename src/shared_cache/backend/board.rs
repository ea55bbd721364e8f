//! Pieces of text that machines leave for each other at a server of the Remote Execution API, by names that both know.

use super::Error;
use super::actions::{Packed, Reapi, Server as _};
use crate::http::Environment;
use crate::shared_cache::spec::ReapiAt;

/// Where they are left.
#[derive(Debug)]
pub(crate) struct Board(Reapi);

impl Board {
    /// Contacts nothing yet.
    pub(crate) fn at(at: ReapiAt) -> Self {
        Self(Reapi::new(at, Environment::from_process()))
    }

    /// Leaves a piece, which is not empty.
    ///
    /// # Errors
    /// Those of the server, such as that it takes none.
    pub(crate) fn put(&self, name: &[&str], piece: Vec<u8>) -> Result<(), Error> {
        self.0.put_result(name, &Packed::plain(piece))
    }

    /// The piece of that name; `None` when there is none yet, or none any more.
    ///
    /// # Errors
    /// Those of the server.
    pub(crate) fn get(&self, name: &[&str]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.result(name)?.map(Packed::into_bytes))
    }
}
