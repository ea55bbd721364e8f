//! A template's text as pieces of text and of actions, and an action's text as words.

use serde_json::Value;

use super::TemplateError;

/// Text that stands for itself, or the inside of `{{ … }}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Action(String),
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.A.B`, `.`
    Field(Vec<String>),
    /// `$`, `$.A`
    Root(Vec<String>),
    Literal(Value),
    Word(String),
    Pipe,
    Open,
    /// `)` with the fields behind it: `(…).A`
    Close(Vec<String>),
}

fn error(text: impl Into<String>) -> TemplateError {
    TemplateError(text.into())
}

/// Cuts the template into pieces; `{{-` and `-}}` take the white space beside them away.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trims = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (before_trimmed, after) =
            match after.strip_prefix('-').filter(|a| a.starts_with(char::is_whitespace)) {
                Some(after) => (before.trim_end(), after),
                None => (before, after),
            };
        push_text(&mut pieces, if trims { before_trimmed.trim_start() } else { before_trimmed });
        let end = action_end(after)?;
        let (action, behind) = (&after[..end], &after[end + 2..]);
        let is_trimming = action.strip_suffix('-').filter(|a| a.ends_with(char::is_whitespace));
        trims = is_trimming.is_some();
        pieces.push(Piece::Action(is_trimming.unwrap_or(action).trim().to_owned()));
        rest = behind;
    }
    push_text(&mut pieces, if trims { rest.trim_start() } else { rest });
    Ok(pieces)
}

/// Shells pass `\t` as two characters, and docker's templates mean a tab by them.
fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

/// Where the `}}` of an action is; one inside of a string does not count.
fn action_end(text: &str) -> Result<usize, TemplateError> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Ok(at),
            None => {}
        }
    }
    Err(error(match quote {
        Some(_) => "a quotation mark in the template is not closed",
        None => "`{{` is not closed in the template",
    }))
}

/// The words of an action.
pub(super) fn words(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '|' => (Token::Pipe, &rest[1..]),
            '(' => (Token::Open, &rest[1..]),
            ')' => fields(&rest[1..]).map(|(names, after)| (Token::Close(names), after))?,
            '.' => fields(rest).map(|(names, after)| (Token::Field(names), after))?,
            '$' => root(rest)?,
            '"' => quoted(rest)?,
            '`' => raw(rest)?,
            c if c.is_ascii_digit() || c == '-' || c == '+' => number(rest)?,
            _ => word(rest)?,
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// `.A.B` or `.`, and what stands behind it.
fn fields(text: &str) -> Result<(Vec<String>, &str), TemplateError> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
        if end == 0 {
            return match names.is_empty() {
                true => Ok((names, after)),
                false => Err(error(format!("a name is missing after the last `.` of `{text}`"))),
            };
        }
        names.push(after[..end].to_owned());
        rest = &after[end..];
    }
    Ok((names, rest))
}

fn root(text: &str) -> Result<(Token, &str), TemplateError> {
    let after = &text[1..];
    if after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return Err(error("variables such as `$x` are not supported in templates; `$` is the whole value"));
    }
    fields(after).map(|(names, after)| (Token::Root(names), after))
}

fn quoted(text: &str) -> Result<(Token, &str), TemplateError> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match stream.next() {
        Some(Ok(string)) => Ok((Token::Literal(Value::String(string)), &text[stream.byte_offset()..])),
        _ => Err(error(format!("`{text}` does not begin with a valid string"))),
    }
}

fn raw(text: &str) -> Result<(Token, &str), TemplateError> {
    let closed = text[1..].split_once('`');
    let (string, after) = closed.ok_or_else(|| error("a quotation mark in the template is not closed"))?;
    Ok((Token::Literal(Value::String(string.to_owned())), after))
}

fn number(text: &str) -> Result<(Token, &str), TemplateError> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let value = serde_json::from_str(text[..end].trim_start_matches('+'));
    let value = value.map_err(|_| error(format!("`{}` is no number", &text[..end])))?;
    Ok((Token::Literal(value), &text[end..]))
}

fn word(text: &str) -> Result<(Token, &str), TemplateError> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let token = match &text[..end] {
        "" => return Err(error(format!("`{text}` is not expected in a template"))),
        "true" => Token::Literal(Value::Bool(true)),
        "false" => Token::Literal(Value::Bool(false)),
        "nil" => Token::Literal(Value::Null),
        name => Token::Word(name.to_owned()),
    };
    Ok((token, &text[end..]))
}
