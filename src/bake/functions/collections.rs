//! Maps and objects, and what works on any collection.

use std::collections::BTreeMap;

use super::{Call, Outcome, at};
use crate::bake::convert::{convert, unify};
use crate::bake::eval::element;
use crate::bake::value::{Number, Type, Value};

pub(super) fn coalesce(call: &Call<'_>) -> Outcome {
    if call.args.is_empty() {
        return Err("it takes at least one value".into());
    }
    let types: Vec<Type> = call.args.iter().map(Value::type_of).collect();
    let Some(wanted) = unify(&types) else {
        return Err("all arguments have to have the same type".into());
    };
    match call.args.iter().find(|one| !one.is_null()) {
        Some(value) => Ok(convert(value, &wanted)?),
        None => Err("all arguments are null".into()),
    }
}

pub(super) fn coalesce_list(call: &Call<'_>) -> Outcome {
    for (argument, value) in call.args.iter().enumerate().filter(|(_, value)| !value.is_null()) {
        match value {
            Value::List(_, elements) | Value::Tuple(elements) if !elements.is_empty() => {
                return Ok(value.clone());
            }
            Value::List(..) | Value::Tuple(_) => {}
            other => return at(argument, format!("a list or tuple is required, not {}", other.kind())),
        }
    }
    Err("none of the lists has elements".into())
}

pub(super) fn hasindex(call: &Call<'_>) -> Outcome {
    let (collection, key) = (&call.args[0], &call.args[1]);
    match (collection, key) {
        (Value::List(..) | Value::Tuple(_), Value::Number(_))
        | (Value::Map(..) | Value::Object(_), Value::Text(_)) => {
            Ok(Value::Bool(element(collection, key).is_ok()))
        }
        (Value::List(..) | Value::Tuple(_) | Value::Map(..) | Value::Object(_), _) => Ok(Value::Bool(false)),
        (other, _) => at(0, format!("a list, tuple, map or object is required, not {}", other.kind())),
    }
}

pub(super) fn index(call: &Call<'_>) -> Outcome {
    element(&call.args[0], &call.args[1]).or_else(|why| at(1, why))
}

pub(super) fn keys(call: &Call<'_>) -> Outcome {
    match &call.args[0] {
        Value::Map(_, entries) => Ok(Value::texts(entries.keys())),
        Value::Object(entries) => Ok(Value::tuple(entries.keys().map(Value::text).collect())),
        other => at(0, format!("a map or object is required, not {}", other.kind())),
    }
}

pub(super) fn values(call: &Call<'_>) -> Outcome {
    match &call.args[0] {
        Value::Map(of, entries) => Ok(Value::list(of.clone(), entries.values().cloned().collect())),
        Value::Object(entries) => Ok(Value::tuple(entries.values().cloned().collect())),
        other => at(0, format!("a map or object is required, not {}", other.kind())),
    }
}

pub(super) fn length(call: &Call<'_>) -> Outcome {
    let value = &call.args[0];
    let count = value.elements().map(<[Value]>::len).or_else(|| value.entries().map(BTreeMap::len));
    match count {
        Some(count) => Ok(Value::Number(Number::from(count))),
        None => at(
            0,
            format!(
                "a list, set, tuple, map or object is required, not {}; `strlen` counts the characters of a string",
                value.kind()
            ),
        ),
    }
}

pub(super) fn lookup(call: &Call<'_>) -> Outcome {
    let Some(entries) = call.args[0].entries() else {
        return at(0, format!("a map or object is required, not {}", call.args[0].kind()));
    };
    match (entries.get(call.text(1)), &call.args[0]) {
        (Some(value), _) => Ok(value.clone()),
        (None, Value::Map(of, _)) => convert(&call.args[2], of).or_else(|why| at(2, why)),
        (None, _) => Ok(call.args[2].clone()),
    }
}

pub(super) fn merge(call: &Call<'_>) -> Outcome {
    let mut all = BTreeMap::new();
    let mut types = Vec::new();
    for (argument, value) in call.args.iter().enumerate().filter(|(_, value)| !value.is_null()) {
        let Some(entries) = value.entries() else {
            return at(argument, format!("a map or object is required, not {}", value.kind()));
        };
        types.push(if let Value::Map(of, _) = value { Some(of.clone()) } else { None });
        all.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    // Maps of one type make a map.
    let first = types.first().cloned().flatten();
    Ok(match first.filter(|first| types.iter().all(|of| of.as_ref() == Some(first))) {
        Some(of) => Value::map(of, all),
        None => Value::object(all),
    })
}

pub(super) fn zipmap(call: &Call<'_>) -> Outcome {
    let keys = convert(&call.args[0], &Type::List(Box::new(Type::Text)))?;
    let keys = keys.elements().unwrap_or_default();
    let values = call.elements(1)?;
    if keys.len() != values.len() {
        return Err(format!("there are {} keys and {} values", keys.len(), values.len()).into());
    }
    let mut entries = BTreeMap::new();
    for (key, value) in keys.iter().zip(values) {
        let Value::Text(key) = key else { return at(0, "a key is null") };
        entries.insert(key.to_string(), value.clone());
    }
    Ok(match &call.args[1] {
        Value::List(of, _) => Value::map(of.clone(), entries),
        _ => Value::object(entries),
    })
}
