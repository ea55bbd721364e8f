//! Puts instructions together to a file, and goes on after errors.

use std::sync::Arc;

use super::directives::{self, Preamble};
use super::heredoc::{self, Marker};
use super::instruction::{self, Body, Context, Keyword, Parsed};
use super::lines::{Line, Part, Reader, Terminator};
use super::split::{self, Header};
use super::syntax::{Directives, Dockerfile, Instruction, InstructionKind, Stage};
use super::words;
use super::{
    MAX_ERRORS, MAX_FAULTS, MAX_HEREDOCS, MAX_INSTRUCTIONS, MAX_LINE_BYTES, MAX_SOURCE_BYTES, MAX_STAGES,
    MAX_WARNINGS,
};
use crate::report::{Diagnostic, Source, Span};

/// Reads a whole Dockerfile. Either it is right, or every error found is returned, in the order of the
/// text, at most [`MAX_ERRORS`] of them.
pub fn parse(source: &Arc<Source>) -> Result<Dockerfile, Vec<Diagnostic>> {
    let (mut parser, directives) = Parser::new(source)?;
    let (global_args, stages) = parser.stages();
    let Parser { errors, warnings, .. } = parser;
    if errors.is_empty() {
        return Ok(Dockerfile { source: Arc::clone(source), directives, global_args, stages, warnings });
    }
    let foreign = directives.syntax.filter(|word| !source.text[word.span.start as usize..].starts_with('#'));
    Err(match foreign {
        // Complaints about a text in another language would only mislead.
        Some(syntax) => vec![foreign_file(source, &syntax.text, syntax.span)],
        None => errors,
    })
}

/// Of a Dockerfile with errors, what stands before the first of them; `None` of one without, and where nothing can be read.
pub fn parse_before_errors(source: &Arc<Source>) -> Option<Dockerfile> {
    let (mut parser, directives) = Parser::new(source).ok()?;
    let (mut global_args, mut stages) = parser.stages();
    let Parser { errors, mut warnings, .. } = parser;
    let first = errors.iter().filter_map(|error| error.labels.first()).map(|label| label.span.start).min()?;
    let stands_before = |span: Span| span.end <= first;
    global_args.retain(|argument| stands_before(argument.span));
    stages.retain(|stage| stands_before(stage.from.span));
    for stage in &mut stages {
        stage.instructions.retain(|instruction| stands_before(instruction.span));
    }
    warnings.retain(|warning| stands_before(warning.span));
    Some(Dockerfile { source: Arc::clone(source), directives, global_args, stages, warnings })
}

/// Reads the one instruction that an ONBUILD of a base image recorded. Spans point into `source`, which
/// holds nothing but that text. The escape is `\`, whatever the base's Dockerfile had.
pub fn parse_trigger(source: &Arc<Source>) -> Result<Instruction, Vec<Diagnostic>> {
    let (mut parser, _) = Parser::new(source)?;
    let found: Vec<Parsed> = std::iter::from_fn(|| parser.next()).take(2).collect();
    if !parser.errors.is_empty() {
        return Err(parser.errors);
    }
    let refuse = |message: &str, span| Err(vec![Diagnostic::error(message).at(source, span, "")]);
    match <[Parsed; 1]>::try_from(found) {
        Ok([Parsed::Instruction(instruction)]) => Ok(instruction),
        Ok([Parsed::From(from)]) => refuse("FROM isn't allowed as an ONBUILD trigger", from.span),
        Err(_) => refuse("ONBUILD trigger should be a single expression", Span::new(0, source.text.len())),
    }
}

fn check_size(source: &Arc<Source>) -> Result<(), Vec<Diagnostic>> {
    let message = match source.text.len() {
        0 => "the Dockerfile cannot be empty".to_owned(),
        size if size > MAX_SOURCE_BYTES => format!("the Dockerfile is larger than {MAX_SOURCE_BYTES} bytes"),
        _ => return Ok(()),
    };
    let error = Diagnostic::error(message).at(source, Span::default(), "");
    Err(vec![match source.text.is_empty() {
        true => error.help("a Dockerfile begins with `FROM IMAGE`"),
        false => error,
    }])
}

