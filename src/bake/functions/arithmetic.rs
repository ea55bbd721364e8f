//! Numbers.

use super::{Call, Outcome, at};
use crate::bake::value::{Number, Value};

fn real(value: f64) -> Result<Number, String> {
    Number::real(value).ok_or_else(|| "the result is no number, or too large for one".to_owned())
}

/// Exact where both are whole and the result fits, else in floating point.
fn either(
    (one, two): (Number, Number),
    whole: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> f64,
) -> Result<Number, String> {
    let exact = one.whole().zip(two.whole()).and_then(|(one, two)| whole(one, two));
    match exact {
        Some(result) => Ok(Number::Whole(result)),
        None => real(float(one.as_f64(), two.as_f64())),
    }
}

pub(in crate::bake) fn add(one: Number, two: Number) -> Result<Number, String> {
    either((one, two), i128::checked_add, |one, two| one + two)
}

pub(in crate::bake) fn subtract(one: Number, two: Number) -> Result<Number, String> {
    either((one, two), i128::checked_sub, |one, two| one - two)
}

pub(in crate::bake) fn multiply(one: Number, two: Number) -> Result<Number, String> {
    either((one, two), i128::checked_mul, |one, two| one * two)
}

pub(in crate::bake) fn divide(one: Number, two: Number) -> Result<Number, String> {
    if two.as_f64() == 0.0 {
        return Err("nothing can be divided by zero".to_owned());
    }
    let whole =
        |one: i128, two: i128| (one.checked_rem(two) == Some(0)).then(|| one.checked_div(two)).flatten();
    either((one, two), whole, |one, two| one / two)
}

pub(in crate::bake) fn modulo(one: Number, two: Number) -> Result<Number, String> {
    if two.as_f64() == 0.0 {
        return Err("nothing can be divided by zero".to_owned());
    }
    either((one, two), i128::checked_rem, |one, two| one % two)
}

pub(in crate::bake) fn negate(number: Number) -> Result<Number, String> {
    subtract(Number::Whole(0), number)
}

pub(super) fn two(call: &Call<'_>, of: fn(Number, Number) -> Result<Number, String>) -> Outcome {
    Ok(Value::Number(of(call.number(0), call.number(1))?))
}

pub(super) fn negated(call: &Call<'_>) -> Outcome {
    Ok(Value::Number(negate(call.number(0))?))
}

pub(super) fn absolute(call: &Call<'_>) -> Outcome {
    let number = call.number(0);
    Ok(Value::Number(if number < Number::Whole(0) { negate(number)? } else { number }))
}

fn rounded(call: &Call<'_>, how: fn(f64) -> f64) -> Outcome {
    Ok(Value::Number(match call.number(0) {
        Number::Real(value) => real(how(value))?,
        whole @ Number::Whole(_) => whole,
    }))
}

pub(super) fn ceil(call: &Call<'_>) -> Outcome {
    rounded(call, f64::ceil)
}

pub(super) fn floor(call: &Call<'_>) -> Outcome {
    rounded(call, f64::floor)
}

pub(super) fn int(call: &Call<'_>) -> Outcome {
    rounded(call, f64::trunc)
}

pub(super) fn signum(call: &Call<'_>) -> Outcome {
    Ok(Value::whole(match call.number(0).cmp(&Number::Whole(0)) {
        std::cmp::Ordering::Less => -1,
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Greater => 1,
    }))
}

pub(super) fn log(call: &Call<'_>) -> Outcome {
    let (number, base) = (call.number(0).as_f64(), call.number(1).as_f64());
    Ok(Value::Number(real(number.ln() / base.ln())?))
}

pub(super) fn pow(call: &Call<'_>) -> Outcome {
    let (number, power) = (call.number(0), call.number(1));
    let exact = number
        .whole()
        .zip(power.whole())
        .and_then(|(number, power)| number.checked_pow(u32::try_from(power).ok()?));
    Ok(Value::Number(match exact {
        Some(result) => Number::Whole(result),
        None => real(number.as_f64().powf(power.as_f64()))?,
    }))
}

pub(super) fn extreme(call: &Call<'_>, choose: fn(std::vec::IntoIter<Number>) -> Option<Number>) -> Outcome {
    let numbers: Vec<Number> = (0..call.args.len()).map(|at| call.number(at)).collect();
    match choose(numbers.into_iter()) {
        Some(number) => Ok(Value::Number(number)),
        None => Err("it takes at least one number".into()),
    }
}

pub(super) fn parseint(call: &Call<'_>) -> Outcome {
    let Value::Text(text) = &call.args[0] else {
        return at(0, format!("a string is required, not {}", call.args[0].kind()));
    };
    let base = call.whole(1)?;
    if !(2..=62).contains(&base) {
        return at(1, format!("the base is between 2 and 62, not {base}"));
    }
    let (sign, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    // Up to 36 the case does not matter; beyond, lower case comes first.
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(i128::from(byte - b'0')),
        b'a'..=b'z' => Some(i128::from(byte - b'a') + 10),
        b'A'..=b'Z' if base <= 36 => Some(i128::from(byte - b'A') + 10),
        b'A'..=b'Z' => Some(i128::from(byte - b'A') + 36),
        _ => None,
    };
    let base = i128::from(base);
    let number = digits.iter().try_fold(0_i128, |so_far, byte| {
        let digit = digit(byte).filter(|digit| *digit < base)?;
        so_far.checked_mul(base)?.checked_add(digit)
    });
    match number.filter(|_| !digits.is_empty()) {
        Some(number) => Ok(Value::whole(sign * number)),
        None => at(0, format!("`{text}` is no number in base {base}, or too large")),
    }
}
