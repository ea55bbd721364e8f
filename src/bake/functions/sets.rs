//! Sets.

use super::{Call, Outcome, Wrong, at};
use crate::bake::convert::{convert, unify};
use crate::bake::value::{Type, Value};

/// All arguments as sets of what they have in common.
fn alike(call: &Call<'_>) -> Result<(Type, Vec<Vec<Value>>), Wrong> {
    let element = |value: &Value| match value {
        // Of an empty set nothing is known.
        Value::Set(_, elements) if elements.is_empty() => Type::Any,
        Value::Set(of, _) => of.clone(),
        other => other.type_of(),
    };
    let types: Vec<Type> = call.args.iter().map(element).collect();
    let Some(of) = unify(&types) else { return Err("all sets have to be of the same type".into()) };
    let wanted = Type::Set(Box::new(of.clone()));
    let one = |value: &Value| Ok(convert(value, &wanted)?.elements().unwrap_or_default().to_vec());
    Ok((of, call.args.iter().map(one).collect::<Result<_, String>>()?))
}

fn has(set: &[Value], value: &Value) -> bool {
    set.iter().any(|one| one.same(value))
}

/// Those of all sets of which `wanted` is true; it gets in how many of the sets they are.
fn chosen(call: &Call<'_>, wanted: impl Fn(usize, usize) -> bool) -> Outcome {
    let (of, sets) = alike(call)?;
    let all: Vec<Value> = sets.iter().flatten().cloned().collect();
    call.charge(all.len().saturating_mul(all.len()))?;
    let in_how_many = |value: &Value| sets.iter().filter(|set| has(set, value)).count();
    let chosen = all.into_iter().filter(|value| wanted(in_how_many(value), sets.len()));
    Ok(Value::set(of, chosen.collect()))
}

pub(super) fn has_element(call: &Call<'_>) -> Outcome {
    Ok(Value::Bool(has(call.elements(0)?, &call.args[1])))
}

pub(super) fn union(call: &Call<'_>) -> Outcome {
    chosen(call, |_, _| true)
}

pub(super) fn intersection(call: &Call<'_>) -> Outcome {
    chosen(call, |count, of| count == of)
}

pub(super) fn symmetric_difference(call: &Call<'_>) -> Outcome {
    // One after the other: what is in an odd number of them stays.
    chosen(call, |count, _| count % 2 == 1)
}

pub(super) fn subtract(call: &Call<'_>) -> Outcome {
    let (of, sets) = alike(call)?;
    let kept = sets[0].iter().filter(|value| !has(&sets[1], value)).cloned().collect();
    Ok(Value::set(of, kept))
}

pub(super) fn product(call: &Call<'_>) -> Outcome {
    if call.args.len() < 2 {
        return Err("it takes at least two sets or lists".into());
    }
    let count = call.args.iter().filter_map(Value::elements).map(<[Value]>::len);
    let count = count.fold(1_usize, usize::saturating_mul);
    call.charge(count.saturating_mul(call.args.len()))?;
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for (argument, value) in call.args.iter().enumerate() {
        let Some(elements) = value.elements() else { return at(argument, "a set or list is required") };
        let with = |row: &Vec<Value>, one: &Value| row.iter().chain([one]).cloned().collect::<Vec<_>>();
        rows = rows.iter().flat_map(|row| elements.iter().map(|one| with(row, one))).collect();
    }
    let rows: Vec<Value> = rows.into_iter().map(Value::tuple).collect();
    let are_sets = call.args.iter().all(|one| matches!(one, Value::Set(..)));
    let of = rows.first().map_or(Type::Any, Value::type_of);
    let tuple = Value::tuple(rows);
    let wanted = if are_sets { Type::Set(Box::new(of)) } else { Type::List(Box::new(of)) };
    Ok(convert(&tuple, &wanted)
        .or_else(|_| convert(&tuple, &Type::List(Box::new(Type::Any))))
        .unwrap_or(tuple))
}
