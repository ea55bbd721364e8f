#![allow(clippy::unwrap_used)]

mod errors;
mod oracle;
mod properties;
mod syntax;

use std::sync::Arc;

use super::super::syntax::Dockerfile;
use crate::report::{Diagnostic, Source};

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() })
}

fn parse(text: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    super::parse(&source(text))
}
