//! Protobuf on the wire: fields of messages as bytes and back (the encoding of its third version).
//!
//! Less than a generator of code brings along: rbuild uses thirty messages, most of them in one direction.

/// A message that is being written. What has the default value is left out, as the encoding has it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Without fields.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A number, a truth or the number of an enum's value.
    pub(crate) fn number(mut self, field: u64, number: u64) -> Self {
        if number != 0 {
            put_varint(&mut self.0, field << 3);
            put_varint(&mut self.0, number);
        }
        self
    }

    /// Bytes, or a text.
    pub(crate) fn bytes(self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        if bytes.is_empty() { self } else { self.always(field, bytes) }
    }

    /// A message, which is there also when it is empty.
    pub(crate) fn message(self, field: u64, message: Writer) -> Self {
        let Writer(bytes) = message;
        self.always(field, &bytes)
    }

    /// Each of several messages.
    pub(crate) fn messages(self, field: u64, messages: impl IntoIterator<Item = Writer>) -> Self {
        messages.into_iter().fold(self, |writer, message| writer.message(field, message))
    }

    /// One of several texts, which is there also when it is empty.
    pub(crate) fn always(mut self, field: u64, bytes: &[u8]) -> Self {
        put_varint(&mut self.0, field << 3 | 2);
        put_varint(&mut self.0, bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// The message.
    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    /// Of a kind that no message here has.
    Other,
}

impl<'m> Value<'m> {
    /// The number; of what is none, 0.
    pub(crate) fn number(self) -> u64 {
        if let Self::Number(number) = self { number } else { 0 }
    }

    /// The bytes; of what has none, none.
    pub(crate) fn bytes(self) -> &'m [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// The bytes as text.
    pub(crate) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The numbers of a repeated field, which has them one by one or all in one.
    pub(crate) fn numbers(self) -> Vec<u64> {
        match self {
            Self::Number(number) => vec![number],
            Self::Bytes(mut bytes) => std::iter::from_fn(|| take_varint(&mut bytes)).collect(),
            Self::Other => Vec::new(),
        }
    }
}

/// The fields of a message, in the order in which they are. Those that a reader does not know are passed over by it.
pub(crate) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), Malformed>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = take_field(&mut bytes);
        if field.is_none() {
            bytes = &[];
        }
        Some(field.ok_or(Malformed))
    })
}

fn take_field<'m>(bytes: &mut &'m [u8]) -> Option<(u64, Value<'m>)> {
    let tag = take_varint(bytes)?;
    let value = match tag & 7 {
        0 => Value::Number(take_varint(bytes)?),
        1 => bytes.split_off(..8).map(|_| Value::Other)?,
        2 => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            Value::Bytes(bytes.split_off(..length)?)
        }
        5 => bytes.split_off(..4).map(|_| Value::Other)?,
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Writer::new().number(1, 300).bytes(2, "");
        let bytes = Writer::new().bytes(1, "abc").message(2, inner).number(3, u64::MAX).number(4, 0).done();
        let read: Vec<(u64, Value<'_>)> = fields(&bytes).collect::<Result<_, _>>().unwrap();
        let expected =
            [(1, Value::Bytes(b"abc")), (2, Value::Bytes(&[8, 172, 2])), (3, Value::Number(u64::MAX))];
        assert_eq!(read, expected);
        // Packed and not packed.
        assert_eq!(Value::Bytes(&[1, 172, 2]).numbers(), [1, 300]);
        assert_eq!(Value::Number(7).numbers(), [7]);
        // Fixed numbers are passed over.
        let fixed = [9, 1, 2, 3, 4, 5, 6, 7, 8, 61, 1, 2, 3, 4, 8, 1];
        assert_eq!(fields(&fixed).last(), Some(Ok((1, Value::Number(1)))));
    }

    #[test]
    fn what_is_none_is_refused() {
        for bytes in [
            &b"<html>"[..],
            &[42, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            &[255; 20],
            &[10, 5, 1],
            &[9, 1],
        ] {
            assert_eq!(fields(bytes).last(), Some(Err(Malformed)), "{bytes:?}");
        }
    }
}
