//! Rows of a command that lists something: as a table, as JSON, or by a template.

use serde_json::Value;

use super::template::{Template, TemplateError};
use crate::cli::Failure;
use crate::report::Diagnostic;
use crate::text::terminal::{harmless, harmless_json};

/// What `--format` asks for.
#[derive(Debug)]
pub(in crate::cli) enum Format {
    /// The command's own table.
    Table,
    /// `table TEMPLATE`: a heading, and columns between tabs.
    Columns(Template),
    /// One JSON object on each line.
    Json,
    /// The template for each row, a line each.
    Lines(Template),
}

impl Format {
    /// `table`, `json`, `table TEMPLATE` or a template, as docker has it.
    pub(in crate::cli) fn parse(text: Option<&str>) -> Result<Self, Failure> {
        let template = |text: &str| Template::parse(text).map_err(bad);
        match text {
            None | Some("" | "table") => Ok(Format::Table),
            Some("json") => Ok(Format::Json),
            Some(text) => match text.strip_prefix("table ") {
                Some(columns) => template(columns.trim_start()).map(Format::Columns),
                None if text.contains("{{") => template(text).map(Format::Lines),
                None => Err(Failure::usage(
                    Diagnostic::error(format!("`{text}` is no value for --format"))
                        .help("it is table, json, or a template such as '{{.ID}}'"),
                )),
            },
        }
    }

    /// The text for `rows`, objects of the same fields. `columns` are the titles and fields of the own table; the
    /// first row of the result is a heading in tables only.
    pub(in crate::cli) fn render(&self, columns: &[(&str, &str)], rows: &[Value]) -> Result<String, Failure> {
        let cell = |row: &Value, field: &str| {
            row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned)
        };
        match self {
            Format::Table => {
                let heading = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
                let cells =
                    rows.iter().map(|row| columns.iter().map(|(_, field)| cell(row, field)).collect());
                Ok(table(&std::iter::once(heading).chain(cells).collect::<Vec<_>>()))
            }
            Format::Json => Ok(rows.iter().map(|row| harmless_json(row.to_string()) + "\n").collect()),
            Format::Lines(template) => {
                rows.iter().map(|row| Ok(template.render(row).map_err(bad)? + "\n")).collect()
            }
            Format::Columns(template) => {
                let heading = rows.first().map(headings).unwrap_or_default();
                let lines = rows.iter().chain(&heading).map(|row| template.render(row).map_err(bad));
                let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
                let split = |line: &String| line.split('\t').map(str::to_owned).collect();
                let mut cells: Vec<Vec<String>> = lines.iter().map(split).collect();
                cells.rotate_right(heading.iter().len());
                Ok(table(&cells))
            }
        }
    }
}

/// A row that has the fields' own names in capitals: `CreatedSince` is `CREATED SINCE`.
fn headings(row: &Value) -> Option<Value> {
    let title = |name: &str| {
        let mut title = String::new();
        for (at, c) in name.char_indices() {
            let after_small = at > 0 && name[..at].ends_with(|c: char| c.is_lowercase());
            if c.is_uppercase() && after_small {
                title.push(' ');
            }
            title.extend(c.to_uppercase());
        }
        Value::String(title)
    };
    let fields = row.as_object()?;
    Some(Value::Object(fields.keys().map(|name| (name.clone(), title(name))).collect()))
}

/// A template that does not parse or does not fit is wrong usage.
#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
pub(in crate::cli) fn bad(error: TemplateError) -> Failure {
    Failure::usage(Diagnostic::error(format!("bad value for --format: {error}")))
}

/// Columns padded to their widest cell, two blanks between them.
/// What a cell shows: a name of others' with a line break in it is no further row.
fn in_line(cell: &str) -> String {
    harmless(cell).replace('\n', "\u{fffd}")
}

pub(in crate::cli) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", in_line(cell))).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_cell_is_one_line() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(&[row(["NAME", "VERSION"]), row(["a", "1\n2  x"])]);
        assert_eq!(text, "NAME  VERSION\na     1\u{fffd}2  x\n");
    }
}
