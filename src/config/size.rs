//! Sizes as people write them.

/// Bytes, with k, m, g or t (and b or ib after it) for powers of 1024, as docker reads sizes; `None` when it is
/// something else.
pub fn parse(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.strip_suffix('b').unwrap_or(&lower);
    let digits = digits.strip_suffix('i').unwrap_or(digits);
    let (digits, shift) = match digits.as_bytes().last()? {
        b'k' => (&digits[..digits.len() - 1], 10),
        b'm' => (&digits[..digits.len() - 1], 20),
        b'g' => (&digits[..digits.len() - 1], 30),
        b't' => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in
            [("64", 64), ("64k", 65_536), ("128M", 134_217_728), ("1gb", 1 << 30), ("2 GiB", 2 << 30)]
        {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "1.5g", "-1", "99999999999g", "1bb"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
