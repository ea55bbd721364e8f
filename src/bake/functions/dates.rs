//! Dates and times.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::{SignedDuration, Timestamp};

use super::{Call, Outcome, Wrong, at};
use crate::bake::value::{Number, Value};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A time of RFC 3339, which is told in a zone of its own.
#[derive(Debug, Clone, Copy)]
struct Moment {
    local: DateTime,
    /// East of Greenwich.
    offset_seconds: i64,
}

impl Moment {
    /// Reads `2006-01-02T15:04:05Z`, whose fractions do not matter here.
    fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let rest = rest.strip_prefix('T')?;
        let (time, mut zone) = rest.split_at_checked(8)?;
        if let Some(fraction) = zone.strip_prefix('.') {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            zone = fraction.get(digits..).filter(|_| digits > 0)?;
        }
        let number = |text: &str| -> Option<i8> {
            text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        let two = |text: &str, separator: char| {
            let mut parts = text.split(separator).map(|part| number(part).filter(|_| part.len() == 2));
            Some((parts.next()??, parts.next()??, parts.next()))
        };
        let year: i16 = date.get(..4)?.parse().ok()?;
        let (month, day, None) = two(date.get(5..)?, '-')? else { return None };
        let (hour, minute, Some(Some(second))) = two(time, ':')? else { return None };
        let offset_seconds = match zone {
            "Z" => 0,
            zone => {
                let (sign, rest) = match zone.as_bytes().first()? {
                    b'+' => (1, &zone[1..]),
                    b'-' => (-1, &zone[1..]),
                    _ => return None,
                };
                let (hours, minutes, None) = two(rest, ':')? else { return None };
                sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60)
            }
        };
        let is_dashed = date.as_bytes()[4] == b'-';
        let date = Date::new(year, month, day).ok().filter(|_| is_dashed)?;
        let local = date.to_datetime(Time::new(hour, minute, second, 0).ok()?);
        Some(Self { local, offset_seconds })
    }

    fn at_unix(seconds: i64) -> Option<Self> {
        let moment = Timestamp::from_second(seconds).ok()?;
        Some(Self { local: jiff::tz::Offset::UTC.to_datetime(moment), offset_seconds: 0 })
    }

    fn unix(self) -> Option<i64> {
        let at_greenwich = self.local.checked_sub(SignedDuration::from_secs(self.offset_seconds)).ok()?;
        Some(jiff::tz::Offset::UTC.to_timestamp(at_greenwich).ok()?.as_second())
    }

    fn zone(self, separator: &str) -> String {
        let (sign, seconds) =
            if self.offset_seconds < 0 { ('-', -self.offset_seconds) } else { ('+', self.offset_seconds) };
        format!("{sign}{:02}{separator}{:02}", seconds / 3600, seconds % 3600 / 60)
    }

    fn rfc3339(self) -> String {
        let zone = if self.offset_seconds == 0 { "Z".to_owned() } else { self.zone(":") };
        let local = self.local;
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{zone}",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second()
        )
    }
}

fn moment(call: &Call<'_>, argument: usize) -> Result<Moment, Wrong> {
    let text = call.text(argument);
    let wanted = || format!("`{text}` is no time like 2006-01-02T15:04:05Z (RFC 3339)");
    Moment::parse(text).map_or_else(|| at(argument, wanted()), Ok)
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn month(moment: Moment) -> &'static str {
    MONTHS[usize::from(moment.local.month().unsigned_abs()).saturating_sub(1) % 12]
}

pub(super) fn timestamp(call: &Call<'_>) -> Outcome {
    match Moment::at_unix(call.surroundings.now) {
        Some(moment) => Ok(Value::text(moment.rfc3339())),
        None => Err("the clock is set to no year that has four digits".into()),
    }
}

pub(super) fn timeadd(call: &Call<'_>) -> Outcome {
    let moment = moment(call, 0)?;
    let Some(nanoseconds) = crate::text::duration::parse_go(call.text(1)) else {
        return at(1, format!("`{}` is no duration like 1h30m", call.text(1)));
    };
    match moment.local.checked_add(SignedDuration::from_nanos(nanoseconds)) {
        Ok(local) => Ok(Value::text(Moment { local, ..moment }.rfc3339())),
        Err(_) => Err("the result is beyond the year 9999".into()),
    }
}

pub(super) fn formatdate(call: &Call<'_>) -> Outcome {
    Ok(Value::text(formatted(call.text(0), moment(call, 1)?)?))
}

