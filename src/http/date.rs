//! Dates in headers.

/// A date in a header, in seconds since the epoch: in each of the three forms that RFC 9110 (5.6.7) has recipients take.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    date_of(text.trim()).map(jiff::Timestamp::as_second)
}

/// The moment that a header names.
pub(super) fn date_of(text: &str) -> Option<jiff::Timestamp> {
    if let Ok(date) = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text) {
        return Some(date);
    }
    // RFC 850's two digits of a year are POSIX's, 69 is 1969: what the RFC says instead depends on today.
    let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let parse = |form: &&str| jiff::fmt::strtime::parse(form, text).ok()?.to_datetime().ok();
    let date = forms.iter().find_map(parse)?;
    date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_three_forms() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sun Nov 16 08:49:37 1997", Some(879_670_177)),
            ("Sunday, 06-Nov-94 08:49:37", None),
            ("Nov 6 1994", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), expected, "{text}");
        }
    }
}
