//! Values that come as text: from `--var` and from the environment, as JSON or in the simple way.

use std::collections::BTreeMap;

use super::super::convert::convert;
use super::super::functions;
use super::super::value::{Number, Type, Value};
use super::Module;
use crate::text;

/// Text for a variable.
#[derive(Debug)]
pub(super) struct FromOutside {
    text: String,
    is_json: bool,
    /// In words.
    pub(super) from: &'static str,
}

/// What is appended to a variable's name where its value is JSON.
const JSON: &str = "_JSON";

impl Module {
    /// `NAME_JSON` goes before `NAME` where the variable has a type, and counts where there is no `NAME`.
    pub(super) fn given_for(&self, name: &str, is_typed: bool) -> Option<FromOutside> {
        let json_name = format!("{name}{JSON}");
        let is_free =
            !self.variables.contains_key(&json_name) && !self.given.built_in.contains_key(&json_name);
        let plain = self.outside(name, false);
        if is_free && (is_typed || plain.is_none()) {
            return self.outside(&json_name, true).or(plain);
        }
        plain
    }

    fn outside(&self, name: &str, is_json: bool) -> Option<FromOutside> {
        let found = |text: &String, from| FromOutside { text: text.clone(), is_json, from };
        let given = self.given.variables.get(name).map(|text| found(text, "`--var`"));
        given.or_else(|| self.given.environment.get(name).map(|text| found(text, "the environment")))
    }
}

/// The value: of the type that was written, else of that of the default, else a string.
pub(super) fn from_text(
    given: &FromOutside,
    wanted: Option<&Type>,
    default: Option<&Value>,
) -> Result<Value, String> {
    let text = given.text.as_str();
    match (wanted, default.map(Value::type_of)) {
        (Some(wanted), _) if given.is_json => {
            let json: serde_json::Value =
                serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
            strictly(&functions::from_json(&json)?, wanted)
        }
        (Some(wanted @ (Type::List(_) | Type::Set(_) | Type::Tuple(_) | Type::Map(_))), _) => {
            from_csv(text, wanted)
        }
        (Some(wanted), _) if wanted.is_primitive() => primitive(text, wanted),
        (Some(wanted), _) if *wanted != Type::Any => {
            Err(format!("{} can only be given as JSON, by the name with `{JSON}`", wanted.name()))
        }
        (Some(_), None) | (None, None | Some(Type::Any)) | (Some(_), Some(Type::Any)) => {
            Ok(Value::text(text))
        }
        (_, Some(of)) if of.is_primitive() => primitive(text, &of),
        (_, Some(of)) => Err(format!(
            "its default is {}, and it has no `type`: give it one, such as `type = list(string)`",
            of.name()
        )),
    }
}

/// JSON has to be of the type as it is: the text `"1"` is no number.
fn strictly(value: &Value, wanted: &Type) -> Result<Value, String> {
    let differs = |value: &Value, wanted: &Type| {
        wanted.is_primitive() && !value.is_null() && value.type_of() != *wanted
    };
    match differs(value, wanted) {
        true => Err(format!("{} is required, not {}", wanted.name(), value.kind())),
        false => convert(value, wanted),
    }
}

fn primitive(text: &str, wanted: &Type) -> Result<Value, String> {
    match wanted {
        Type::Bool => text::boolean(text).map(Value::Bool).ok_or_else(|| format!("`{text}` is no bool")),
        Type::Number => {
            Number::parse(text).map(Value::Number).ok_or_else(|| format!("`{text}` is no number"))
        }
        Type::Text => Ok(Value::text(text)),
        other => Err(format!("{} cannot be given as text", other.name())),
    }
}

/// `a,b` for lists, sets and tuples, `k:v,k2:v2` for maps.
fn from_csv(text: &str, wanted: &Type) -> Result<Value, String> {
    let fields = text::csv::fields(text).map_err(|fault| format!("`{text}`: {fault}"))?;
    let simple = |of: &Type| match of.is_primitive() {
        true => Ok(()),
        false => Err(format!("{} can only be given as JSON, by the name with `{JSON}`", wanted.name())),
    };
    match wanted {
        Type::List(of) | Type::Set(of) => {
            simple(of)?;
            let all = fields.iter().map(|field| primitive(field, of)).collect::<Result<_, _>>()?;
            Ok(match wanted {
                Type::Set(_) => Value::set((**of).clone(), all),
                _ => Value::list((**of).clone(), all),
            })
        }
        Type::Tuple(types) => {
            if types.len() != fields.len() {
                return Err(format!("it has {} elements, not {}", types.len(), fields.len()));
            }
            types.iter().try_for_each(simple)?;
            let all = fields.iter().zip(types).map(|(field, of)| primitive(field, of));
            Ok(Value::tuple(all.collect::<Result<_, _>>()?))
        }
        Type::Map(of) => {
            simple(of)?;
            let one = |field: &String| {
                let (key, value) =
                    field.split_once(':').ok_or_else(|| format!("`{field}` is no `KEY:VALUE`"))?;
                let value =
                    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                Ok::<_, String>((key.to_owned(), primitive(value, of)?))
            };
            let all = fields.iter().map(one).collect::<Result<BTreeMap<_, _>, _>>()?;
            Ok(Value::map((**of).clone(), all))
        }
        other => Err(format!("{} cannot be given as text", other.name())),
    }
}
