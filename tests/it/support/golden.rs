//! Expected messages as files in `tests/golden/`.

use std::path::Path;

/// Compares `text` with `tests/golden/NAME.txt`. With `RBUILD_BLESS=1` the file is written instead.
#[track_caller]
pub fn check(name: &str, text: &str) {
    check_file(&format!("tests/golden/{name}.txt"), text);
}

/// Compares `text` with a file of the repository, line by line; `RBUILD_BLESS=1` as above.
#[track_caller]
pub fn check_file(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("RBUILD_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let differing = || {
        let (was, is): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), text.lines().collect());
        let gone = was.iter().filter(|line| !is.contains(line)).map(|line| format!("-{line}\n"));
        let new = is.iter().filter(|line| !was.contains(line)).map(|line| format!("+{line}\n"));
        gone.chain(new).collect::<String>()
    };
    assert!(
        text == expected,
        "{}:\n--- expected\n{expected}--- got\n{text}--- differing lines\n{}--- (RBUILD_BLESS=1 writes what it got)",
        file.display(),
        differing()
    );
}

/// Without what differs from run to run and from machine to machine: the world's folder, ports, digests, times.
pub fn normalise(text: &str, world: &Path) -> String {
    let text = text.replace(&world.display().to_string(), "WORLD");
    let text = replace_run(&text, "localhost:", |c| c.is_ascii_digit(), "PORT");
    let text = replace_run(&text, "127.0.0.1:", |c| c.is_ascii_digit(), "PORT");
    let text = replace_run(&text, "on port ", |c| c.is_ascii_digit(), "PORT");
    let text = replace_run(&text, "WORLD/store shell ", |c| c.is_ascii_hexdigit(), "ID");
    let text = replace_run(&text, "store/rbuild/logs/", |c| c.is_ascii_hexdigit(), "ID");
    replace_run(&text, "sha256:", |c| c.is_ascii_hexdigit(), "DIGEST").lines().map(without_duration).collect()
}

/// Replaces what follows each `prefix` as long as its characters are `of` a kind.
fn replace_run(text: &str, prefix: &str, of: impl Fn(char) -> bool, by: &str) -> String {
    let mut pieces = text.split(prefix);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(&of);
        out.push_str(prefix);
        out.push_str(if rest.len() < piece.len() { by } else { "" });
        out.push_str(rest);
    }
    out
}

/// `after 0.03s` becomes `after TIME`.
fn without_duration(line: &str) -> String {
    let is_duration = |word: &str| {
        let digits = word.strip_suffix('s').unwrap_or_default();
        digits.contains('.') && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    let shown = |word: &str| match word.strip_suffix(':').unwrap_or(word) {
        bare if is_duration(bare) => format!("TIME{}", &word[bare.len()..]),
        _ => word.to_owned(),
    };
    line.split(' ').map(shown).collect::<Vec<_>>().join(" ") + "\n"
}
