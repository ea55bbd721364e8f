//! `a.b`, `a[0]`, `a[*].b`.

use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, Traversal, TraversalOperator};

use super::super::convert::{convert, text_of};
use super::super::fault::{Place, Result, did_you_mean, with_help};
use super::super::module::Module;
use super::super::value::{Type, Value};
use super::Frame;

type Operators<'o> = &'o [hcl_edit::Decorated<TraversalOperator>];

impl Module {
    pub(super) fn eval_traversal(
        &self,
        traversal: &Traversal,
        place: &Place,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        let operators = traversal.operators.as_slice();
        if let Expression::Variable(root) = &traversal.expr
            && Self::is_block_kind(root.value())
            && frame.get(root.value()).is_none()
        {
            return self.eval_block_field(root.value(), traversal, place, frame);
        }
        let value = self.eval(&traversal.expr, place, frame)?;
        self.apply(value, operators, place, frame)
    }

    /// `target.NAME.FIELD`: that field alone is evaluated.
    fn eval_block_field(
        &self,
        kind: &str,
        traversal: &Traversal,
        place: &Place,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        let operators = traversal.operators.as_slice();
        let first = operators.first().map(hcl_edit::Decorated::value);
        let Some(TraversalOperator::GetAttr(name)) = first else {
            let fault =
                place.fault(traversal.span(), format!("a {kind} is named by `{kind}.NAME`"), "not so");
            return Err(fault);
        };
        let field = match operators.get(1).map(hcl_edit::Decorated::value) {
            Some(TraversalOperator::GetAttr(field)) => Some(field.as_str()),
            _ => None,
        };
        let block = self.block_value(kind, name.as_str(), field, &|| (place.clone(), traversal.span()))?;
        self.apply(block, &operators[1..], place, frame)
    }

    fn apply(
        &self,
        mut value: Value,
        operators: Operators<'_>,
        place: &Place,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        for (at, operator) in operators.iter().enumerate() {
            let range = operator.span();
            value = match operator.value() {
                TraversalOperator::GetAttr(name) => attribute(&value, name.as_str())
                    .map_err(|(message, help)| with_help(place.fault(range, message, value.kind()), help))?,
                TraversalOperator::LegacyIndex(index) => {
                    let index = Value::whole(i128::from(*index.value()));
                    element(&value, &index).map_err(|message| place.fault(range, message, value.kind()))?
                }
                TraversalOperator::Index(expr) => {
                    let index = self.eval(expr, place, frame)?;
                    element(&value, &index)
                        .map_err(|message| place.fault(expr.span(), message, value.kind()))?
                }
                TraversalOperator::AttrSplat(_) => {
                    let is_attribute = |operator: &hcl_edit::Decorated<TraversalOperator>| {
                        matches!(operator.value(), TraversalOperator::GetAttr(_))
                    };
                    let rest = &operators[at + 1..];
                    let own = rest.iter().position(|next| !is_attribute(next)).unwrap_or(rest.len());
                    let all = self.splat(&value, &rest[..own], place, frame)?;
                    return self.apply(all, &rest[own..], place, frame);
                }
                TraversalOperator::FullSplat(_) => {
                    return self.splat(&value, &operators[at + 1..], place, frame);
                }
            };
        }
        Ok(value)
    }

    /// The same of each element; what is no sequence is one of a single element, and null of none.
    fn splat(
        &self,
        value: &Value,
        operators: Operators<'_>,
        place: &Place,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        let single = std::slice::from_ref(value);
        let elements = match value {
            Value::Null(_) => &[],
            value => value.elements().unwrap_or(single),
        };
        let mut all = Vec::with_capacity(elements.len());
        for one in elements {
            self.charge(1, place, None)?;
            all.push(self.apply(one.clone(), operators, place, frame)?);
        }
        let result = Value::tuple(all);
        Ok(match value {
            Value::List(..) | Value::Set(..) => {
                convert(&result, &Type::List(Box::new(Type::Any))).unwrap_or(result)
            }
            _ => result,
        })
    }
}

/// The attribute of an object, or the element of a map.
fn attribute(value: &Value, name: &str) -> std::result::Result<Value, (String, Option<String>)> {
    match (value, value.entries()) {
        (_, Some(entries)) => entries.get(name).cloned().ok_or_else(|| {
            let what = if matches!(value, Value::Map(..)) { "element" } else { "attribute" };
            (format!("there is no {what} `{name}`"), did_you_mean(name, entries.keys().map(String::as_str)))
        }),
        (Value::Null(_), None) => Err((format!("null has no attribute `{name}`"), None)),
        (other, None) => Err((format!("{} has no attributes", other.kind()), None)),
    }
}

/// The element at an index, or under a key.
pub(in super::super) fn element(value: &Value, index: &Value) -> std::result::Result<Value, String> {
    if index.is_null() {
        return Err("an index cannot be null".to_owned());
    }
    match value {
        Value::List(_, elements) | Value::Tuple(elements) => {
            let wrong = |why: String| format!("an index has to be a number: {why}");
            let Value::Number(number) = convert(index, &Type::Number).map_err(wrong)? else {
                return Err("an index cannot be null".to_owned());
            };
            let at = number.whole().and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| elements.get(at).cloned()).ok_or_else(|| match elements.len() {
                0 => format!("there is no element {number}: there are none at all"),
                count => format!("there is no element {number}: there are {count}, counted from 0"),
            })
        }
        Value::Map(_, entries) | Value::Object(entries) => {
            let key = text_of(index).map_err(|why| format!("a key has to be a string: {why}"))?;
            entries.get(&*key).cloned().ok_or_else(|| {
                let near = did_you_mean(&key, entries.keys().map(String::as_str));
                let near = near.map(|near| format!(" ({near})")).unwrap_or_default();
                format!("there is no element `{key}`{near}")
            })
        }
        Value::Null(_) => Err("null has no elements".to_owned()),
        Value::Set(..) => Err("the elements of a set have no index".to_owned()),
        other => Err(format!("{} has no elements", other.kind())),
    }
}
