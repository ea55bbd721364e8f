//! Any word in any environment: no panic, bounded results, and the same variables however it is expanded.
//!
//! The input's lines are `NAME=VALUE` up to the first that has no `=`; the rest is the word.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rbuild::dockerfile::mount;
use rbuild::dockerfile::words::{
    Lookup, MAX_EXPANDED_BYTES, NoVariables, expand, expand_display, expand_heredoc, expand_words,
};

fuzz_target!(|text: &str| {
    let (env, word) = environment(text);
    for env in [&env as &dyn Lookup, &NoVariables] {
        for escape in ['\\', '`'] {
            all_forms(word, escape, env);
        }
        if let Ok(expanded) = expand_heredoc(word, env) {
            bounded(word, &expanded.text);
        }
    }
    let _ = mount::fields(word).and_then(|fields| mount::Mount::parse(&fields));
    let _ = mount::Device::parse(word);
});

fn environment(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut env = BTreeMap::new();
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        let Some((name, value)) = line.split_once('=') else { break };
        env.insert(name.to_owned(), value.to_owned());
        rest = after;
    }
    (env, rest)
}

fn all_forms(word: &str, escape: char, env: &dyn Lookup) {
    let whole = expand(word, escape, env);
    let split = expand_words(word, escape, env);
    match (&whole, &split) {
        (Ok(whole), Ok(split)) => {
            assert_eq!((&whole.set, &whole.unset), (&split.set, &split.unset));
            bounded(word, &whole.text);
            assert!(split.words.iter().all(|word| !word.is_empty()));
            let blanks = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(blanks(&whole.text), blanks(&split.words.concat()));
        }
        (Err(whole), Err(split)) => assert_eq!(whole, split),
        _ => panic!("only one of two expansions failed: {whole:?}, {split:?}"),
    }
    let _ = expand_display(word, escape, env);
}

/// What a word holds itself counts once, what variables add up to the limit.
fn bounded(word: &str, text: &str) {
    assert!(text.len() <= word.len() * 2 + MAX_EXPANDED_BYTES);
}
