//! Templates of `--format`: the part of Go's `text/template` that docker's users write.
//!
//! Fields, pipelines, `if`, `range`, `with`, and docker's functions. Variables, definitions and blocks are not there;
//! they are refused by name.

mod eval;
mod functions;
mod lexer;
mod parse;

use serde_json::Value;

/// A template that parses.
#[derive(Debug)]
pub(in crate::cli) struct Template {
    nodes: Vec<Node>,
}

/// Why a template is none, or does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct TemplateError(String);

/// A piece of a template.
#[derive(Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// `a | b | c`: each command gets what stands before it as its last argument.
#[derive(Debug)]
struct Pipeline(Vec<Vec<Operand>>);

/// One word of a command.
#[derive(Debug)]
enum Operand {
    /// `.A.B`; no names for `.` itself.
    Field(Vec<String>),
    /// `$.A.B`
    Root(Vec<String>),
    /// `(…).A`
    Nested(Pipeline, Vec<String>),
    Literal(Value),
    Function(String),
}

impl Template {
    /// Reads a template. As docker has it, `\t` and `\n` outside of actions mean a tab and a line break.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { nodes: parse::parse(text)? })
    }

    /// The text for one value. A field that the value does not have is an error that lists those that it has; below
    /// the first level it is `<no value>`, since maps differ from image to image.
    pub(in crate::cli) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        eval::Scope { root: value, dot: value }.nodes(&self.nodes, &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn rendered(text: &str) -> String {
        let value = json!({
            "Name": "app", "Size": 12, "Tags": ["a:1", "b:2"], "None": [],
            "Config": {"Env": ["A=1"], "Labels": {"x.y": "z"}, "User": ""}, "Null": null,
        });
        match Template::parse(text).and_then(|template| template.render(&value)) {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn what_docker_users_write() {
        for (template, expected) in [
            ("{{.Name}}:{{ .Size }}", "app:12"),
            ("{{.Name}}\\t{{.Size}}\\n", "app\t12\n"),
            (
                "{{json .}}",
                r#"{"Name":"app","Size":12,"Tags":["a:1","b:2"],"None":[],"Config":{"Env":["A=1"],"Labels":{"x.y":"z"},"User":""},"Null":null}"#,
            ),
            ("{{json .Config.Env}}", r#"["A=1"]"#),
            ("{{.Config.Env}}", "[A=1]"),
            ("{{.Config.Labels}}", "map[x.y:z]"),
            (r#"{{index .Config.Labels "x.y"}}"#, "z"),
            ("{{index .Tags 1}}", "b:2"),
            ("{{(index .Tags 0)}}", "a:1"),
            ("{{range .Tags}}<{{.}} of {{$.Name}}>{{end}}", "<a:1 of app><b:2 of app>"),
            ("{{range .None}}x{{else}}none{{end}}", "none"),
            ("{{if .Config.User}}u{{else if .Size}}s{{else}}n{{end}}", "s"),
            ("{{with .Config}}{{.Env}}{{end}}", "[A=1]"),
            (r#"{{join .Tags ", "}}"#, "a:1, b:2"),
            ("{{.Name | upper}} {{len .Tags}}", "APP 2"),
            (r#"{{printf "%s-%d-%q %v" .Name .Size .Name .Tags}}"#, "app-12-\"app\" [a:1 b:2]"),
            (r#"{{if and (eq .Name "app") (not .Null)}}yes{{end}}"#, "yes"),
            ("a {{- .Name -}} b", "aappb"),
            ("{{/* nothing */}}x", "x"),
            ("{{.Config.Missing}}", "<no value>"),
            ("{{println .Name}}", "app\n"),
            (r"{{`a\b`}}", r"a\b"),
            (r#"{{split "a,b" ","}} {{truncate .Name 2}} {{pad .Name 1 2}}|"#, "[a b] ap  app  |"),
        ] {
            assert_eq!(rendered(template), expected, "{template}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (template, expected) in [
            ("{{.Nam}}", "there is no field `Nam`; did you mean `Name`?"),
            ("{{.Zzz}}", "there is no field `Zzz`; there are Config, Name, None, Null, Size, Tags"),
            ("{{foo .}}", "there is no function `foo`"),
            ("{{.Name", "`{{` is not closed"),
            ("{{if .Name}}", "`if` has no `end`"),
            ("{{end}}", "`end` without"),
            ("{{}}", "nothing between"),
            ("{{$x := 1}}", "variables"),
            ("{{define \"x\"}}{{end}}", "`define`"),
            ("{{index .Tags 7}}", "has no element 7"),
            ("{{\"a}}", "quotation mark"),
        ] {
            let text = rendered(template);
            assert!(text.starts_with("error: ") && text.contains(expected), "{template}: {text}");
        }
    }
}
