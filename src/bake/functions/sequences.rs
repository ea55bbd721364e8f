//! Lists and tuples.

use super::{Call, Outcome, Wrong, at};
use crate::bake::convert::{convert, unify};
use crate::bake::value::{Number, Type, Value};

/// As many elements as `range` makes, as in buildx.
const RANGE: usize = 1024;

/// Elements of `whole` as a sequence of its kind.
fn like(whole: &Value, elements: Vec<Value>) -> Value {
    match whole {
        Value::List(of, _) | Value::Set(of, _) => Value::list(of.clone(), elements),
        _ => Value::tuple(elements),
    }
}

pub(super) fn chunk(call: &Call<'_>) -> Outcome {
    let (list, size) = (&call.args[0], call.whole(1)?);
    let elements = call.elements(0)?;
    let Ok(size) = usize::try_from(size) else { return at(1, "the size cannot be negative") };
    let chunks = match size {
        _ if elements.is_empty() => Vec::new(),
        0 => vec![list.clone()],
        size => elements.chunks(size).map(|chunk| like(list, chunk.to_vec())).collect(),
    };
    Ok(Value::list(list.type_of(), chunks))
}

pub(super) fn compact(call: &Call<'_>) -> Outcome {
    let is_kept = |value: &&Value| matches!(value, Value::Text(text) if !text.is_empty());
    Ok(Value::list(Type::Text, call.elements(0)?.iter().filter(is_kept).cloned().collect()))
}

pub(super) fn concat(call: &Call<'_>) -> Outcome {
    if call.args.is_empty() {
        return Err("it takes at least one list or tuple".into());
    }
    let all: Vec<Value> = call.args.iter().filter_map(Value::elements).flatten().cloned().collect();
    let lists: Option<Vec<Type>> = call
        .args
        .iter()
        .map(|one| if let Value::List(of, _) = one { Some(of.clone()) } else { None })
        .collect();
    // Lists alone make a list, if they have a type in common; all else is a tuple.
    if let Some(of) = lists.and_then(|types| unify(&types)) {
        let tuple = Value::tuple(all);
        return Ok(convert(&tuple, &Type::List(Box::new(of))).unwrap_or(tuple));
    }
    Ok(Value::tuple(all))
}

pub(super) fn contains(call: &Call<'_>) -> Outcome {
    Ok(Value::Bool(call.elements(0)?.iter().any(|one| one.same(&call.args[1]))))
}

pub(super) fn distinct(call: &Call<'_>) -> Outcome {
    let mut known: Vec<Value> = Vec::new();
    for one in call.elements(0)? {
        call.charge(known.len())?;
        if !known.iter().any(|known| known.same(one)) {
            known.push(one.clone());
        }
    }
    Ok(like(&call.args[0], known))
}

pub(super) fn element(call: &Call<'_>) -> Outcome {
    let elements = call.elements(0)?;
    if matches!(call.args[0], Value::Set(..)) {
        return at(0, "the elements of a set have no index");
    }
    match i64::try_from(elements.len()) {
        Ok(count) if count > 0 => {
            let index = usize::try_from(call.whole(1)?.rem_euclid(count)).unwrap_or(0);
            Ok(elements[index].clone())
        }
        _ => at(0, "there is no element in an empty list"),
    }
}

pub(super) fn flatten(call: &Call<'_>) -> Outcome {
    fn add(elements: &[Value], call: &Call<'_>, all: &mut Vec<Value>) -> Result<(), Wrong> {
        for one in elements {
            call.charge(1)?;
            match one.elements() {
                Some(inner) => add(inner, call, all)?,
                None => all.push(one.clone()),
            }
        }
        Ok(())
    }
    let mut all = Vec::new();
    add(call.elements(0)?, call, &mut all)?;
    Ok(Value::tuple(all))
}

pub(super) fn indexof(call: &Call<'_>) -> Outcome {
    let elements = call.elements(0)?;
    match elements.iter().position(|one| one.same(&call.args[1])) {
        Some(index) => Ok(Value::Number(Number::from(index))),
        None if elements.is_empty() => at(0, "there is nothing in an empty list"),
        None => at(1, "there is no such element in the list"),
    }
}

pub(super) fn range(call: &Call<'_>) -> Outcome {
    let (zero, one) = (Number::Whole(0), Number::Whole(1));
    let (start, end, step) = match call.args.len() {
        1 => (zero, call.number(0), if call.number(0) < zero { Number::Whole(-1) } else { one }),
        2 => {
            let (start, end) = (call.number(0), call.number(1));
            (start, end, if end < start { Number::Whole(-1) } else { one })
        }
        3 => (call.number(0), call.number(1), call.number(2)),
        count => return Err(format!("it takes one, two or three numbers, not {count}").into()),
    };
    if step == zero {
        return at(2, "the step cannot be zero");
    }
    if (step > zero && end < start) || (step < zero && end > start) {
        return at(2, "the step leads away from the end");
    }
    let mut numbers = Vec::new();
    let mut next = start;
    while (step > zero && next < end) || (step < zero && next > end) {
        if numbers.len() == RANGE {
            return Err(format!("more than {RANGE} numbers").into());
        }
        numbers.push(Value::Number(next));
        next = super::arithmetic::add(next, step)?;
    }
    Ok(Value::list(Type::Number, numbers))
}

pub(super) fn reverse(call: &Call<'_>) -> Outcome {
    Ok(like(&call.args[0], call.elements(0)?.iter().rev().cloned().collect()))
}

pub(super) fn slice(call: &Call<'_>) -> Outcome {
    let elements = call.elements(0)?;
    let (start, end) = (call.whole(1)?, call.whole(2)?);
    let within = |argument: usize, index: i64| match usize::try_from(index) {
        Ok(index) if index <= elements.len() => Ok(index),
        _ => at(argument, format!("it is between 0 and {}, not {index}", elements.len())),
    };
    let (from, to) = (within(1, start)?, within(2, end)?);
    if from > to {
        return at(1, "the start comes after the end");
    }
    if matches!(call.args[0], Value::Set(..)) {
        return at(0, "a set has no order; make a list of it first");
    }
    Ok(like(&call.args[0], elements[from..to].to_vec()))
}

pub(super) fn sort(call: &Call<'_>) -> Outcome {
    let mut texts = call.texts(0)?;
    texts.sort_unstable();
    Ok(Value::texts(texts))
}