fn foreign_file(source: &Arc<Source>, syntax: &str, span: Span) -> Diagnostic {
    let message = format!("the file asks for the frontend `{}` and is no Dockerfile", super::excerpt(syntax));
    Diagnostic::error(message).at(source, span, "").help("rbuild reads Dockerfiles only")
}

struct Parser<'a> {
    source: &'a Arc<Source>,
    reader: Reader<'a>,
    escape: char,
    errors: Vec<Diagnostic>,
    /// How many instructions were begun.
    count: usize,
    /// How many instructions could not be read, reported or not.
    faults: usize,
    /// Where the last unknown instruction ended.
    last_unknown: Option<u32>,
    /// The instruction of the last line, when it has a marker and takes no here-documents.
    markers_refused: Option<String>,
    warnings: Vec<super::syntax::SyntaxWarning>,
}

impl<'a> Parser<'a> {
    /// Reads the directives, too.
    fn new(source: &'a Arc<Source>) -> Result<(Self, Directives), Vec<Diagnostic>> {
        check_size(source)?;
        let Preamble { directives, body, errors, escape_unknown } = directives::read(source);
        if escape_unknown {
            return Err(errors);
        }
        let escape = directives.escape;
        let reader = Reader::new(&source.text, body, escape);
        let warnings = Vec::new();
        let parser = Self {
            source,
            reader,
            escape,
            errors,
            count: 0,
            faults: 0,
            last_unknown: None,
            markers_refused: None,
            warnings,
        };
        Ok((parser, directives))
    }

    fn stages(&mut self) -> (Vec<Instruction>, Vec<Stage>) {
        let mut global_args = Vec::new();
        let mut stages: Vec<Stage> = Vec::new();
        let mut homeless = None;
        while let Some(parsed) = self.next() {
            match (parsed, stages.last_mut()) {
                (Parsed::From(from), _) => {
                    if stages.len() == MAX_STAGES {
                        self.error(format!("more than {MAX_STAGES} stages"), from.span, "one too many");
                        break;
                    }
                    stages.push(Stage { from, instructions: Vec::new() });
                }
                (Parsed::Instruction(instruction), Some(stage)) => stage.instructions.push(instruction),
                (Parsed::Instruction(instruction), None) => match instruction.kind {
                    InstructionKind::Arg(_) => global_args.push(instruction),
                    _ => homeless = homeless.or(Some(instruction.keyword.span)),
                },
            }
        }
        if let Some(span) = homeless {
            self.homeless(span);
        } else if stages.is_empty() && self.errors.is_empty() {
            self.no_stage(&global_args);
        }
        self.warnings.append(&mut self.reader.warnings);
        self.warnings.sort_by_key(|warning| warning.span);
        self.errors.sort_by_key(|error| error.labels.first().map(|label| label.span.start));
        self.errors.truncate(MAX_ERRORS);
        (global_args, stages)
    }

    fn error(&mut self, message: impl Into<String>, span: Span, label: &str) {
        self.errors.push(Diagnostic::error(message).at(self.source, span, label));
    }

    /// The first instruction before any FROM. When a FROM is there and cannot be read, that is the error.
    fn homeless(&mut self, span: Span) {
        let from_failed = self.errors.iter().any(|error| {
            let start = error.labels.first().map_or(0, |label| label.span.start);
            start < span.start
        });
        if !from_failed {
            let error = Diagnostic::error("no build stage in current context");
            let error = error.at(self.source, span, "before any FROM");
            self.errors.push(error.help("begin with `FROM IMAGE`; only ARG may stand before it"));
        }
    }

    fn no_stage(&mut self, global_args: &[Instruction]) {
        let (message, span) = match global_args.last() {
            None => ("file with no instructions", Span::default()),
            Some(last) => {
                ("dockerfile contains no stages to build: no build stage in current context", last.span)
            }
        };
        let error = Diagnostic::error(message).at(self.source, span, "");
        self.errors.push(error.help("a Dockerfile needs a `FROM IMAGE`"));
    }

