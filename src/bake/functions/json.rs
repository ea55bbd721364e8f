//! JSON.

use super::{Call, Outcome, at};
use crate::bake::value::{Number, Value};

pub(super) fn encode(call: &Call<'_>) -> Outcome {
    Ok(Value::text(call.args[0].json()))
}

pub(super) fn decode(call: &Call<'_>) -> Outcome {
    call.charge(call.text(0).len() / 4)?;
    match serde_json::from_str::<serde_json::Value>(call.text(0)) {
        Ok(json) => Ok(from_json(&json)?),
        Err(error) => at(0, format!("this is no JSON: {error}")),
    }
}

/// The value that JSON stands for.
pub(in crate::bake) fn from_json(json: &serde_json::Value) -> Result<Value, String> {
    Ok(match json {
        serde_json::Value::Null => Value::NULL,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => {
            let number = Number::parse(&number.to_string());
            Value::Number(number.ok_or("a number of the JSON is too large")?)
        }
        serde_json::Value::String(text) => Value::text(text),
        serde_json::Value::Array(elements) => {
            Value::tuple(elements.iter().map(from_json).collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(entries) => {
            let one = |(key, value): (&String, &serde_json::Value)| {
                Ok::<_, String>((key.clone(), from_json(value)?))
            };
            Value::object(entries.iter().map(one).collect::<Result<_, _>>()?)
        }
    })
}
