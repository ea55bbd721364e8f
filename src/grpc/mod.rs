//! Calls methods of gRPC services over HTTP/2 (RFC 9113), one call at a time on each connection.
//!
//! A client of rbuild's own, since every other brings an asynchronous runtime (docs/engines.md has what that costs). A call has
//! its connection to itself: whoever waits for an answer reads the socket, so there is neither a thread that reads nor a queue
//! between calls, and a connection whose call ended well is kept for the next. Several calls at once are several connections.
//!
//! Knows no service: messages are bytes, and what they mean is the caller's affair. Messages are not compressed.
//!
//! ```text
//! channel     a server, its connections, trying again
//! call        one call: messages there and back, and how it ended
//! connection  frames of one connection: settings, windows, pings, farewells
//! frame       frames as bytes
//! hpack       headers as bytes
//! status      how calls end
//! ```

mod call;
mod channel;
mod connection;
mod frame;
mod hpack;
mod huffman;
mod status;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

pub(crate) use call::{Call, Received};
pub(crate) use channel::{Address, Channel, Metadata};
pub use status::{Code, Error};