    /// The next instruction that can be read; errors of those before it are collected.
    fn next(&mut self) -> Option<Parsed> {
        loop {
            if self.errors.len() >= MAX_ERRORS || self.faults >= MAX_FAULTS {
                return None;
            }
            let line = self.reader.next_line()?;
            self.count += 1;
            if self.count > MAX_INSTRUCTIONS {
                self.error(format!("more than {MAX_INSTRUCTIONS} instructions"), line.span, "one too many");
                return None;
            }
            if line.text.len() > MAX_LINE_BYTES {
                let message = format!("instruction longer than {MAX_LINE_BYTES} bytes");
                self.error(message, Span { end: line.span.start + 80, ..line.span }, "too long");
                continue;
            }
            if let Some(parsed) = self.instruction(&line) {
                return Some(parsed);
            }
        }
    }

    fn instruction(&mut self, line: &Line<'_>) -> Option<Parsed> {
        let header = split::header(Part { text: &line.text, at: 0 }, self.escape);
        let keyword = Keyword::parse(header.keyword.text);
        let mut span = line.span;
        let bodies = match instruction::may_hold_heredocs(&header, keyword, self.escape) {
            true => self.bodies(line)?,
            false => Vec::new(),
        };
        if !bodies.is_empty() {
            span.end = Span::new(0, self.reader.end()).end;
        }
        let cx = Context { source: self.source, line, escape: self.escape, bodies: &bodies, span };
        let refused = self.markers_refused.take();
        match instruction::parse(&cx, &header, keyword) {
            Ok(parsed) => {
                self.markers_refused = markers_refused(&header, keyword);
                if self.warnings.len() < MAX_WARNINGS {
                    self.warnings.extend(instruction::json_warning(line, &header, keyword, &parsed));
                }
                Some(parsed)
            }
            Err(fault) => {
                let mut error = fault.into_diagnostic();
                error.help.extend(
                    refused.map(|keyword| format!("{keyword} takes no here-document; RUN, COPY and ADD do")),
                );
                self.fault(error, &header, span);
                None
            }
        }
    }

    /// Records an error, unless it only continues the one before: the lines of a text that was taken for
    /// instructions are unknown one after another.
    fn fault(&mut self, error: Diagnostic, header: &Header<'_>, span: Span) {
        self.faults += 1;
        let unknown = Keyword::parse(header.keyword.text).is_none();
        let follows = self
            .last_unknown
            .is_some_and(|end| self.source.text[end as usize..span.start as usize].trim().is_empty());
        let guessed = Keyword::nearest(header.keyword.text).is_some();
        if !(unknown && follows && !guessed) {
            self.errors.push(error);
        }
        self.last_unknown = unknown.then_some(span.end);
    }

    /// Reads the here-documents of a line that may hold some; `None` when that failed.
    fn bodies(&mut self, line: &Line<'_>) -> Option<Vec<Body<'a>>> {
        let mut bodies = Vec::new();
        for word in words::raw_words(&line.text) {
            let span = line.span_of(word.range.clone());
            let marker = match heredoc::marker(&word.text) {
                Ok(None) => continue,
                Ok(Some(marker)) => marker,
                Err(error) => {
                    self.error(error.to_string(), span, "bad here-document marker");
                    return None;
                }
            };
            if bodies.len() == MAX_HEREDOCS {
                self.error(format!("more than {MAX_HEREDOCS} here-documents"), span, "one too many");
                return None;
            }
            let text = self.body(&marker, span)?;
            bodies.push(Body { marker, range: word.range, text });
        }
        Some(bodies)
    }

    fn body(&mut self, marker: &Marker, span: Span) -> Option<&'a str> {
        let terminator = Terminator { name: &marker.name, tabs: marker.chomp };
        let body = self.reader.heredoc(&terminator);
        if body.is_none() {
            let name = super::excerpt(&marker.name);
            let error = Diagnostic::error("unterminated heredoc").at(self.source, span, "begins here");
            self.errors.push(error.help(format!("end it with a line that holds `{name}` and nothing else")));
        }
        body
    }
}

/// The keyword of an instruction whose marker had no effect, for the errors that its text then causes.
fn markers_refused(header: &Header<'_>, keyword: Option<Keyword>) -> Option<String> {
    let text = header.arguments.text;
    let takes_none = keyword.is_some_and(|keyword| !keyword.takes_heredocs());
    let marked = |word: &str| matches!(heredoc::marker(word), Ok(Some(_)));
    (takes_none && text.contains('<') && text.split_whitespace().any(marked))
        .then(|| header.keyword.text.to_uppercase())
}

#[cfg(test)]
mod tests;
