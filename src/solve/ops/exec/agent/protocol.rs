//! The agent's protocol (draft-ietf-sshm-ssh-agent): messages of a length, a type and its fields.

use std::io::{self, Read, Write};

pub(super) const FAILURE: u8 = 5;
pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const IDENTITIES_ANSWER: u8 = 12;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const SIGN_RESPONSE: u8 = 14;
/// Which hash a client wants under an RSA signature.
pub(super) const RSA_SHA2_256: u32 = 2;
/// The other one.
pub(super) const RSA_SHA2_512: u32 = 4;

/// As OpenSSH has it.
pub(super) const LONGEST_BYTES: u32 = 256 << 10;

/// A request that neither changes the agent nor asks for what only its owner may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'m> {
    /// Which keys there are.
    Identities,
    /// A signature.
    Sign {
        /// The public half of the key.
        public: &'m [u8],
        /// What to sign.
        data: &'m [u8],
        /// Which hash.
        flags: u32,
    },
}

/// What a message without its length asks for; `None` is refused. Nothing may follow the fields.
pub fn parse(message: &[u8]) -> Option<Request<'_>> {
    let (kind, mut fields) = message.split_first()?;
    let request = match *kind {
        REQUEST_IDENTITIES => Request::Identities,
        SIGN_REQUEST => {
            let (public, data) = (take(&mut fields)?, take(&mut fields)?);
            Request::Sign { public, data, flags: number(&mut fields)? }
        }
        _ => return None,
    };
    fields.is_empty().then_some(request)
}

pub(super) fn refusal() -> Vec<u8> {
    vec![FAILURE]
}

/// One message without its length; `None` when the other side has hung up.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for a message that is longer than any is; nothing is allocated for it.
pub fn read(mut from: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length);
    if length > LONGEST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

pub(super) fn write(mut to: impl Write, message: &[u8]) -> io::Result<()> {
    let length = (message.len() as u32).to_be_bytes();
    to.write_all(&[&length, message].concat())
}

/// Appends bytes with their length before.
pub(super) fn put(message: &mut Vec<u8>, bytes: &[u8]) {
    message.extend((bytes.len() as u32).to_be_bytes());
    message.extend(bytes);
}

/// Takes a number off the front.
fn number(message: &mut &[u8]) -> Option<u32> {
    let (number, rest) = message.split_first_chunk::<4>()?;
    *message = rest;
    Some(u32::from_be_bytes(*number))
}

/// Takes bytes with a length before them off the front.
fn take<'m>(message: &mut &'m [u8]) -> Option<&'m [u8]> {
    let length = number(message)? as usize;
    let (bytes, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(bytes)
}