pub(super) fn formattimestamp(call: &Call<'_>) -> Outcome {
    let moment = match &call.args[1] {
        Value::Text(_) => moment(call, 1)?,
        Value::Number(_) => of_unix(call, 1)?,
        other => {
            return at(1, format!("a time or the seconds since 1970 are required, not {}", other.kind()));
        }
    };
    match (call.text(0), moment.unix()) {
        ("X", Some(seconds)) => Ok(Value::whole(i128::from(seconds))).map(|value| Value::text(value.json())),
        (format, _) => Ok(Value::text(formatted(format, moment)?)),
    }
}

fn of_unix(call: &Call<'_>, argument: usize) -> Result<Moment, Wrong> {
    let seconds = call.whole(argument)?;
    Moment::at_unix(seconds).map_or_else(|| at(argument, format!("{seconds} is beyond the year 9999")), Ok)
}

pub(super) fn unixtimestampparse(call: &Call<'_>) -> Outcome {
    let moment = of_unix(call, 0)?;
    let local = moment.local;
    let number = |value: i64| Value::Number(Number::Whole(i128::from(value)));
    let iso = local.date().iso_week_date();
    Ok(Value::object(BTreeMap::from([
        ("year".to_owned(), number(local.year().into())),
        ("year_day".to_owned(), number(local.date().day_of_year().into())),
        ("day".to_owned(), number(local.day().into())),
        ("month".to_owned(), number(local.month().into())),
        ("month_name".to_owned(), Value::text(month(moment))),
        ("weekday".to_owned(), number(local.weekday().to_sunday_zero_offset().into())),
        ("weekday_name".to_owned(), Value::text(weekday(local.weekday()))),
        ("hour".to_owned(), number(local.hour().into())),
        ("minute".to_owned(), number(local.minute().into())),
        ("second".to_owned(), number(local.second().into())),
        ("rfc3339".to_owned(), Value::text(moment.rfc3339())),
        ("iso_year".to_owned(), number(iso.year().into())),
        ("iso_week".to_owned(), number(iso.week().into())),
    ])))
}

/// Letters stand for parts of the time; what is between quotes stands for itself, and two quotes for one.
fn formatted(format: &str, moment: Moment) -> Result<String, Wrong> {
    let mut out = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (text, after) = literal(quoted)?;
            out.push_str(&text);
            rest = after;
        } else if first.is_ascii_alphabetic() {
            let length = rest.bytes().take_while(|byte| char::from(*byte) == first).count();
            out.push_str(&part(first, length, moment)?);
            rest = &rest[length..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(out)
}

/// What follows an opening quote.
fn literal(quoted: &str) -> Result<(String, &str), Wrong> {
    if let Some(after) = quoted.strip_prefix('\'') {
        return Ok(("'".to_owned(), after));
    }
    let mut text = String::new();
    let mut rest = quoted;
    loop {
        let Some((before, after)) = rest.split_once('\'') else { return at(0, "a quote is not closed") };
        text.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                rest = more;
            }
            None => return Ok((text, after)),
        }
    }
}

fn part(letter: char, length: usize, moment: Moment) -> Result<String, Wrong> {
    let local = moment.local;
    let hour = match local.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let half = if local.hour() < 12 { "am" } else { "pm" };
    let number = |value: i8| match length {
        1 => Some(value.to_string()),
        2 => Some(format!("{value:02}")),
        _ => None,
    };
    let text = match (letter, length) {
        ('Y', 2) => Some(format!("{:02}", local.year().rem_euclid(100))),
        ('Y', 4) => Some(format!("{:04}", local.year())),
        ('M', 3) => Some(month(moment)[..3].to_owned()),
        ('M', 4) => Some(month(moment).to_owned()),
        ('M', _) => number(local.month()),
        ('D', _) => number(local.day()),
        ('E', 3) => Some(weekday(local.weekday())[..3].to_owned()),
        ('E', 4) => Some(weekday(local.weekday()).to_owned()),
        ('h', _) => number(local.hour()),
        ('H', _) => number(hour),
        ('A', 2) => Some(half.to_uppercase()),
        ('a', 2) => Some(half.to_owned()),
        ('m', _) => number(local.minute()),
        ('s', _) => number(local.second()),
        ('Z', 1) if moment.offset_seconds == 0 => Some("Z".to_owned()),
        ('Z', 3) if moment.offset_seconds == 0 => Some("UTC".to_owned()),
        ('Z', 3 | 4) => Some(moment.zone("")),
        ('Z', 1 | 5) => Some(moment.zone(":")),
        _ => None,
    };
    let unknown = || {
        let word: String = std::iter::repeat_n(letter, length.min(20)).collect();
        format!("`{word}` stands for nothing; text goes between single quotes")
    };
    text.map_or_else(|| at(0, unknown()), Ok)
}
