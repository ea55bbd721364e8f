//! Nodes and a value to text, as Go prints values.

use serde_json::Value;

use super::{Node, Operand, Pipeline, TemplateError, functions};

/// What names mean.
#[derive(Clone, Copy)]
pub(super) struct Scope<'v> {
    /// `$`
    pub(super) root: &'v Value,
    /// `.`
    pub(super) dot: &'v Value,
}

impl Scope<'_> {
    pub(super) fn nodes(&self, nodes: &[Node], out: &mut String) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Print(pipeline) => out.push_str(&shown(&self.pipeline(pipeline)?)),
                Node::If { condition, then, otherwise } => {
                    let holds = is_true(&self.pipeline(condition)?);
                    self.nodes(if holds { then } else { otherwise }, out)?;
                }
                Node::With { value, body, otherwise } => match self.pipeline(value)? {
                    dot if is_true(&dot) => Scope { root: self.root, dot: &dot }.nodes(body, out)?,
                    _ => self.nodes(otherwise, out)?,
                },
                Node::Range { over, body, otherwise } => {
                    let items = match self.pipeline(over)? {
                        Value::Array(items) => items,
                        Value::Object(map) => map.into_iter().map(|(_, value)| value).collect(),
                        Value::Null => Vec::new(),
                        other => return Err(TemplateError(format!("`range` cannot go over `{other}`"))),
                    };
                    for dot in &items {
                        Scope { root: self.root, dot }.nodes(body, out)?;
                    }
                    if items.is_empty() {
                        self.nodes(otherwise, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn pipeline(&self, Pipeline(commands): &Pipeline) -> Result<Value, TemplateError> {
        let mut last: Option<Value> = None;
        for command in commands {
            last = Some(self.command(command, last)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(&self, words: &[Operand], piped: Option<Value>) -> Result<Value, TemplateError> {
        let (first, rest) = words.split_first().expect("the parser refuses empty commands");
        if let Operand::Function(name) = first {
            let arguments = rest.iter().map(|word| self.operand(word)).chain(piped.map(Ok));
            return functions::call(name, &arguments.collect::<Result<Vec<_>, _>>()?);
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(first);
        }
        Err(TemplateError("only a function can have arguments; write `FUNCTION ARGUMENT…`".to_owned()))
    }

    fn operand(&self, operand: &Operand) -> Result<Value, TemplateError> {
        match operand {
            Operand::Field(names) => self.field(self.dot, names),
            Operand::Root(names) => self.field(self.root, names),
            Operand::Nested(pipeline, names) => self.field(&self.pipeline(pipeline)?, names),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => functions::call(name, &[]),
        }
    }

    fn field(&self, from: &Value, names: &[String]) -> Result<Value, TemplateError> {
        let mut value = from;
        for name in names {
            value = match value {
                Value::Object(map) => match map.get(name) {
                    Some(value) => value,
                    None if std::ptr::eq(value, self.root) => return Err(no_field(name, map)),
                    None => &Value::Null,
                },
                Value::Null => &Value::Null,
                _ => return Err(TemplateError(format!("`{}` has no field `{name}`", shown(value)))),
            };
        }
        Ok(value.clone())
    }
}

fn no_field(name: &str, map: &serde_json::Map<String, Value>) -> TemplateError {
    let near = crate::text::closest(name, map.keys().map(String::as_str));
    TemplateError(match near {
        Some(near) => format!("there is no field `{name}`; did you mean `{near}`?"),
        None => {
            let mut names: Vec<&str> = map.keys().map(String::as_str).collect();
            names.sort_unstable();
            format!("there is no field `{name}`; there are {}", names.join(", "))
        }
    })
}

/// What Go takes for true: everything but the empty value of each type.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go's `%v` prints it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", shown(v))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}
