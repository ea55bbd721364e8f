//! Every command that the documentation shows is one that rbuild understands.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::args;

/// Words of one simple command each, as a shell would split the line: quotes, comments, redirections, pipes and lists.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let (mut word, mut begun, mut quote, mut depth) = (String::new(), false, None, 0_u32);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(mark), _) if letter == mark => quote = None,
            (None, '\'' | '"') => (quote, begun) = (Some(letter), true),
            (None | Some('"'), '$') if letters.peek() == Some(&'(') => {
                depth += 1;
                word.push_str("$(");
                letters.next();
                begun = true;
            }
            (_, ')') if depth > 0 => {
                depth -= 1;
                word.push(')');
            }
            (Some(_), _) => word.push(letter),
            (None, _) if depth > 0 => word.push(letter),
            (None, '\\') => {
                word.extend(letters.next());
                begun = true;
            }
            (None, '#') if !begun => break,
            (None, ' ' | '|' | '&' | ';' | '<' | '>') => {
                if std::mem::take(&mut begun) {
                    found.last_mut().unwrap().push(std::mem::take(&mut word));
                }
                match letter {
                    '|' | '&' | ';' => found.push(Vec::new()),
                    // Where it goes is no word of the command.
                    '<' | '>' => found.last_mut().unwrap().push(letter.to_string()),
                    _ => {}
                }
            }
            (None, _) => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        found.last_mut().unwrap().push(word);
    }
    found
}

/// The arguments of rbuild, if it is rbuild that is called.
fn of_rbuild(words: &[String]) -> Option<Vec<OsString>> {
    let is_before = |word: &&String| {
        word.as_str() == "sudo"
            || word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-') && !name.contains('/'))
    };
    let at = words.iter().take_while(is_before).count();
    let name = words.get(at)?;
    if Path::new(name).file_name()? != "rbuild" {
        return None;
    }
    let mut own = Vec::new();
    let mut rest = words[at..].iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "<" | ">" => drop(rest.next()),
            _ => own.push(OsString::from(word)),
        }
    }
    Some(own)
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("packaging/README.md")];
    for folder in ["docs", "docs/checks"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|name| name == "md")));
    }
    pages
}

#[test]
fn every_command_of_the_documentation_is_understood() {
    let mut tried = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let text = text.replace("\\\n", " ");
        for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("$ ")) {
            for words in commands(line) {
                let Some(words) = of_rbuild(&words).filter(|words| words.iter().all(|word| word != "…"))
                else {
                    continue;
                };
                tried += 1;
                if let Err(shown) = args::parse(words) {
                    assert!(!shown.use_stderr(), "{}: {line}\n{shown}", page.display());
                }
            }
        }
    }
    assert!(tried > 60, "only {tried} commands were found");
}

#[test]
fn lines_are_split_as_a_shell_does() {
    let line = "A=1 sudo rbuild --build-arg 'a=b c' -t \"$(git x)\" . >out | sort # all of it";
    let found = commands(line);
    assert_eq!(found[1], ["sort"]);
    let words = of_rbuild(&found[0]).unwrap();
    assert_eq!(words, ["rbuild", "--build-arg", "a=b c", "-t", "$(git x)", "."]);
}
