//! Speaks with the API server of a Kubernetes cluster: makes jobs, looks at their pods, runs programs in these.
//!
//! Says what the API says, and leaves to callers what a job is for. HTTP/1.1, as programs in pods are spoken with over WebSocket,
//! which begins with that, and a request now and then needs no more.
//!
//! ```text
//! kubeconfig  which server, and as whom
//! login       tokens, and programs that give them
//! server      asks it
//! connection  requests and answers as bytes
//! websocket   what programs in pods read and print
//! job         a job, made of a template
//! pod         jobs and pods: made, looked at, removed
//! ```

mod connection;
mod job;
mod kubeconfig;
mod login;
mod pod;
mod server;
mod websocket;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) use job::{WORK, Wanted, job};
pub(crate) use kubeconfig::access;
pub(crate) use pod::State;
pub(crate) use server::{Error, Server};
pub(crate) use websocket::{Incoming, WebSocket, channel};

/// Bytes as base64.
fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Base64 as bytes; blanks and ends of lines count for nothing.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(plain).ok()
}
