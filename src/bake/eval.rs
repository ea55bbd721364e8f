//! Evaluates expressions.
//!
//! Everything is evaluated when it is asked for and then once; nothing is run, read or fetched by an expression.

mod calls;
mod operators;
mod template;
mod traverse;

use std::collections::BTreeMap;
use std::ops::Range;

use hcl_edit::Span as _;
pub(super) use traverse::element;

use hcl_edit::expr::{Array, Conditional, Expression, ForExpr, Object, ObjectKey};

use super::body::{Expr, text_place};
use super::convert::{convert, text_of, unify};
use super::fault::{Place, Result};
use super::json::{Json, Node};
use super::module::Module;
use super::value::{Number, Type, Value};
use crate::report::Diagnostic;

/// Names that mean something in a part of the text: parameters, variables of `for`, those of a matrix.
#[derive(Debug, Default)]
pub(super) struct Frame<'f> {
    names: BTreeMap<String, Value>,
    outer: Option<&'f Frame<'f>>,
}

impl<'f> Frame<'f> {
    /// Nothing but what holds everywhere.
    pub(super) const TOP: Frame<'static> = Frame { names: BTreeMap::new(), outer: None };

    pub(super) fn of(names: BTreeMap<String, Value>) -> Self {
        Self { names, outer: None }
    }

    fn inside(outer: &'f Frame<'f>, names: BTreeMap<String, Value>) -> Self {
        Self { names, outer: Some(outer) }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.names.get(name).or_else(|| self.outer?.get(name))
    }

    fn all(&self) -> Vec<&str> {
        let outer = self.outer.map(Frame::all).unwrap_or_default();
        self.names.keys().map(String::as_str).chain(outer).collect()
    }
}

impl Module {
    /// What an expression of either syntax is.
    pub(super) fn evaluate(&self, expr: &Expr, frame: &Frame<'_>) -> Result<Value> {
        match expr {
            Expr::Native(native, place) => self.eval(native, place, frame),
            Expr::Json(node, source) => self.eval_json(node, source, frame),
        }
    }

    /// As one of `wanted`; `what` names it in messages.
    pub(super) fn evaluate_as(
        &self,
        expr: &Expr,
        wanted: &Type,
        what: &str,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        let value = self.evaluate(expr, frame)?;
        convert(&value, wanted).map_err(|why| expr.fault(format!("{what}: {why}"), value.kind()))
    }

    pub(super) fn charge(&self, units: usize, place: &Place, range: Option<Range<usize>>) -> Result<()> {
        self.limits.charge(units).map_err(|why| place.fault(range, why, "here it was given up"))
    }

    pub(super) fn eval(&self, expr: &Expression, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        self.charge(1, place, expr.span())?;
        let _deeper =
            self.limits.deeper().map_err(|why| place.fault(expr.span(), why, "here it was given up"))?;
        match expr {
            Expression::Null(_) => Ok(Value::NULL),
            Expression::Bool(value) => Ok(Value::Bool(*value.value())),
            Expression::Number(number) => {
                // The text is exact where the parsed number no longer is.
                let written = number.as_repr().map(|repr| repr.to_string().replace([' ', '\t'], ""));
                let parsed = written.as_deref().and_then(Number::parse);
                let parsed = parsed.or_else(|| Number::parse(&number.value().to_string()));
                parsed.map(Value::Number).ok_or_else(|| {
                    place.fault(expr.span(), "this number is too large", "larger than 64-bit floating point")
                })
            }
            Expression::String(text) => Ok(Value::text(text.value())),
            Expression::StringTemplate(template) => self.eval_template(template, false, place, frame),
            Expression::HeredocTemplate(heredoc) => self.eval_template(&heredoc.template, true, place, frame),
            Expression::Parenthesis(inner) => self.eval(inner.inner(), place, frame),
            Expression::Variable(name) => self.variable(name.value(), expr.span(), place, frame),
            Expression::Array(array) => self.eval_array(array, place, frame),
            Expression::Object(object) => self.eval_object(object, place, frame),
            Expression::Conditional(conditional) => self.eval_conditional(conditional, place, frame),
            Expression::FuncCall(call) => self.eval_call(call, place, frame),
            Expression::Traversal(traversal) => self.eval_traversal(traversal, place, frame),
            Expression::UnaryOp(op) => self.eval_unary(op, place, frame),
            Expression::BinaryOp(op) => self.eval_binary(op, place, frame),
            Expression::ForExpr(for_expr) => self.eval_for(for_expr, place, frame),
        }
    }

