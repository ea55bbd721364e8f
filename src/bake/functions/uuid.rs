//! UUIDs.

use sha2::Digest as _;

use super::{Call, Outcome, at};
use crate::bake::value::Value;

fn written(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub(super) fn v4(_: &Call<'_>) -> Outcome {
    let mut bytes = [0; 16];
    match getrandom::getrandom(&mut bytes) {
        Ok(()) => Ok(Value::text(written(bytes, 4))),
        Err(error) => Err(format!("no random numbers: {error}").into()),
    }
}

pub(super) fn v5(call: &Call<'_>) -> Outcome {
    // The names of RFC 4122, appendix C, are those of the same bytes but for one.
    let known = |last: u8| format!("6ba7b81{last}9dad11d180b400c04fd430c8");
    let namespace = match call.text(0) {
        "dns" => known(0),
        "url" => known(1),
        "oid" => known(2),
        "x500" => known(4),
        other => other.replace('-', ""),
    };
    let byte = |at: usize| u8::from_str_radix(namespace.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..16).map(|at| byte(at * 2)).collect();
    let Some(bytes) = bytes.filter(|_| namespace.len() == 32) else {
        return at(0, format!("`{}` is no UUID, nor `dns`, `url`, `oid` or `x500`", call.text(0)));
    };
    let mut hash = sha1::Sha1::new();
    hash.update(&bytes);
    hash.update(call.text(1));
    let digest = hash.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    Ok(Value::text(written(first, 5)))
}
