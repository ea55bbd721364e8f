//! Blobs that get a further repository of their registry, without moving.

use super::error::Error;
use super::{Client, Target};
use crate::http::{Method, Payload, Request, percent_encoded};
use crate::oci::{Digest, Reference};

impl Client {
    /// Has the repository of `to` get a blob of the repository of `from`; whether it has it then. Nothing is sent, so a registry that
    /// does not mount it, or another registry, has not.
    pub fn mount_blob(&self, from: &Reference, to: &Reference, digest: &Digest) -> Result<bool, Error> {
        let (from, place) = (self.place_to_push(from)?, self.place_to_push(to)?);
        if (&from.registry, &from.repository) == (&place.registry, &place.repository) {
            return Ok(true);
        }
        let target = Target::push(to, &place);
        if self.has(&target, digest) {
            return Ok(true);
        }
        let head = Request::new(Method::HEAD, target.path(&format!("blobs/{digest}")));
        let mut is_there = self.call(&target, None, &head)?.status == 200;
        if !is_there && from.registry == place.registry {
            let query = format!("blobs/uploads/?mount={digest}&from={}", percent_encoded(&from.repository));
            let request = Request::new(Method::POST, target.path(&query)).payload(Payload::Bytes(&[]));
            let scope = format!("repository:{}:pull", from.repository);
            let answer = self.call(&target, Some(&scope), &request)?;
            is_there = answer.status == 201;
            // An upload was begun instead, which nobody goes on with.
            if let Some(location) = answer.location().filter(|_| answer.status == 202) {
                let _ = self.call(&target, None, &Request::new(Method::DELETE, location));
            }
        }
        if is_there {
            self.remember(&target, [*digest]);
        }
        Ok(is_there)
    }
}
