//! ONBUILD.

use super::{Context, Fallible, Keyword, kind};
use crate::dockerfile::split::{self, Header};
use crate::dockerfile::syntax::{Instruction, Onbuild};

pub(super) fn onbuild(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Onbuild> {
    if header.arguments.text.is_empty() {
        return Err(cx.at_least_one(header, "ONBUILD"));
    }
    let trigger = split::header(header.arguments, cx.escape);
    let keyword = trigger.keyword;
    let refused = |message: &str| Err(cx.error(keyword.range(), message, "not allowed here"));
    let kind = match Keyword::parse(keyword.text) {
        None => return Err(super::unknown(cx, &trigger)),
        Some(Keyword::Onbuild) => return refused("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        Some(Keyword::Maintainer) => return refused("MAINTAINER isn't allowed as an ONBUILD trigger"),
        Some(keyword) => kind(cx, &trigger, keyword)?,
    };
    let instruction = Instruction {
        span: cx.span,
        keyword: cx.part(keyword),
        text: header.arguments.text.to_owned(),
        comment: String::new(),
        kind,
    };
    Ok(Onbuild { expression: expression(cx, header), instruction: Box::new(instruction) })
}

/// What the image records: the rest of the line as written, blanks at its end included, and the
/// here-documents with their tabs.
fn expression(cx: &Context<'_>, header: &Header<'_>) -> String {
    let mut expression = cx.line.text[header.keyword.range().end..].trim_start().to_owned();
    for body in cx.bodies {
        expression.push('\n');
        expression.push_str(body.text);
        expression.push_str(&body.marker.name);
    }
    expression
}
