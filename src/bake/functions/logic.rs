//! Truth, and comparisons.

use std::cmp::Ordering;

use super::{Call, Outcome};
use crate::bake::value::Value;

pub(super) fn and(call: &Call<'_>) -> Outcome {
    Ok(Value::Bool(call.bool(0) && call.bool(1)))
}

pub(super) fn or(call: &Call<'_>) -> Outcome {
    Ok(Value::Bool(call.bool(0) || call.bool(1)))
}

pub(super) fn not(call: &Call<'_>) -> Outcome {
    Ok(Value::Bool(!call.bool(0)))
}

pub(super) fn equal(call: &Call<'_>) -> Outcome {
    Ok(Value::Bool(call.args[0].same(&call.args[1])))
}

pub(super) fn not_equal(call: &Call<'_>) -> Outcome {
    Ok(Value::Bool(!call.args[0].same(&call.args[1])))
}

pub(super) fn compare(call: &Call<'_>, is: fn(Ordering) -> bool) -> Outcome {
    Ok(Value::Bool(is(call.number(0).cmp(&call.number(1)))))
}
