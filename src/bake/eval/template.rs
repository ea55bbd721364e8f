//! Strings with `${…}` and `%{…}`.

use std::collections::BTreeMap;

use hcl_edit::Span as _;
use hcl_edit::template::{Directive, Element, Strip, Template};

use super::super::body::broken;
use super::super::convert::text_of;
use super::super::fault::{Place, Result};
use super::super::module::Module;
use super::super::value::Value;
use super::Frame;

impl Module {
    /// Text that is a template: a string of JSON.
    pub(super) fn eval_text(&self, text: &str, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        if !text.contains("${") && !text.contains("%{") {
            return Ok(Value::text(text));
        }
        let template = text.parse::<Template>().map_err(|error| broken(place, text, &error))?;
        self.eval_template(&template, false, place, frame)
    }

    /// A template that is nothing but one `${…}` is what is in it, of whatever type.
    pub(super) fn eval_template(
        &self,
        template: &Template,
        is_heredoc: bool,
        place: &Place,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        if let Some(Element::Interpolation(only)) = template.as_single_element() {
            return self.eval(&only.expr, place, frame);
        }
        let mut text = String::new();
        self.write(template, is_heredoc, (Edge::Kept, Edge::Kept), place, frame, &mut text)?;
        self.charge(text.len() / 16, place, template.span())?;
        Ok(Value::text(text))
    }

    /// Writes what a template comes to; `edges` tell whether white space at its beginning and end is wanted.
    fn write(
        &self,
        template: &Template,
        is_heredoc: bool,
        edges: (Edge, Edge),
        place: &Place,
        frame: &Frame<'_>,
        out: &mut String,
    ) -> Result<()> {
        let elements: Vec<&Element> = template.iter().collect();
        for (at, element) in elements.iter().enumerate() {
            match element {
                Element::Literal(literal) => {
                    let before = match at.checked_sub(1) {
                        None => edges.0,
                        Some(before) => after_of(elements[before]),
                    };
                    let after = elements.get(at + 1).map_or(edges.1, |next| before_of(next));
                    out.push_str(&trimmed(literal.value(), is_heredoc, before, after));
                }
                Element::Interpolation(interpolation) => {
                    let value = self.eval(&interpolation.expr, place, frame)?;
                    let text = text_of(&value).map_err(|why| {
                        let message = format!("this cannot be put in a string: {why}");
                        place.fault(interpolation.expr.span(), message, value.kind())
                    })?;
                    out.push_str(&text);
                }
                Element::Directive(directive) => {
                    self.write_directive(directive, is_heredoc, place, frame, out)?;
                }
            }
            self.charge(1, place, element.span())?;
            if out.len() > (64 << 20) {
                return Err(place.fault(element.span(), "this string gets larger than 64 MiB", "here"));
            }
        }
        Ok(())
    }

    fn write_directive(
        &self,
        directive: &Directive,
        is_heredoc: bool,
        place: &Place,
        frame: &Frame<'_>,
        out: &mut String,
    ) -> Result<()> {
        match directive {
            Directive::If(directive) => {
                let cond = self.eval(&directive.if_expr.cond_expr, place, frame)?;
                let is_true = self.condition(&cond, directive.if_expr.cond_expr.span(), place)?;
                let end = Edge::before(directive.endif_expr.strip);
                let after_if = Edge::after(directive.if_expr.strip);
                match (&directive.else_expr, is_true) {
                    (Some(other), true) => {
                        let edges = (after_if, Edge::before(other.strip));
                        self.write(&directive.if_expr.template, is_heredoc, edges, place, frame, out)
                    }
                    (None, true) => self.write(
                        &directive.if_expr.template,
                        is_heredoc,
                        (after_if, end),
                        place,
                        frame,
                        out,
                    ),
                    (Some(other), false) => {
                        let edges = (Edge::after(other.strip), end);
                        self.write(&other.template, is_heredoc, edges, place, frame, out)
                    }
                    (None, false) => Ok(()),
                }
            }
            Directive::For(directive) => {
                let intro = &directive.for_expr;
                let collection = self.eval(&intro.collection_expr, place, frame)?;
                let pairs = collection.pairs().ok_or_else(|| {
                    let message = "`for` goes through lists, sets, maps, tuples and objects";
                    place.fault(intro.collection_expr.span(), message, collection.kind())
                })?;
                let edges = (Edge::after(intro.strip), Edge::before(directive.endfor_expr.strip));
                for (key, value) in pairs {
                    let mut names = BTreeMap::from([(intro.value_var.to_string(), value)]);
                    if let Some(name) = &intro.key_var {
                        names.insert(name.to_string(), key);
                    }
                    let inner = Frame::inside(frame, names);
                    self.write(&intro.template, is_heredoc, edges, place, &inner, out)?;
                }
                Ok(())
            }
        }
    }
}

/// Whether white space beside a marker is wanted: `~` says that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Kept,
    Trimmed,
}

impl Edge {
    fn before(strip: Strip) -> Self {
        if strip.strip_start() { Self::Trimmed } else { Self::Kept }
    }

    fn after(strip: Strip) -> Self {
        if strip.strip_end() { Self::Trimmed } else { Self::Kept }
    }
}

/// What an element asks of the text before it.
fn before_of(element: &Element) -> Edge {
    match element {
        Element::Literal(_) => Edge::Kept,
        Element::Interpolation(interpolation) => Edge::before(interpolation.strip),
        Element::Directive(directive) => match &**directive {
            Directive::If(directive) => Edge::before(directive.if_expr.strip),
            Directive::For(directive) => Edge::before(directive.for_expr.strip),
        },
    }
}

/// What an element asks of the text after it.
fn after_of(element: &Element) -> Edge {
    match element {
        Element::Literal(_) => Edge::Kept,
        Element::Interpolation(interpolation) => Edge::after(interpolation.strip),
        Element::Directive(directive) => match &**directive {
            Directive::If(directive) => Edge::after(directive.endif_expr.strip),
            Directive::For(directive) => Edge::after(directive.endfor_expr.strip),
        },
    }
}

/// In a here-document markers trim their own line alone.
fn trimmed(text: &str, is_heredoc: bool, before: Edge, after: Edge) -> String {
    let mut text = text.to_owned();
    if before == Edge::Trimmed {
        let line = if is_heredoc { text.find('\n').map_or(text.len(), |at| at + 1) } else { text.len() };
        text = format!("{}{}", text[..line].trim_start(), &text[line..]);
    }
    if after == Edge::Trimmed {
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let line = if is_heredoc { body.rfind('\n').map_or(0, |at| at + 1) } else { 0 };
        text = format!("{}{}", &text[..line], text[line..].trim_end());
    }
    text
}
