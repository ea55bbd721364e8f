//! One form for both syntaxes of a definition: attributes, and blocks with labels.

use std::sync::Arc;

use hcl_edit::Span as _;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Body as NativeBody, Structure};

use super::fault::{Place, Result};
use super::json::{self, Json, Node};
use crate::report::{Diagnostic, Source, Span};

/// An expression of either syntax.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    Native(Arc<Expression>, Place),
    Json(Arc<Node>, Arc<Source>),
}

/// `name = value`
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) name_span: Span,
    pub(super) value: Expr,
}

/// `kind "label" { … }`
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) kind: String,
    pub(super) labels: Vec<String>,
    /// From its kind to its last label.
    pub(super) head: Span,
    pub(super) source: Arc<Source>,
    pub(super) body: Body,
}

/// What is in a file or block.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    pub(super) attributes: Vec<Attribute>,
    pub(super) blocks: Vec<Block>,
}

impl Body {
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

impl Expr {
    pub(super) fn source(&self) -> &Arc<Source> {
        match self {
            Self::Native(_, place) => &place.source,
            Self::Json(_, source) => source,
        }
    }

    pub(super) fn span(&self) -> Span {
        match self {
            Self::Native(expr, place) => place.span(expr.span()),
            Self::Json(node, _) => node.span,
        }
    }

    /// An error that points to it.
    pub(super) fn fault(&self, message: impl Into<String>, label: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(message).at(self.source(), self.span(), label))
    }

    /// It as an expression of the native syntax; a JSON string is one in quotes.
    pub(super) fn native(&self) -> Result<(Arc<Expression>, Place)> {
        match self {
            Self::Native(expr, place) => Ok((Arc::clone(expr), place.clone())),
            Self::Json(node, source) => match &node.value {
                Json::Text { text, is_plain } => {
                    let place = text_place(source, node.span, *is_plain);
                    let expr = text.parse::<Expression>().map_err(|error| broken(&place, text, &error))?;
                    Ok((Arc::new(expr), place))
                }
                _ => Err(self.fault("an expression is required here", "write it as a string")),
            },
        }
    }

    /// The single word that it is.
    pub(super) fn keyword(&self) -> Option<String> {
        match self {
            Self::Native(expr, _) => expr.as_variable().map(ToString::to_string),
            Self::Json(node, _) => match &node.value {
                Json::Text { text, .. } => Some(text.clone()),
                _ => None,
            },
        }
    }

    /// The expressions of a list.
    pub(super) fn list(&self) -> Option<Vec<Expr>> {
        match self {
            Self::Native(expr, place) => {
                let elements = expr.as_array()?.iter();
                Some(elements.map(|one| Self::Native(Arc::new(one.clone()), place.clone())).collect())
            }
            Self::Json(node, source) => match &node.value {
                Json::Array(elements) => {
                    Some(elements.iter().map(|one| Self::Json(Arc::clone(one), Arc::clone(source))).collect())
                }
                _ => None,
            },
        }
    }
}

/// The place of the text in a JSON string.
pub(super) fn text_place(source: &Arc<Source>, span: Span, is_plain: bool) -> Place {
    match is_plain {
        true => Place::from(source, span.start as usize + 1),
        false => Place::whole(source, span),
    }
}

/// What hcl-edit says of text that is none of the language.
pub(super) fn broken(place: &Place, text: &str, error: &hcl_edit::parser::Error) -> Box<Diagnostic> {
    let offset = error.location().offset().min(text.len().saturating_sub(1));
    let mut end = (offset + 1).min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let fault = place.fault(Some(offset..end), format!("broken HCL: {}", error.message()), "here");
    let line = text.lines().nth(error.location().line().saturating_sub(1)).unwrap_or_default();
    match is_crowded(line) {
        true => Box::new(
            fault.help("a block on one line has one argument at most; each stands on a line of its own"),
        ),
        false => fault,
    }
}

/// Whether a line has a block with several arguments: `target "x" { a = 1 b = 2 }`.
fn is_crowded(line: &str) -> bool {
    let Some((head, body)) = line.split_once('{') else { return false };
    let is_head = |c: char| c.is_alphanumeric() || matches!(c, '"' | '_' | '-' | ' ' | '\t' | '.');
    !head.trim().is_empty() && head.chars().all(is_head) && body.matches('=').count() > 1
}

