//! Conversions between types, and the one type that several have in common.

use std::collections::BTreeMap;

use super::value::{Number, Type, Value};

/// `value` as one of `wanted`, or why it cannot be, in a clause that follows `…: `.
pub(super) fn convert(value: &Value, wanted: &Type) -> Result<Value, String> {
    if let Value::Null(_) = value {
        return Ok(Value::Null(wanted.clone()));
    }
    match wanted {
        Type::Any => Ok(value.clone()),
        Type::Bool => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::Text(text) => match &**text {
                "true" | "1" => Ok(Value::Bool(true)),
                "false" | "0" => Ok(Value::Bool(false)),
                other => Err(format!("a bool is `true` or `false`, not `{other}`")),
            },
            other => Err(mismatch(other, wanted)),
        },
        Type::Number => match value {
            Value::Number(_) => Ok(value.clone()),
            Value::Text(text) => {
                Number::parse(text).map(Value::Number).ok_or_else(|| format!("`{text}` is no number"))
            }
            other => Err(mismatch(other, wanted)),
        },
        Type::Text => match value {
            Value::Text(_) => Ok(value.clone()),
            Value::Number(number) => Ok(Value::text(number.to_string())),
            Value::Bool(value) => Ok(Value::text(value.to_string())),
            other => Err(mismatch(other, wanted)),
        },
        Type::List(element) => {
            let elements = value.elements().ok_or_else(|| mismatch(value, wanted))?;
            let (element, elements) = all(elements, element)?;
            Ok(Value::list(element, elements))
        }
        Type::Set(element) => {
            let elements = value.elements().ok_or_else(|| mismatch(value, wanted))?;
            let (element, elements) = all(elements, element)?;
            Ok(Value::set(element, elements))
        }
        Type::Map(element) => {
            let entries = value.entries().ok_or_else(|| mismatch(value, wanted))?;
            let element = common(entries.values(), element)?;
            let one = |(key, value): (&String, &Value)| {
                let value = convert(value, &element).map_err(|why| format!("the element `{key}`: {why}"))?;
                Ok::<_, String>((key.clone(), value))
            };
            let entries = entries.iter().map(one).collect::<Result<_, _>>()?;
            Ok(Value::map(element, entries))
        }
        Type::Tuple(types) => {
            let elements = value.elements().ok_or_else(|| mismatch(value, wanted))?;
            if elements.len() != types.len() {
                return Err(format!(
                    "a tuple of {} elements is required, not of {}",
                    types.len(),
                    elements.len()
                ));
            }
            let elements = elements.iter().zip(types).map(|(value, of)| convert(value, of));
            Ok(Value::tuple(elements.collect::<Result<_, _>>()?))
        }
        Type::Object(attributes, optional) => {
            let entries = value.entries().ok_or_else(|| mismatch(value, wanted))?;
            let one = |(name, of): (&String, &Type)| match entries.get(name) {
                Some(value) => {
                    let value = convert(value, of).map_err(|why| format!("the attribute `{name}`: {why}"))?;
                    Ok((name.clone(), value))
                }
                None if optional.contains(name) => Ok((name.clone(), Value::Null(of.clone()))),
                None => Err(format!("the attribute `{name}` is required")),
            };
            Ok(Value::object(attributes.iter().map(one).collect::<Result<BTreeMap<_, _>, String>>()?))
        }
    }
}

/// All of `values` as `element`, which is what they have in common where it is any type.
fn all(values: &[Value], element: &Type) -> Result<(Type, Vec<Value>), String> {
    let element = common(values.iter(), element)?;
    let one = |(at, value): (usize, &Value)| {
        convert(value, &element).map_err(|why| format!("the element {at}: {why}"))
    };
    let values = values.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    Ok((element, values))
}

fn common<'v>(values: impl Iterator<Item = &'v Value>, element: &Type) -> Result<Type, String> {
    match element {
        Type::Any => {
            let types: Vec<Type> = values.map(Value::type_of).collect();
            unify(&types).ok_or_else(|| "all elements have to have the same type".to_owned())
        }
        other => Ok(other.clone()),
    }
}

fn mismatch(value: &Value, wanted: &Type) -> String {
    format!("{} is required, not {}", wanted.name(), value.kind())
}

/// A type that all of `types` can be converted to; none when there is none.
pub(super) fn unify(types: &[Type]) -> Option<Type> {
    let mut rest = types.iter().filter(|of| **of != Type::Any);
    let Some(first) = rest.next() else { return Some(Type::Any) };
    rest.try_fold(first.clone(), |so_far, next| unify_two(&so_far, next))
}

fn unify_two(one: &Type, two: &Type) -> Option<Type> {
    use Type::{Any, Bool, List, Map, Number, Object, Set, Text, Tuple};
    if one == two {
        return Some(one.clone());
    }
    let list = |types: &[Type]| Some(List(Box::new(unify(types)?)));
    match (one, two) {
        (Any, other) | (other, Any) => Some(other.clone()),
        (Text, Number | Bool) | (Number | Bool, Text) => Some(Text),
        (List(one), List(two)) => Some(List(Box::new(unify_two(one, two)?))),
        (Set(one), Set(two)) => Some(Set(Box::new(unify_two(one, two)?))),
        (Map(one), Map(two)) => Some(Map(Box::new(unify_two(one, two)?))),
        (List(of) | Set(of), Tuple(types)) | (Tuple(types), List(of) | Set(of)) => {
            let all: Vec<Type> = types.iter().chain([&**of]).cloned().collect();
            let of = Box::new(unify(&all)?);
            Some(if matches!(one, Set(_)) || matches!(two, Set(_)) { Set(of) } else { List(of) })
        }
        (List(one), Set(two)) | (Set(two), List(one)) => Some(List(Box::new(unify_two(one, two)?))),
        (Tuple(ones), Tuple(twos)) if ones.len() == twos.len() => {
            let each: Option<Vec<Type>> =
                ones.iter().zip(twos).map(|(one, two)| unify_two(one, two)).collect();
            match each {
                Some(types) => Some(Tuple(types)),
                None => list(&[ones.as_slice(), twos].concat()),
            }
        }
        (Tuple(ones), Tuple(twos)) => list(&[ones.as_slice(), twos].concat()),
        (Map(of), Object(attributes, _)) | (Object(attributes, _), Map(of)) => {
            let all: Vec<Type> = attributes.values().chain([&**of]).cloned().collect();
            Some(Map(Box::new(unify(&all)?)))
        }
        (Object(ones, _), Object(twos, _)) => {
            if ones.keys().eq(twos.keys()) {
                let one =
                    |(name, of): (&String, &Type)| Some((name.clone(), unify_two(of, twos.get(name)?)?));
                if let Some(attributes) = ones.iter().map(one).collect::<Option<BTreeMap<_, _>>>() {
                    return Some(Type::object(attributes));
                }
            }
            let all: Vec<Type> = ones.values().chain(twos.values()).cloned().collect();
            Some(Map(Box::new(unify(&all)?)))
        }
        _ => None,
    }
}

/// The text that a value is in a string.
pub(super) fn text_of(value: &Value) -> Result<std::sync::Arc<str>, String> {
    match convert(value, &Type::Text)? {
        Value::Text(text) => Ok(text),
        _ => Err("null is no string".to_owned()),
    }
}
