//! Calls of functions: rbuild's own, those of the definition, and the three that look at expressions.

use std::collections::BTreeMap;

use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, FuncCall};

use super::super::convert::convert;
use super::super::fault::{Place, Result, did_you_mean};
use super::super::functions;
use super::super::module::{Function, Module};
use super::super::types;
use super::super::value::Value;
use super::Frame;

impl Module {
    pub(super) fn eval_call(&self, call: &FuncCall, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        let name = call.name.name.as_str();
        if call.name.is_namespaced() {
            return Err(place.fault(call.span(), "there are no functions with `::`", "no such function"));
        }
        let args: Vec<&Expression> = call.args.iter().collect();
        if !self.has_function(name) {
            match name {
                "try" => return self.eval_try(&args, call, place, frame),
                "can" => {
                    let [only] = args.as_slice() else {
                        return Err(place.fault(call.span(), "`can` takes one argument", "here"));
                    };
                    return Ok(Value::Bool(self.eval(only, place, frame).is_ok()));
                }
                "convert" => {
                    let [value, wanted] = args.as_slice() else {
                        return Err(place.fault(call.span(), "`convert` takes a value and a type", "here"));
                    };
                    let wanted = types::read(wanted, place)?;
                    let value = self.eval(value, place, frame)?;
                    return convert(&value, &wanted)
                        .map_err(|why| place.fault(call.span(), why, value.kind()));
                }
                _ => {}
            }
        }
        let mut values = args.iter().map(|arg| self.eval(arg, place, frame)).collect::<Result<Vec<_>>>()?;
        if call.args.expand_final()
            && let Some(last) = values.pop()
        {
            let span = args.last().and_then(|last| last.span());
            let elements = last.elements().ok_or_else(|| {
                place.fault(span, "what is followed by `...` has to be a list, set or tuple", last.kind())
            })?;
            values.extend(elements.iter().cloned());
        }
        let result = match self.function(name) {
            Some(function) => self.call_own(name, &function, values, call, place)?,
            None => match functions::find(name) {
                Some(function) => {
                    function.call(values, &self.limits, &self.surroundings).map_err(|wrong| {
                        let span = wrong.argument.and_then(|at| args.get(at)).and_then(|arg| arg.span());
                        place.fault(span.or_else(|| call.span()), format!("{name}: {}", wrong.why), "here")
                    })?
                }
                None => {
                    let fault = place.fault(
                        call.name.name.span(),
                        format!("there is no function `{name}`"),
                        "unknown",
                    );
                    let known = self.function_names();
                    let known = known.iter().map(String::as_str);
                    return Err(super::super::fault::with_help(fault, did_you_mean(name, known)));
                }
            },
        };
        self.charge(result.weight(), place, call.span())?;
        Ok(result)
    }

    /// The first that can be evaluated.
    fn eval_try(
        &self,
        args: &[&Expression],
        call: &FuncCall,
        place: &Place,
        frame: &Frame<'_>,
    ) -> Result<Value> {
        let mut last = None;
        for arg in args {
            match self.eval(arg, place, frame) {
                Ok(value) => return Ok(value),
                Err(fault) => last = Some(fault),
            }
        }
        Err(match last {
            Some(fault) => Box::new(fault.note("it is the last of the expressions that `try` was given")),
            None => place.fault(call.span(), "`try` takes at least one argument", "here"),
        })
    }

    /// A function of the definition; it sees its parameters and what holds everywhere.
    fn call_own(
        &self,
        name: &str,
        function: &Function,
        mut values: Vec<Value>,
        call: &FuncCall,
        place: &Place,
    ) -> Result<Value> {
        let wanted = function.params.len();
        let fits = match function.variadic {
            Some(_) => values.len() >= wanted,
            None => values.len() == wanted,
        };
        if !fits {
            let least = if function.variadic.is_some() { "at least " } else { "" };
            let plural = if wanted == 1 { "" } else { "s" };
            let message = format!("`{name}` takes {least}{wanted} argument{plural}, not {}", values.len());
            return Err(place.fault(call.span(), message, "here"));
        }
        let rest = values.split_off(wanted);
        let mut names: BTreeMap<String, Value> = function.params.iter().cloned().zip(values).collect();
        if let Some(variadic) = &function.variadic {
            names.insert(variadic.clone(), Value::tuple(rest));
        }
        let _deeper =
            self.limits.deeper().map_err(|why| place.fault(call.span(), why, "here it was given up"))?;
        self.evaluate(&function.result, &Frame::of(names)).map_err(|fault| {
            Box::new(fault.note(format!(
                "in the function `{name}`, called on line {}",
                place.source.line_column(place.span(call.span()).start).0
            )))
        })
    }
}
