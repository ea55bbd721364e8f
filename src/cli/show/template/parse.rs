//! Pieces to nodes.

use super::lexer::{self, Piece, Token};
use super::{Node, Operand, Pipeline, TemplateError};

/// Nested deeper than this is no template that a person wrote.
const DEPTH_LIMIT: usize = 50;

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let pieces = lexer::pieces(text)?;
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0 };
    match parser.nodes()? {
        (nodes, Stop::End) => Ok(nodes),
        (_, stop) => Err(error(format!("`{}` without `if`, `range` or `with`", stop.word()))),
    }
}

fn error(text: impl Into<String>) -> TemplateError {
    TemplateError(text.into())
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

/// What ended a list of nodes.
enum Stop {
    End,
    Closed,
    Else,
    ElseIf(Pipeline),
}

impl Stop {
    fn word(&self) -> &'static str {
        match self {
            Stop::End | Stop::Closed => "end",
            Stop::Else | Stop::ElseIf(_) => "else",
        }
    }
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            if action.starts_with("/*") {
                continue;
            }
            let words = lexer::words(&action)?;
            match words.split_first() {
                Some((Token::Word(word), rest)) => match (word.as_str(), rest) {
                    ("end", []) => return Ok((nodes, Stop::Closed)),
                    ("else", []) => return Ok((nodes, Stop::Else)),
                    ("else", [Token::Word(word), condition @ ..]) if word == "if" => {
                        return Ok((nodes, Stop::ElseIf(pipeline(condition)?)));
                    }
                    ("if" | "range" | "with", rest) => nodes.push(self.block(word, pipeline(rest)?)?),
                    ("define" | "template" | "block" | "break" | "continue", _) => {
                        return Err(error(format!("`{word}` is not supported in templates")));
                    }
                    _ => nodes.push(Node::Print(pipeline(&words)?)),
                },
                Some(_) => nodes.push(Node::Print(pipeline(&words)?)),
                None => return Err(error("there is nothing between `{{` and `}}`")),
            }
        }
        Ok((nodes, Stop::End))
    }

    fn block(&mut self, word: &str, head: Pipeline) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(error("the template is nested too deeply"));
        }
        let unclosed = || error(format!("`{word}` has no `end`"));
        let (body, stop) = self.nodes()?;
        let otherwise = match stop {
            Stop::End => return Err(unclosed()),
            Stop::Closed => Vec::new(),
            // The inner `if` takes the `end` that closes both.
            Stop::ElseIf(condition) => vec![self.block("if", condition)?],
            Stop::Else => match self.nodes()? {
                (nodes, Stop::Closed) => nodes,
                (_, Stop::End) => return Err(unclosed()),
                _ => return Err(error(format!("`{word}` has two `else`"))),
            },
        };
        self.depth -= 1;
        Ok(match word {
            "if" => Node::If { condition: head, then: body, otherwise },
            "range" => Node::Range { over: head, body, otherwise },
            _ => Node::With { value: head, body, otherwise },
        })
    }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, TemplateError> {
    let mut tokens = tokens.iter().cloned();
    match pipeline_until_closed(&mut tokens, 0)? {
        (pipeline, None) => Ok(pipeline),
        (_, Some(_)) => Err(error("there is a `)` too many in the template")),
    }
}

/// A pipeline, and the fields behind the `)` that ended it.
fn pipeline_until_closed(
    tokens: &mut impl Iterator<Item = Token>,
    depth: usize,
) -> Result<(Pipeline, Option<Vec<String>>), TemplateError> {
    let mut commands = vec![Vec::new()];
    let mut closed = None;
    while let Some(token) = tokens.next() {
        let command = commands.last_mut().expect("there is one from the beginning");
        match token {
            Token::Field(names) => command.push(Operand::Field(names)),
            Token::Root(names) => command.push(Operand::Root(names)),
            Token::Literal(value) => command.push(Operand::Literal(value)),
            Token::Word(name) => command.push(Operand::Function(name)),
            Token::Pipe => commands.push(Vec::new()),
            Token::Open if depth >= DEPTH_LIMIT => return Err(error("the template is nested too deeply")),
            Token::Open => match boxed(tokens, depth + 1)? {
                (inner, Some(names)) => command.push(Operand::Nested(inner, names)),
                (_, None) => return Err(error("a `(` in the template is not closed")),
            },
            Token::Close(names) => {
                closed = Some(names);
                break;
            }
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err(error("a command is missing in the template, beside `|` or in `{{ }}`"));
    }
    Ok((Pipeline(commands), closed))
}

/// Calls [`pipeline_until_closed`] behind a `dyn`, since the type of a recursive generic call would not end.
fn boxed(
    tokens: &mut impl Iterator<Item = Token>,
    depth: usize,
) -> Result<(Pipeline, Option<Vec<String>>), TemplateError> {
    let mut tokens: &mut dyn Iterator<Item = Token> = tokens;
    pipeline_until_closed(&mut tokens, depth)
}
