//! Any bytes over the socket between rbuild and the processes around a step: see `exec::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::exec::fuzz::check;

fuzz_target!(|bytes: &[u8]| check(bytes));
