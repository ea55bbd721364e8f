//! Variables: what they are by default, what the command line and the environment say, and whether that is allowed.

use super::super::body::Expr;
use super::super::convert::convert;
use super::super::eval::Frame;
use super::super::fault::Result;
use super::super::types;
use super::super::value::{Type, Value};
use super::super::{Variable, value};
use super::Module;
use super::overrides::from_text;
use crate::report::Diagnostic;

const FIELDS: [&str; 3] = ["type", "default", "description"];
const RULE_FIELDS: [&str; 2] = ["condition", "error_message"];

impl Module {
    /// The value of a variable or of an attribute outside of all blocks.
    pub(in super::super) fn global(&self, name: &str) -> Result<Option<Value>> {
        if let Some(text) = self.given.built_in.get(name) {
            return Ok(Some(Value::text(text)));
        }
        if let Some(value) = self.values.borrow().get(name) {
            return Ok(Some(value.clone()));
        }
        let attribute = self.attributes.get(name).map(|attribute| attribute.value.clone());
        let declared = self.variables.get(name);
        let default = attribute
            .clone()
            .or_else(|| declared?.body.attribute("default").map(|attribute| attribute.value.clone()));
        if attribute.is_none() && declared.is_none() {
            return Ok(None);
        }
        self.begin(name, default.as_ref())?;
        let value = self.value_of(name, default.as_ref(), attribute.is_some());
        self.under_way.borrow_mut().pop();
        let value = value?;
        self.values.borrow_mut().insert(name.to_owned(), value.clone());
        Ok(Some(value))
    }

    /// Notes that a value is being found; it cannot need itself.
    fn begin(&self, name: &str, default: Option<&Expr>) -> Result<()> {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(from) = under_way.iter().position(|(known, _)| known == name) {
            let cycle = under_way[from..].iter().map(|(name, _)| name.as_str());
            let cycle: Vec<&str> = cycle.chain([name]).collect();
            let message = format!("the variable `{name}` needs itself: {}", cycle.join(" → "));
            let fault = under_way[from].1.fault(message, "its value");
            return Err(fault);
        }
        if let Some(default) = default {
            under_way.push((name.to_owned(), default.clone()));
        } else if let Some(block) = self.variables.get(name) {
            // Without a default it needs nothing; the place is never shown.
            let node = super::super::json::Node { value: super::super::json::Json::Null, span: block.head };
            let source = std::sync::Arc::clone(&block.source);
            under_way.push((name.to_owned(), Expr::Json(std::sync::Arc::new(node), source)));
        }
        Ok(())
    }

    fn value_of(&self, name: &str, default: Option<&Expr>, is_attribute: bool) -> Result<Value> {
        let declared = self.variables.get(name);
        let written = declared.filter(|_| !is_attribute).and_then(|block| block.body.attribute("type"));
        let wanted = match written {
            Some(written) => types::of(&written.value)?,
            None => Type::Any,
        };
        if written.is_some() {
            self.types.borrow_mut().insert(name.to_owned(), wanted.clone());
        }
        let given = declared.and_then(|_| self.given_for(name, written.is_some()));
        let value = match default {
            None if given.is_none() && written.is_some() => return Ok(Value::Null(wanted)),
            None if given.is_none() => return Ok(Value::text("")),
            None => None,
            Some(default) => {
                let value = self.evaluate(default, &Frame::TOP)?;
                let fits = convert(&value, &wanted);
                Some(fits.map_err(|why| {
                    let message = format!("the default of the variable `{name}` is not of its type: {why}");
                    default.fault(message, value.kind())
                })?)
            }
        };
        let Some(given) = given else { return Ok(value.unwrap_or(Value::NULL)) };
        from_text(&given, written.map(|_| &wanted), value.as_ref()).map_err(|why| {
            let from = given.from;
            let fault =
                Diagnostic::error(format!("{from} gives the variable `{name}` no value of its type: {why}"));
            match declared {
                Some(block) => Box::new(fault.at(&block.source, block.head, "declared here")),
                None => Box::new(fault),
            }
        })
    }

