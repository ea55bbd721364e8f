//! `format` and `formatlist`: verbs as Go's `Printf` has them.

use unicode_segmentation::UnicodeSegmentation as _;

use super::strings::{WIDEST, printed};
use super::{Call, Outcome, Wrong, at};
use crate::bake::convert::convert;
use crate::bake::value::{Number, Type, Value, json_text};

/// `%[flags][width][.precision][[argument]]letter`
#[derive(Debug, Default)]
struct Verb {
    raw: String,
    zero: bool,
    sharp: bool,
    plus: bool,
    minus: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
    argument: Option<usize>,
    letter: char,
}

pub(super) fn format(call: &Call<'_>) -> Outcome {
    Ok(Value::text(formatted(call.text(0), &call.args[1..])?))
}

pub(super) fn formatlist(call: &Call<'_>) -> Outcome {
    let args = &call.args[1..];
    let is_list = |value: &&Value| value.elements().is_some();
    let mut lengths = args.iter().filter(is_list).filter_map(Value::elements).map(<[Value]>::len);
    let count = lengths.next().unwrap_or(1);
    if let Some(odd) = args.iter().position(|arg| arg.elements().is_some_and(|all| all.len() != count)) {
        return at(
            odd + 1,
            format!("all lists have to be of one length, and the first has {count} elements"),
        );
    }
    let mut all = Vec::with_capacity(count);
    for row in 0..count {
        call.charge(1)?;
        let of_row = |arg: &Value| arg.elements().map_or_else(|| arg.clone(), |all| all[row].clone());
        let args: Vec<Value> = args.iter().map(of_row).collect();
        all.push(formatted(call.text(0), &args)?);
    }
    Ok(Value::texts(all))
}

fn formatted(format: &str, args: &[Value]) -> Result<String, Wrong> {
    let mut out = String::new();
    let (mut next, mut used) = (0, 0);
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (verb, after) = Verb::read(after)?;
        rest = after;
        let index = verb.argument.unwrap_or(next);
        next = index + 1;
        used = used.max(next);
        let Some(arg) = args.get(index) else {
            let why = format!("`{}` wants argument {}, and there are {}", verb.raw, index + 1, args.len());
            return at(0, why);
        };
        out.push_str(&verb.apply(arg).or_else(|why| at(index + 1, format!("`{}`: {why}", verb.raw)))?);
    }
    out.push_str(rest);
    match used < args.len() {
        true => at(used + 1, format!("there are {} arguments, and only {used} are used", args.len())),
        false => Ok(out),
    }
}

