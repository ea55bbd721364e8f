//! Hashes of strings, and the decryption of RSA.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use sha2::Digest as _;

use super::{Call, Outcome, at};
use crate::bake::value::Value;

/// The cost of bcrypt beyond which one hash takes seconds.
const COSTLY: i64 = 14;

fn hex(bytes: &[u8]) -> Outcome {
    Ok(Value::text(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

pub(super) fn md5(call: &Call<'_>) -> Outcome {
    hex(&md5::Md5::digest(call.text(0)))
}

pub(super) fn sha1(call: &Call<'_>) -> Outcome {
    hex(&sha1::Sha1::digest(call.text(0)))
}

pub(super) fn sha256(call: &Call<'_>) -> Outcome {
    hex(&sha2::Sha256::digest(call.text(0)))
}

pub(super) fn sha512(call: &Call<'_>) -> Outcome {
    hex(&sha2::Sha512::digest(call.text(0)))
}

pub(super) fn bcrypt(call: &Call<'_>) -> Outcome {
    let cost = match call.args.len() {
        1 => 10,
        2 => call.whole(1)?,
        count => return Err(format!("it takes a string and a cost, not {count} arguments").into()),
    };
    let Some(cost) = u32::try_from(cost).ok().filter(|cost| (4..=COSTLY as u32).contains(cost)) else {
        return at(1, format!("the cost is between 4 and {COSTLY}, not {cost}"));
    };
    if call.text(0).len() > 72 {
        return at(0, "bcrypt takes no more than 72 bytes");
    }
    // One of cost 10 is some 50 milliseconds.
    call.charge(1_000 << (cost.saturating_sub(4)))?;
    match bcrypt::hash_with_result(call.text(0), cost) {
        Ok(parts) => Ok(Value::text(parts.format_for_version(bcrypt::Version::TwoA))),
        Err(error) => at(0, error.to_string()),
    }
}

pub(super) fn rsadecrypt(call: &Call<'_>) -> Outcome {
    let Ok(secret) = STANDARD.decode(call.text(0)) else { return at(0, "this is no base64") };
    let key = call.text(1);
    let inside = key.lines().map(str::trim).filter(|line| !line.starts_with("-----") && !line.contains(':'));
    let Ok(der) = STANDARD.decode(inside.collect::<String>()) else {
        return at(1, "this is no private key in PEM");
    };
    let read = rsa::RsaPrivateKey::from_pkcs1_der(&der).or_else(|_| rsa::RsaPrivateKey::from_pkcs8_der(&der));
    let Ok(private) = read else { return at(1, "this is no private key of RSA without a passphrase") };
    match private.decrypt(rsa::Pkcs1v15Encrypt, &secret).map(String::from_utf8) {
        Ok(Ok(text)) => Ok(Value::text(text)),
        Ok(Err(_)) => at(0, "what is in it is no text (UTF-8)"),
        Err(_) => at(0, "this key does not decrypt it"),
    }
}
