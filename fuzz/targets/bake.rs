//! Any definition, in each of the three syntaxes: errors or targets at a bounded cost, and what is printed is JSON.
//!
//! The first byte of the input chooses the syntax, the rest is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::bake::{File, ReadOptions, Surroundings, read, resolve};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let name = ["a.hcl", "a.json", "a.yaml", "a"][usize::from(first % 4)];
    let options = ReadOptions {
        variables: Default::default(),
        environment: [("FROM_ENV".to_owned(), "1,2".to_owned())].into(),
        env_file: None,
        // What a file includes is not there.
        folder: "/nonexistent".into(),
        built_in: Default::default(),
        counts_from_files: false,
        surroundings: Surroundings { home: "/home".to_owned(), now: 0 },
    };
    let file = File { name: name.to_owned(), text: text.to_owned() };
    let Ok(definition) = read(&[file], &options) else { return };
    let names: Vec<String> = definition.targets.iter().map(|target| target.name.clone()).collect();
    let Ok(resolved) = resolve(&definition, &names, &[]) else { return };
    let printed: serde_json::Value = serde_json::from_str(&resolved.printed()).expect("what is printed is JSON");
    assert!(printed["target"].is_object());
});