impl Verb {
    /// What follows a `%`.
    fn read(text: &str) -> Result<(Self, &str), Wrong> {
        let mut verb = Self::default();
        let mut rest = text;
        let number = |text: &mut &str| -> Option<usize> {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = text.split_at(digits);
            *text = after;
            number.parse().ok()
        };
        loop {
            let Some(first) = rest.chars().next() else { return at(0, format!("`%{text}` has no verb")) };
            match first {
                '0' if verb.width == 0 => verb.zero = true,
                '#' => verb.sharp = true,
                '+' => verb.plus = true,
                '-' => verb.minus = true,
                ' ' => verb.space = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        verb.width = number(&mut rest).unwrap_or(0);
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            verb.precision = Some(number(&mut rest).unwrap_or(0));
        }
        if let Some(after) = rest.strip_prefix('[') {
            rest = after;
            let argument = number(&mut rest).filter(|argument| *argument > 0);
            let closed = rest.strip_prefix(']');
            let (Some(argument), Some(after)) = (argument, closed) else {
                return at(0, format!("`%{text}` names no argument in its brackets"));
            };
            verb.argument = Some(argument - 1);
            rest = after;
            if verb.width == 0 {
                verb.width = number(&mut rest).unwrap_or(0);
            }
        }
        let Some(letter) = rest.chars().next() else { return at(0, format!("`%{text}` has no verb")) };
        verb.letter = letter;
        let after = &rest[letter.len_utf8()..];
        verb.raw = format!("%{}", &text[..text.len() - after.len()]);
        let widest = WIDEST as usize;
        match verb.width > widest || verb.precision.is_some_and(|precision| precision > widest) {
            true => at(0, format!("`{}` is wider than {WIDEST}", verb.raw)),
            false => Ok((verb, after)),
        }
    }

    fn apply(&self, value: &Value) -> Result<String, String> {
        if value.is_null() && self.letter != 'v' {
            return Err("null cannot be written so".to_owned());
        }
        match self.letter {
            'v' => Ok(self.padded(&match value {
                Value::Text(text) if !self.sharp => text.to_string(),
                Value::Number(number) if !self.sharp => shortest(*number, 'e'),
                value => value.json(),
            })),
            't' => match convert(value, &Type::Bool)? {
                Value::Bool(value) => Ok(self.padded(&value.to_string())),
                _ => Err("a bool is required".to_owned()),
            },
            's' | 'q' => {
                let text = printed(value)?;
                let cut: String = match self.precision.filter(|precision| *precision > 0) {
                    Some(precision) => text.graphemes(true).take(precision).collect(),
                    None => text,
                };
                Ok(self.padded(&if self.letter == 'q' { json_text(&cut) } else { cut }))
            }
            'b' | 'd' | 'o' | 'x' | 'X' | 'e' | 'E' | 'f' | 'g' | 'G' => match convert(value, &Type::Number)?
            {
                Value::Number(number) => self.number(number),
                _ => Err("a number is required".to_owned()),
            },
            other => {
                Err(format!("`{other}` is no verb; there are v, t, s, q, d, b, o, x, X, e, E, f, g and G"))
            }
        }
    }

    fn number(&self, number: Number) -> Result<String, String> {
        let is_negative = number < Number::Whole(0);
        let digits = match self.letter {
            'b' | 'd' | 'o' | 'x' | 'X' => {
                let whole = number.whole().ok_or("a whole number is required")?.unsigned_abs();
                let (digits, prefix) = match self.letter {
                    'b' => (format!("{whole:b}"), "0b"),
                    'o' => (format!("{whole:o}"), "0"),
                    'x' => (format!("{whole:x}"), "0x"),
                    'X' => (format!("{whole:X}"), "0X"),
                    _ => (whole.to_string(), ""),
                };
                let digits = format!("{digits:0>width$}", width = self.precision.unwrap_or(0));
                if self.sharp { format!("{prefix}{digits}") } else { digits }
            }
            letter => {
                let value = number.as_f64().abs();
                let precision = self.precision.unwrap_or(6);
                match letter {
                    'f' => format!("{value:.precision$}"),
                    'e' | 'E' => exponential(&format!("{value:.precision$e}"), letter),
                    letter => {
                        let mark = if letter == 'G' { 'E' } else { 'e' };
                        match self.precision {
                            None => shortest(Number::real(value).ok_or("no number")?, mark),
                            Some(precision) => rounded(value, precision.max(1), mark),
                        }
                    }
                }
            }
        };
        let sign = match (is_negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        let length = sign.len() + digits.len();
        if self.zero && !self.minus && length < self.width {
            return Ok(format!("{sign}{}{digits}", "0".repeat(self.width - length)));
        }
        Ok(Self { zero: false, ..Self { width: self.width, minus: self.minus, ..Self::default() } }
            .padded(&format!("{sign}{digits}")))
    }

    fn padded(&self, text: &str) -> String {
        let missing = self.width.saturating_sub(text.graphemes(true).count());
        let pad = if self.zero && !self.minus { "0" } else { " " }.repeat(missing);
        if self.minus { format!("{text}{pad}") } else { format!("{pad}{text}") }
    }
}

/// Go writes exponents with a sign and at least two digits.
fn exponential(rust: &str, mark: char) -> String {
    let (mantissa, exponent) = rust.split_once('e').unwrap_or((rust, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}{mark}{sign}{digits:0>2}")
}

/// With as many digits as it takes: with an exponent below 1e-4 and from 1e6 on, as Go decides.
fn shortest(number: Number, mark: char) -> String {
    let written = format!("{:e}", number.as_f64());
    let exponent: i32 = written.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    match number {
        _ if number.as_f64() == 0.0 => "0".to_owned(),
        number if (-4..6).contains(&exponent) => number.to_string(),
        Number::Whole(whole) => {
            // All digits count, which floating point may not have.
            let digits = whole.unsigned_abs().to_string();
            let significant = digits.trim_end_matches('0');
            let (first, rest) = significant.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let sign = if whole < 0 { "-" } else { "" };
            exponential(&format!("{sign}{first}{point}{rest}e{}", digits.len() - 1), mark)
        }
        Number::Real(_) => exponential(&written, mark),
    }
}

/// With so many digits at most, and no zeros at the end.
fn rounded(value: f64, precision: usize, mark: char) -> String {
    let written = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let tidy = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let most = i32::try_from(precision).unwrap_or(i32::MAX);
    match (-4..most).contains(&exponent) {
        true => tidy(&format!("{value:.*}", usize::try_from(most - 1 - exponent).unwrap_or(0))),
        false => exponential(&format!("{}e{exponent}", tidy(mantissa)), mark),
    }
}