/// Reads the native syntax.
pub(super) fn native(source: &Arc<Source>) -> Result<Body> {
    let place = match source.text.strip_prefix('\u{feff}') {
        Some(_) => Place::from(source, 3),
        None => Place::of(source),
    };
    let text = source.text.trim_start_matches('\u{feff}');
    let body: NativeBody = text.parse().map_err(|error| broken(&place, text, &error))?;
    read_native(body, &place)
}

fn read_native(native: NativeBody, place: &Place) -> Result<Body> {
    let mut body = Body::default();
    for structure in native {
        match structure {
            Structure::Attribute(attribute) => {
                let name = attribute.key.to_string();
                let name_span = place.span(attribute.key.span());
                if let Some(first) = body.attribute(&name) {
                    let message = format!("`{name}` is given twice");
                    let fault = Diagnostic::error(message).at(&place.source, name_span, "here again");
                    return Err(Box::new(fault.at(&place.source, first.name_span, "here first")));
                }
                let value = Expr::Native(Arc::new(attribute.value), place.clone());
                body.attributes.push(Attribute { name, name_span, value });
            }
            Structure::Block(block) => {
                let mut head = place.span(block.ident.span());
                for label in &block.labels {
                    head = head.to(place.span(label.span()));
                }
                let labels = block.labels.iter().map(|label| label.as_str().to_owned()).collect();
                body.blocks.push(Block {
                    kind: block.ident.to_string(),
                    labels,
                    head,
                    source: Arc::clone(&place.source),
                    body: read_native(block.body, place)?,
                });
            }
        }
    }
    Ok(body)
}

/// Reads JSON; in it only the schema tells what is a block.
pub(super) fn json(source: &Arc<Source>) -> Result<Body> {
    let node = json::parse(source)?;
    let mut body = Body::default();
    for object in objects(&node, source)? {
        for property in object {
            match property.key.as_str() {
                // A comment.
                "//" => {}
                kind @ ("target" | "group" | "variable" | "function") => {
                    labelled(kind, &property.value, source, &mut body.blocks)?;
                }
                _ => body.attributes.push(attribute(property, source)),
            }
        }
    }
    Ok(body)
}

fn attribute(property: &json::Property, source: &Arc<Source>) -> Attribute {
    let value = Expr::Json(Arc::clone(&property.value), Arc::clone(source));
    Attribute { name: property.key.clone(), name_span: property.key_span, value }
}

/// An object, or an array of some.
fn objects<'n>(node: &'n Node, source: &Arc<Source>) -> Result<Vec<&'n [json::Property]>> {
    let not_one = |node: &Node| {
        let message = "an object of JSON is required here";
        Box::new(Diagnostic::error(message).at(source, node.span, "no object"))
    };
    match &node.value {
        Json::Object(properties) => Ok(vec![properties]),
        Json::Array(elements) => {
            let one = |element: &'n Arc<Node>| match &element.value {
                Json::Object(properties) => Ok(properties.as_slice()),
                _ => Err(not_one(element)),
            };
            elements.iter().map(one).collect()
        }
        Json::Null => Ok(Vec::new()),
        _ => Err(not_one(node)),
    }
}

/// Blocks of one kind: under their labels, each an object or several.
fn labelled(kind: &str, node: &Node, source: &Arc<Source>, blocks: &mut Vec<Block>) -> Result<()> {
    for object in objects(node, source)? {
        for property in object.iter().filter(|property| property.key != "//") {
            for properties in objects(&property.value, source)? {
                blocks.push(Block {
                    kind: kind.to_owned(),
                    labels: vec![property.key.clone()],
                    head: property.key_span,
                    source: Arc::clone(source),
                    body: inner(kind, properties, source)?,
                });
            }
        }
    }
    Ok(())
}

fn inner(kind: &str, properties: &[json::Property], source: &Arc<Source>) -> Result<Body> {
    let mut body = Body::default();
    for property in properties.iter().filter(|property| property.key != "//") {
        if kind == "variable" && property.key == "validation" {
            for properties in objects(&property.value, source)? {
                body.blocks.push(Block {
                    kind: "validation".to_owned(),
                    labels: Vec::new(),
                    head: property.key_span,
                    source: Arc::clone(source),
                    body: inner("validation", properties, source)?,
                });
            }
            continue;
        }
        if let Some(first) = body.attribute(&property.key) {
            let fault = Diagnostic::error(format!("`{}` is given twice", property.key));
            let fault = fault.at(source, property.key_span, "here again");
            return Err(Box::new(fault.at(source, first.name_span, "here first")));
        }
        body.attributes.push(attribute(property, source));
    }
    Ok(body)
}