    pub(in super::super) fn global_names(&self) -> Vec<String> {
        self.variables
            .keys()
            .chain(self.attributes.keys())
            .chain(self.given.built_in.keys())
            .cloned()
            .collect()
    }

    /// Finds the values of all variables, and whether their rules allow them.
    pub(in super::super) fn variables(&self) -> Result<Vec<Variable>> {
        let mut all = Vec::new();
        for (name, block) in &self.variables {
            self.check_fields(name);
            let found = self.global(name)?.unwrap_or(Value::NULL);
            let description = match block.body.attribute("description") {
                Some(attribute) => {
                    self.evaluate_as(&attribute.value, &Type::Text, "the description", &Frame::TOP)?
                }
                None => Value::NULL,
            };
            let description =
                if let Value::Text(text) = description { text.to_string() } else { String::new() };
            // An attribute goes before a variable of its name, and has no type.
            let of = self.types.borrow().get(name).cloned();
            let shown = match &found {
                Value::Null(_) => None,
                Value::Text(text) => Some(text.to_string()),
                value => Some(value.json()),
            };
            let value = shown.map(|text| match of {
                Some(Type::Text) => value::json_text(&text).trim_matches('"').to_owned(),
                _ => text,
            });
            all.push(Variable { name: name.clone(), description, of: of.as_ref().map(Type::listed), value });
        }
        self.check_rules()?;
        for name in self.attributes.keys() {
            self.global(name)?;
        }
        Ok(all)
    }

    fn check_fields(&self, name: &str) {
        let Some(block) = self.variables.get(name) else { return };
        for attribute in &block.body.attributes {
            if !FIELDS.contains(&attribute.name.as_str()) {
                self.unknown(block, &attribute.name, attribute.name_span, "field of a variable", &FIELDS);
            }
        }
        for inner in &block.body.blocks {
            if inner.kind != "validation" {
                self.unknown(inner, &inner.kind, inner.head, "block of a variable", &["validation"]);
            }
            for attribute in &inner.body.attributes {
                if inner.kind == "validation" && !RULE_FIELDS.contains(&attribute.name.as_str()) {
                    let what = "field of a validation";
                    self.unknown(inner, &attribute.name, attribute.name_span, what, &RULE_FIELDS);
                }
            }
        }
    }

    fn check_rules(&self) -> Result<()> {
        for (name, block) in &self.variables {
            for rule in block.body.blocks.iter().filter(|inner| inner.kind == "validation") {
                let field = |field: &str| {
                    rule.body.attribute(field).map(|attribute| &attribute.value).ok_or_else(|| {
                        let message = format!("a validation of the variable `{name}` has no `{field}`");
                        Box::new(Diagnostic::error(message).at(&rule.source, rule.head, "here"))
                    })
                };
                let (condition, message) = (field("condition")?, field("error_message")?);
                match self.evaluate_as(condition, &Type::Bool, "a condition has to be a bool", &Frame::TOP)? {
                    Value::Bool(true) => {}
                    Value::Bool(false) => {
                        let message = self.evaluate_as(message, &Type::Text, "the message", &Frame::TOP)?;
                        let message = match message {
                            Value::Text(text) => text.to_string(),
                            _ => format!("the variable `{name}` has a value that is not allowed"),
                        };
                        let fault = condition.fault(message, "this does not hold");
                        let now = self.global(name)?.map(|value| value.json()).unwrap_or_default();
                        let shown = crate::text::terminal::cut(&now, 200).into_owned();
                        return Err(Box::new(fault.note(format!("the variable `{name}` is {shown}"))));
                    }
                    _ => return Err(condition.fault("a condition cannot be null", "null")),
                }
            }
        }
        Ok(())
    }
}
