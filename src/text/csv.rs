//! One record of comma-separated fields, by the rules of Go's `encoding/csv`.

/// Why a text is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `a"b`
    #[error("bare \" in non-quoted field")]
    BareQuote,
    /// `"a"b` or `"a`
    #[error("extraneous or missing \" in quoted-field")]
    Quote,
    /// Nothing at all.
    #[error("no fields")]
    Empty,
}

/// The fields of one record. In quotes, `""` is a quote and commas do not part.
pub fn fields(record: &str) -> Result<Vec<String>, Fault> {
    if record.is_empty() {
        return Err(Fault::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match tail {
            Some(tail) => rest = tail,
            None => return Ok(fields),
        }
    }
}

/// A field and what follows its comma; `None` at the end.
type Field<'a> = (String, Option<&'a str>);

fn plain_field(text: &str) -> Result<Field<'_>, Fault> {
    let (field, tail) = match text.split_once(',') {
        Some((field, tail)) => (field, Some(tail)),
        None => (text, None),
    };
    if field.contains('"') { Err(Fault::BareQuote) } else { Ok((field.to_owned(), tail)) }
}

/// Reads behind the opening quote.
fn quoted_field(mut text: &str) -> Result<Field<'_>, Fault> {
    let mut field = String::new();
    loop {
        let (inside, behind) = text.split_once('"').ok_or(Fault::Quote)?;
        field.push_str(inside);
        match behind.chars().next() {
            None => return Ok((field, None)),
            Some(',') => return Ok((field, Some(&behind[1..]))),
            Some('"') => {
                field.push('"');
                text = &behind[1..];
            }
            Some(_) => return Err(Fault::Quote),
        }
    }
}
