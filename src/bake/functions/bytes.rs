//! Encodings of bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Call, Outcome, at};
use crate::bake::value::{Number, Value};

pub(super) fn base64encode(call: &Call<'_>) -> Outcome {
    Ok(Value::text(STANDARD.encode(call.text(0))))
}

pub(super) fn base64decode(call: &Call<'_>) -> Outcome {
    let Ok(bytes) = STANDARD.decode(call.text(0)) else { return at(0, "this is no base64") };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Value::text(text)),
        Err(_) => at(0, "what is in it is no text (UTF-8)"),
    }
}

pub(super) fn length(call: &Call<'_>) -> Outcome {
    Ok(Value::Number(Number::from(call.text(0).len())))
}

pub(super) fn slice(call: &Call<'_>) -> Outcome {
    let whole = call.text(0);
    let place = |argument| call.whole(argument).map(|at| usize::try_from(at).unwrap_or(usize::MAX));
    let (offset, length) = (place(1)?, place(2)?);
    match offset.checked_add(length).and_then(|end| whole.get(offset..end)) {
        Some(part) => Ok(Value::text(part)),
        None => at(1, "this part reaches beyond the string, or parts a character"),
    }
}

pub(super) fn urlencode(call: &Call<'_>) -> Outcome {
    let mut out = String::new();
    for byte in call.text(0).bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(Value::text(out))
}
