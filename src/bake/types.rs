//! Types as they are written: `string`, `list(number)`, `object({a = string, b = optional(bool)})`.

use std::collections::{BTreeMap, BTreeSet};

use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, ObjectKey};

use super::body::Expr;
use super::fault::{Place, Result, did_you_mean, with_help};
use super::value::Type;

const WORDS: [&str; 10] =
    ["any", "bool", "string", "number", "list", "set", "map", "tuple", "object", "optional"];

/// The type that an attribute of either syntax names.
pub(super) fn of(expr: &Expr) -> Result<Type> {
    let (native, place) = expr.native()?;
    read(&native, &place)
}

/// Reads a type.
pub(super) fn read(expr: &Expression, place: &Place) -> Result<Type> {
    let unknown = |word: &str| {
        let fault = place.fault(expr.span(), format!("`{word}` is no type"), "unknown");
        with_help(fault, did_you_mean(word, WORDS))
    };
    match expr {
        Expression::Variable(word) => match word.as_str() {
            "any" => Ok(Type::Any),
            "bool" => Ok(Type::Bool),
            "string" => Ok(Type::Text),
            "number" => Ok(Type::Number),
            word @ ("list" | "set" | "map") => {
                let fault =
                    place.fault(expr.span(), format!("`{word}` has to say of what it is"), "of what?");
                Err(Box::new(fault.help(format!("write `{word}(string)`, for example"))))
            }
            word @ ("tuple" | "object") => {
                Err(place.fault(expr.span(), format!("`{word}` has to say what is in it"), "of what?"))
            }
            word => Err(unknown(word)),
        },
        Expression::Parenthesis(inner) => read(inner.inner(), place),
        Expression::FuncCall(call) => {
            let word = call.name.name.as_str();
            let args: Vec<&Expression> = call.args.iter().collect();
            let [only] = args.as_slice() else {
                return Err(place.fault(expr.span(), format!("`{word}` takes one argument"), "here"));
            };
            match word {
                "list" => Ok(Type::List(Box::new(read(only, place)?))),
                "set" => Ok(Type::Set(Box::new(read(only, place)?))),
                "map" => Ok(Type::Map(Box::new(read(only, place)?))),
                "tuple" => {
                    let elements = only.as_array().ok_or_else(|| {
                        place.fault(only.span(), "`tuple` takes a list of types in brackets", "not that")
                    })?;
                    let types = elements.iter().map(|one| read(one, place));
                    Ok(Type::Tuple(types.collect::<Result<_>>()?))
                }
                "object" => read_object(only, place),
                "optional" => {
                    let message = "`optional` is for attributes of `object`";
                    Err(place.fault(expr.span(), message, "not here"))
                }
                word => Err(unknown(word)),
            }
        }
        _ => Err(place.fault(expr.span(), "a type is required here", "no type")),
    }
}

fn read_object(expr: &Expression, place: &Place) -> Result<Type> {
    let object = expr.as_object().ok_or_else(|| {
        place.fault(expr.span(), "`object` takes names with their types in braces", "not that")
    })?;
    let (mut attributes, mut optional) = (BTreeMap::new(), BTreeSet::new());
    for (key, value) in object.iter() {
        let name = match key {
            ObjectKey::Ident(name) => name.to_string(),
            ObjectKey::Expression(Expression::String(name)) => name.value().clone(),
            ObjectKey::Expression(Expression::Variable(name)) => name.to_string(),
            ObjectKey::Expression(other) => {
                return Err(place.fault(other.span(), "an attribute of `object` has a name", "no name"));
            }
        };
        let of = match value.expr() {
            Expression::FuncCall(call) if call.name.name.as_str() == "optional" => {
                let args: Vec<&Expression> = call.args.iter().collect();
                let [only] = args.as_slice() else {
                    return Err(place.fault(call.span(), "`optional` takes one type", "here"));
                };
                optional.insert(name.clone());
                read(only, place)?
            }
            other => read(other, place)?,
        };
        attributes.insert(name, of);
    }
    Ok(Type::Object(attributes, optional))
}