    fn variable(
        &self,
        name: &str,
        range: Option<Range<usize>>,
        place: &Place,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        if let Some(value) = frame.get(name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.global(name)? {
            return Ok(value);
        }
        if Self::is_block_kind(name) {
            let message = format!("`{name}` alone is no value");
            let fault = place.fault(range, message, "of which?");
            return Err(Box::new(fault.help(format!("write `{name}.NAME.FIELD`"))));
        }
        let fault = place.fault(range, format!("there is no variable `{name}`"), "not declared");
        let names = self.global_names();
        let known = names.iter().map(String::as_str).chain(frame.all());
        let near = super::fault::did_you_mean(name, known);
        let help = near.unwrap_or_else(|| format!("declare it with `variable \"{name}\" {{}}`"));
        Err(Box::new(fault.help(help)))
    }

    fn eval_array(&self, array: &Array, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        let elements = array.iter().map(|one| self.eval(one, place, frame));
        Ok(Value::tuple(elements.collect::<Result<_>>()?))
    }

    fn eval_object(&self, object: &Object, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        let mut attributes = BTreeMap::new();
        for (key, value) in object.iter() {
            let key = match key {
                ObjectKey::Ident(name) => name.to_string(),
                // A bare word in front of `=` is a name, whatever variables there are.
                ObjectKey::Expression(Expression::Variable(name)) => name.to_string(),
                ObjectKey::Expression(expr) => {
                    let key = self.eval(expr, place, frame)?;
                    let text = text_of(&key).map_err(|why| {
                        place.fault(expr.span(), format!("a key has to be a string: {why}"), key.kind())
                    })?;
                    text.to_string()
                }
            };
            attributes.insert(key, self.eval(value.expr(), place, frame)?);
        }
        Ok(Value::object(attributes))
    }

    fn eval_conditional(&self, conditional: &Conditional, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        let range = conditional.cond_expr.span();
        let cond = self.eval(&conditional.cond_expr, place, frame)?;
        let is_true = self.condition(&cond, range, place)?;
        // The result has the type that both have in common; what is wrong with the other does not matter.
        let (chosen, other) = match is_true {
            true => (&conditional.true_expr, &conditional.false_expr),
            false => (&conditional.false_expr, &conditional.true_expr),
        };
        let value = self.eval(chosen, place, frame)?;
        let Ok(other) = self.eval(other, place, frame) else { return Ok(value) };
        let wanted = unify(&[value.type_of(), other.type_of()]).ok_or_else(|| {
            let message = "both results of a condition have to have the same type";
            place.fault(
                conditional.span(),
                message,
                format!("{} and {}", value.type_of().name(), other.type_of().name()),
            )
        })?;
        convert(&value, &wanted).map_err(|why| place.fault(chosen.span(), why, value.kind()))
    }

    /// `value` as the bool that decides something.
    fn condition(&self, value: &Value, range: Option<Range<usize>>, place: &Place) -> Result<bool> {
        match convert(value, &Type::Bool) {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(_) => Err(place.fault(range, "a condition cannot be null", "null")),
            Err(why) => Err(place.fault(range, format!("a condition has to be a bool: {why}"), value.kind())),
        }
    }

    fn eval_for(&self, for_expr: &ForExpr, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        let range = for_expr.intro.collection_expr.span();
        let collection = self.eval(&for_expr.intro.collection_expr, place, frame)?;
        let pairs = collection.pairs().ok_or_else(|| {
            place.fault(range, "`for` goes through lists, sets, maps, tuples and objects", collection.kind())
        })?;
        let (mut elements, mut entries) = (Vec::new(), BTreeMap::<String, Value>::new());
        let mut groups = BTreeMap::<String, Vec<Value>>::new();
        for (key, value) in pairs {
            let mut names = BTreeMap::from([(for_expr.intro.value_var.to_string(), value)]);
            if let Some(name) = &for_expr.intro.key_var {
                names.insert(name.to_string(), key);
            }
            let inner = Frame::inside(frame, names);
            if let Some(cond) = &for_expr.cond {
                let wanted = self.eval(&cond.expr, place, &inner)?;
                if !self.condition(&wanted, cond.expr.span(), place)? {
                    continue;
                }
            }
            let Some(key_expr) = &for_expr.key_expr else {
                elements.push(self.eval(&for_expr.value_expr, place, &inner)?);
                continue;
            };
            let key = self.eval(key_expr, place, &inner)?;
            let key = text_of(&key).map_err(|why| {
                place.fault(key_expr.span(), format!("a key has to be a string: {why}"), key.kind())
            })?;
            let value = self.eval(&for_expr.value_expr, place, &inner)?;
            if for_expr.grouping {
                groups.entry(key.to_string()).or_default().push(value);
            } else if entries.insert(key.to_string(), value).is_some() {
                let fault =
                    place.fault(key_expr.span(), format!("the key `{key}` comes twice"), "not unique");
                return Err(Box::new(fault.help("`...` after the value makes a list for each key")));
            }
        }
        Ok(match (&for_expr.key_expr, for_expr.grouping) {
            (None, _) => Value::tuple(elements),
            (Some(_), false) => Value::object(entries),
            (Some(_), true) => {
                Value::object(groups.into_iter().map(|(key, values)| (key, Value::tuple(values))).collect())
            }
        })
    }

    /// In JSON strings are templates, and so are keys.
    fn eval_json(
        &self,
        node: &Node,
        source: &std::sync::Arc<crate::report::Source>,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        let limits =
            |why: String| Box::new(Diagnostic::error(why).at(source, node.span, "here it was given up"));
        self.limits.charge(1).map_err(limits)?;
        let _deeper = self.limits.deeper().map_err(limits)?;
        match &node.value {
            Json::Null => Ok(Value::NULL),
            Json::Bool(value) => Ok(Value::Bool(*value)),
            Json::Number(text) => Number::parse(text).map(Value::Number).ok_or_else(|| {
                Box::new(Diagnostic::error("this number is too large").at(source, node.span, ""))
            }),
            Json::Text { text, is_plain } => {
                self.eval_text(text, &text_place(source, node.span, *is_plain), frame)
            }
            Json::Array(elements) => {
                let elements = elements.iter().map(|one| self.eval_json(one, source, frame));
                Ok(Value::tuple(elements.collect::<Result<_>>()?))
            }
            Json::Object(properties) => {
                let mut attributes = BTreeMap::new();
                for property in properties {
                    let place = Place::whole(source, property.key_span);
                    let key = self.eval_text(&property.key, &place, frame)?;
                    let key = text_of(&key).map_err(|why| {
                        place.fault(None, format!("a key has to be a string: {why}"), key.kind())
                    })?;
                    attributes.insert(key.to_string(), self.eval_json(&property.value, source, frame)?);
                }
                Ok(Value::object(attributes))
            }
        }
    }
}
