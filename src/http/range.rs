//! Parts of a content.

use super::request::Response;

/// Whether a partial answer begins at byte `at` of the whole (`Content-Range: bytes 5-9/10`).
pub(crate) fn begins_at(response: &Response, at: u64) -> bool {
    response.header("content-range").and_then(first_byte) == Some(at)
}

fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_parts_begin() {
        for (range, expected) in [
            ("bytes 5-9/10", Some(5)),
            ("bytes 0-8/*", Some(0)),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes -9/10", None),
        ] {
            assert_eq!(first_byte(range), expected, "{range}");
        }
    }
}
