//! Builds a folder with the library, and says what happens: `cargo run --example build -- CONTEXT [NAME]`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use rbuild::api::{Build, Event, main_of_steps};

fn main() -> ExitCode {
    // Steps are forked from this very program.
    if let Some(done) = main_of_steps() {
        return done;
    }
    let mut words = std::env::args().skip(1);
    let Some(context) = words.next() else {
        eprintln!("usage: build CONTEXT [NAME]");
        return ExitCode::from(2);
    };
    let store = std::env::temp_dir().join("rbuild-example");
    let build = words.fold(Build::new(store, context), Build::tag);
    let outcome = build.run(|event| match event {
        Event::Planned(steps) => println!("{} steps", steps.len()),
        Event::Output { line, .. } => println!("{line}"),
        Event::Finished { step, cached, took } => {
            println!("step {step} {} in {took:.1?}", if cached { "was cached" } else { "is done" });
        }
        _ => {}
    });
    match outcome {
        Ok(built) => println!("{} has {} layers, {} bytes", built.digest, built.layers, built.size_bytes),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
