//! Any bytes as the cache of what `lstat` said, behind a right checksum: see `context::statcache::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::context::statcache::fuzz::check;

fuzz_target!(|bytes: &[u8]| check(bytes));
