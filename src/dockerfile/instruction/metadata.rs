//! Instructions that only change the configuration: ARG, ENV, EXPOSE, LABEL, USER, VOLUME and their like.

use super::{Context, Fallible, Keyword};
use crate::dockerfile::excerpt;
use crate::dockerfile::split::{self, Header, RawWord};
use crate::dockerfile::syntax::{ArgDeclaration, Pair, Word};

/// Instructions whose argument is the rest of the line.
pub(super) fn one(cx: &Context<'_>, header: &Header<'_>, keyword: Keyword) -> Fallible<Word> {
    if header.arguments.text.is_empty() {
        let message = format!("{} requires exactly one argument", keyword.name());
        let fault = cx.error(header.keyword.range(), message, "nothing follows");
        return Err(match keyword {
            Keyword::Workdir => fault.help("write `WORKDIR /PATH`"),
            Keyword::User => fault.help("write `USER NAME` or `USER UID:GID`"),
            Keyword::Stopsignal => fault.help("write `STOPSIGNAL SIGTERM`"),
            _ => fault,
        });
    }
    Ok(cx.part(header.arguments))
}

pub(super) fn expose(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Vec<Word>> {
    let words = split::blank_words(header.arguments);
    if words.is_empty() {
        return Err(cx.at_least_one(header, "EXPOSE"));
    }
    Ok(words.into_iter().map(|word| cx.word(word)).collect())
}

pub(super) fn volume(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Vec<Word>> {
    let words = cx.list(header.arguments)?;
    if words.is_empty() {
        return Err(cx.at_least_one(header, "VOLUME"));
    }
    let trimmed = |word: RawWord<'_>| match word.text.trim() {
        "" => Err(cx.error(word.range, "VOLUME specified can not be an empty string", "empty")),
        text => Ok(cx.line.word(text, word.range)),
    };
    words.into_iter().map(trimmed).collect()
}

pub(super) fn arg(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Vec<ArgDeclaration>> {
    let words = split::quoted_words(header.arguments, cx.escape);
    if words.is_empty() {
        return Err(cx.at_least_one(header, "ARG"));
    }
    let declaration = |word: RawWord<'_>| match key_and_value(cx, &word, "ARG")? {
        Some((name, value)) => Ok(ArgDeclaration { name, default: Some(value) }),
        None => Ok(ArgDeclaration { name: cx.word(word), default: None }),
    };
    words.into_iter().map(declaration).collect()
}

/// ENV and LABEL, in either form: what decides is whether the first word has a `=`.
pub(super) fn pairs(cx: &Context<'_>, header: &Header<'_>, keyword: Keyword) -> Fallible<Vec<Pair>> {
    let words = split::quoted_words(header.arguments, cx.escape);
    match words.first() {
        None => Err(cx.at_least_one(header, keyword.name())),
        Some(first) if !first.text.contains('=') => Ok(vec![legacy_pair(cx, header, keyword)?]),
        Some(_) => words.iter().map(|word| pair(cx, word, keyword)).collect(),
    }
}

/// `KEY rest of the line`, blanks and quotes of the rest included.
fn legacy_pair(cx: &Context<'_>, header: &Header<'_>, keyword: Keyword) -> Fallible<Pair> {
    let name = keyword.name();
    let (key, value) = split::first_word(header.arguments);
    let Some(value) = value else {
        let fault = cx.error(key.range(), format!("{name} must have two arguments"), "no value follows");
        return Err(fault.help(format!("write `{name} {}=VALUE`", excerpt(key.text))));
    };
    Ok(Pair { key: cx.part(key), value: cx.part(value), legacy: true })
}

fn pair(cx: &Context<'_>, word: &RawWord<'_>, keyword: Keyword) -> Fallible<Pair> {
    match key_and_value(cx, word, keyword.name())? {
        Some((key, value)) => Ok(Pair { key, value, legacy: false }),
        None => {
            let message = format!(
                "syntax error - can't find = in `{}`. Must be of the form: name=value",
                excerpt(&word.text)
            );
            let fault = cx.error(word.range.clone(), message, "no `=` in this word");
            Err(fault.help("quote values that hold blanks: `name=\"two words\"`"))
        }
    }
}

/// Parts a word at its first `=`; `None` when it has none.
fn key_and_value(cx: &Context<'_>, word: &RawWord<'_>, name: &str) -> Fallible<Option<(Word, Word)>> {
    let Some((key, value)) = word.text.split_once('=') else { return Ok(None) };
    if key.is_empty() {
        return Err(cx.error(
            word.range.clone(),
            format!("{name} names can not be blank"),
            "no name before `=`",
        ));
    }
    // Words keep their quotes and escapes, so that their text stands in the line as it is, unless an
    // escape at the end of the line vanished from it.
    let start = word.range.start;
    let key = cx.line.word(key, start..start + key.len());
    Ok(Some((key, cx.line.word(value, word.range.end - value.len()..word.range.end))))
}
