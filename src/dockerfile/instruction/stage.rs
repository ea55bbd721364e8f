//! FROM.

use super::{Context, Fallible};
use crate::dockerfile::excerpt;
use crate::dockerfile::flags::{Flags, Kind};
use crate::dockerfile::split::{self, Header};
use crate::dockerfile::syntax::{From, Word};

const FLAGS: [(&str, Kind); 1] = [("platform", Kind::Single)];

pub(super) fn from(cx: &Context<'_>, header: &Header<'_>) -> Fallible<From> {
    let mut words = split::blank_words(header.arguments).into_iter().map(|word| cx.word(word));
    let words = (words.next(), words.next(), words.next(), words.next());
    let (image, alias) = match words {
        (Some(image), None, _, _) => (image, None),
        (Some(image), Some(keyword), Some(name), None) if keyword.text.eq_ignore_ascii_case("as") => {
            check_name(cx, &name)?;
            (image, Some((keyword, name)))
        }
        (None, ..) => return Err(wrong_count(cx, header.keyword.range(), "no image follows")),
        (Some(image), Some(name), None, None) => {
            let fault = wrong_count(cx, header.arguments.range(), "expected `IMAGE` or `IMAGE AS NAME`");
            let (image, name) = (excerpt(&image.text), excerpt(&name.text));
            return Err(fault.help(format!("write `FROM {image} AS {name}`")));
        }
        _ => return Err(wrong_count(cx, header.arguments.range(), "expected `IMAGE` or `IMAGE AS NAME`")),
    };
    let mut flags = Flags::parse(cx, &header.flags, &FLAGS)?;
    let (as_keyword, name) = alias.unzip();
    Ok(From {
        span: cx.span,
        keyword: cx.part(header.keyword),
        platform: flags.text("platform"),
        image,
        as_keyword,
        name,
        comment: cx.line.comment.clone(),
        text: cx.line.text.trim().to_owned(),
    })
}

fn wrong_count(cx: &Context<'_>, range: std::ops::Range<usize>, label: &str) -> super::Fault {
    cx.error(range, "FROM requires either one or three arguments", label)
}

/// A letter, then letters, digits, `-`, `_` and `.`; case does not matter.
fn check_name(cx: &Context<'_>, name: &Word) -> Fallible<()> {
    let lower = name.text.to_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if lower.starts_with(|c: char| c.is_ascii_lowercase()) && lower.chars().all(allowed) {
        return Ok(());
    }
    let message = format!(
        "invalid name for build stage: `{}`, name can't start with a number or contain symbols",
        excerpt(&name.text)
    );
    Err(cx.error_at(name.span, message, "no stage name"))
}
