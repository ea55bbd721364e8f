//! Any ignore file and any path: no panic, and the shortcuts of a walk never contradict the patterns.
//!
//! The first line of the input is a path, the rest is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::context::ignore;
use rbuild::context::matcher::{Inherited, Matcher};

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (path, text) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    if let Ok(file) = ignore::parse(text, ".dockerignore") {
        let blame = file.blame(path);
        assert!(blame.is_none() || !file.is_empty());
    }
    if let Ok(matcher) = Matcher::new(text.split(|byte| *byte == b'\n')) {
        walk(&matcher, path);
    }
});

/// Goes down to `path` as a scan does.
fn walk(matcher: &Matcher, path: &[u8]) {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, b"." | b"..")) {
        return;
    }
    // Moby takes every byte that is no UTF-8 for U+FFFD; the shortcuts compare bytes, and miss the oddity of
    // a pattern that names this character.
    if std::str::from_utf8(path).is_err() {
        return;
    }
    let mut inherited = Inherited::default();
    for depth in 1..parts.len() {
        let directory = parts[..depth].join(&b'/');
        let (matched, below) = matcher.matches_directory(&directory, &inherited);
        let here = matcher.matches(&directory, &inherited);
        assert_eq!(matched, here);
        let child = parts[..=depth].join(&b'/');
        let child_matches = matcher.matches(&child, &below);
        if matched && !child_matches {
            assert!(matcher.may_spare_below(&directory, &below), "{directory:?} {child:?}");
        }
        if !matched && child_matches {
            assert!(matcher.may_match_below(&directory), "{directory:?} {child:?}");
        }
        inherited = below;
    }
}
