//! Any bytes from a step to its ssh agent: no more is read than a message says, none is longer than the protocol has them,
//! and what is not refused is exactly a request for the list of keys or for a signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::solve::ssh_protocol::{Request, parse, read};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse(bytes);
    let mut stream = bytes;
    let mut left = bytes;
    while let Ok(Some(message)) = read(&mut stream) {
        let (length, rest) = left.split_first_chunk::<4>().expect("a message has a length before it");
        let (expected, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        assert_eq!(message, expected);
        assert!(message.len() <= 256 << 10);
        left = rest;
        if let Some(request) = parse(&message) {
            assert_eq!(written(&request), message);
        }
    }
});

/// The request as a client sends it.
fn written(request: &Request<'_>) -> Vec<u8> {
    match *request {
        Request::Identities => vec![11],
        Request::Sign { public, data, flags } => {
            let mut message = vec![13];
            for field in [public, data] {
                message.extend((field.len() as u32).to_be_bytes());
                message.extend(field);
            }
            message.extend(flags.to_be_bytes());
            message
        }
    }
}
