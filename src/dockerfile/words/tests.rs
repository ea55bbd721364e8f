#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;

fn env() -> BTreeMap<String, String> {
    let pairs = [
        ("HOME", "/home"),
        ("SHELL", "bash"),
        ("NULL", ""),
        ("한국", "한국어"),
        ("blanks", " ab  c "),
        ("path", "/usr/local/lib/libx.so.1.2"),
        ("file", "a-b-c.tar.gz"),
        ("star", "a*b?c"),
        ("lines", "one\ntwo"),
    ];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The text, or `error: …` of the fault alone.
fn expanded(word: &str, escape: char) -> String {
    match expand(word, escape, &env()) {
        Ok(expanded) => expanded.text,
        Err(error) => format!("error: {}", error.fault),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (word, expected) in cases {
        assert_eq!(expanded(word, '\\'), *expected, "{word}");
    }
}

#[test]
fn quotes_and_escapes() {
    check(&[
        ("", ""),
        ("plain", "plain"),
        ("two words", "two words"),
        ("a'b c'd", "ab cd"),
        ("a'$HOME\\'d", "a$HOME\\d"),
        ("a'b", "error: unexpected end of statement while looking for matching single-quote"),
        ("a\"b", "error: unexpected end of statement while looking for matching double-quote"),
        ("\"a\\", "error: unexpected end of statement while looking for matching double-quote"),
        ("a\\'b", "a'b"),
        ("a\\tb\\\\c\\", "atb\\c"),
        ("\"a\\tb\\\\c\\\"d\\$HOME\"", "a\\tb\\c\"d$HOME"),
        ("\"it's $HOME\"", "it's /home"),
        ("'say \"$HOME\"'", "say \"$HOME\""),
        ("\"\"''", ""),
        ("안'녕'\\하", "안녕하"),
        ("a < b << c <<< d", "a < b << c <<< d"),
    ]);
}

#[test]
fn another_escape() {
    assert_eq!(expanded("C:\\dir`$HOME", '`'), "C:\\dir$HOME");
    assert_eq!(expanded("\"C:\\dir`\"`$\"", '`'), "C:\\dir\"$");
    assert_eq!(expanded("${file%`.gz}", '`'), "a-b-c.tar.gz");
}

#[test]
fn plain_variables() {
    check(&[
        ("$HOME", "/home"),
        ("x$HOME/y", "x/home/y"),
        ("${HOME}y", "/homey"),
        ("$HOMEy|", "|"),
        ("$", "$"),
        ("$.", "$."),
        ("a$ b", "a$ b"),
        ("$1x$10y$999z", "xyz"),
        ("$@@ $* $# $? $- $$ $! $0", "@       "),
        ("\\$HOME \\${HOME}", "$HOME ${HOME}"),
        ("\\\\$HOME", "\\/home"),
        ("$한국.", "한국어."),
        ("${HOME}}", "/home}"),
        ("${}", "error: syntax error: bad substitution"),
        ("${:x}", "error: syntax error: bad substitution"),
        ("${{x}", "error: syntax error: bad substitution"),
        ("${", "error: syntax error: missing '}'"),
        ("${HOME", "error: syntax error: missing '}'"),
        ("${HOME:", "error: syntax error: missing '}'"),
        ("${HOME:-x", "error: syntax error: missing '}'"),
        ("${.}", "error: unsupported modifier (.) in substitution"),
        ("${HOME x}", "error: unsupported modifier ( ) in substitution"),
    ]);
}

#[test]
fn defaults_and_alternatives() {
    check(&[
        ("${HOME:-w}${HOME-w}", "/home/home"),
        ("${NULL:-w}|${NULL-w}", "w|"),
        ("${NO:-w}|${NO-w}", "w|w"),
        ("${HOME:+w}|${HOME+w}", "w|w"),
        ("${NULL:+w}|${NULL+w}", "|w"),
        ("${NO:+w}|${NO+w}", "|"),
        ("${NO:-$HOME/${SHELL}}", "/home/bash"),
        ("${NO:-${NO:-${NO:-deep}}}", "deep"),
        ("${NO:-a b}", "a b"),
        ("${NO:-\"}\"'}'}", "}}"),
        ("${NO:-\\}}", "}"),
        ("${NO:-}", ""),
        ("${1:-w}${@:-v}", "wv"),
        ("\"${NO:-\"x\"}\"", "x"),
        ("${HOME:=w}", "error: unsupported modifier (:=) in substitution"),
        ("${HOME=w}", "error: unsupported modifier (=) in substitution"),
        ("${HOME:w}", "error: unsupported modifier (:w) in substitution"),
        ("${HOME:#w}", "error: unsupported modifier (:#) in substitution"),
    ]);
}

#[test]
fn required_variables() {
    check(&[
        ("${HOME?}${HOME:?}${NULL?}", "/home/home"),
        ("${NULL:?}", "error: NULL: is not allowed to be empty"),
        ("${NULL:?say $HOME}", "error: NULL: say /home"),
        ("${NO?}", "error: NO: is not allowed to be unset"),
        ("${NO:?}", "error: NO: is not allowed to be unset"),
        ("${NO:?set it}", "error: NO: set it"),
    ]);
}

#[test]
fn prefixes_and_suffixes() {
    check(&[
        ("${path#*/}", "usr/local/lib/libx.so.1.2"),
        ("${path##*/}", "libx.so.1.2"),
        ("${path%.*}", "/usr/local/lib/libx.so.1"),
        ("${path%%.*}", "/usr/local/lib/libx"),
        ("${path%/*}", "/usr/local/lib"),
        ("${path#x}${path%x}|", "/usr/local/lib/libx.so.1.2/usr/local/lib/libx.so.1.2|"),
        ("${file#?-}", "b-c.tar.gz"),
        ("${file##?-}", "b-c.tar.gz"),
        ("${file%%-*}", "a"),
        ("${file#}", "a-b-c.tar.gz"),
        ("${file##*}", ""),
        ("${file#*}", "a-b-c.tar.gz"),
        ("${star#a\\*}", "b?c"),
        ("${star%\\?c}", "a*b"),
        ("${NO#x}|${NO%x}", "|"),
        ("${file#[a]}", "a-b-c.tar.gz"),
        ("${lines#*t}", "one\ntwo"),
        ("${file#\\x}", "error: invalid pattern (\\x) in substitution: invalid escape '\\x'"),
        ("${file%$SHELL}", "a-b-c.tar.gz"),
    ]);
}

#[test]
fn replacements() {
    check(&[
        ("${file/-/_}", "a_b-c.tar.gz"),
        ("${file//-/_}", "a_b_c.tar.gz"),
        ("${file//-/}", "abc.tar.gz"),
        ("${file/*/x}", "x"),
        ("${file//*/x}", "x"),
        ("${file/-*-/+}", "a+c.tar.gz"),
        ("${file//?/x}", "xxxxxxxxxxxx"),
        ("${path//\\//:}", ":usr:local:lib:libx.so.1.2"),
        ("${file/no/x}", "a-b-c.tar.gz"),
        ("${SHELL//h/$HOME}", "bas/home"),
        ("${NULL//x/y}|${NULL/*/y}", "|y"),
        ("${SHELL///-}", "-b-a-s-h-"),
        ("${NO/x/y}", ""),
        ("${file/a", "error: syntax error: missing '/' in ${}"),
        ("${file/a/b", "error: syntax error: missing '}'"),
        ("${file/\\q/b}", "error: invalid pattern (\\q) in substitution: invalid escape '\\q'"),
    ]);
}

#[test]
fn splitting() {
    for (word, expected) in [
        ("hello", &["hello"][..]),
        ("  a \t b ", &["a", "b"]),
        ("a\\ b 'c  d' e\"f g\"", &["a b", "c  d", "ef g"]),
        ("x${blanks}y", &["x", "ab", "c", "y"]),
        ("x\"${blanks}\"y", &["x ab  c y"]),
        ("'' \"\" a", &["a"]),
        ("a${NO:-b c}d", &["ab", "cd"]),
        ("${NULL}", &[]),
        ("<< EOF x", &["<< EOF", "x"]),
    ] {
        assert_eq!(expand_words(word, '\\', &env()).unwrap().words, expected, "{word}");
    }
    assert!(expand_words("a 'b", '\\', &env()).is_err());
}

#[test]
fn heredocs_keep_quotes() {
    let body = "it's \"$HOME\" ${NO:-'x'} \\$HOME \\n\nback\\\nslash\n";
    let expected = "it's \"/home\" 'x' $HOME n\nback\nslash\n";
    assert_eq!(expand_heredoc(body, &env()).unwrap().text, expected);
}

#[test]
fn display_keeps_what_nobody_defines() {
    let shown =
        expand_display("echo \"$HOME\" '$HOME' $NO ${NO} ${NO:-$HOME} ${NO#a} ${NO/a/b}", '\\', &env());
    let expected = "echo \"/home\" '$HOME' $NO ${NO} ${NO:-/home} ${NO#a} ${NO/a/b}";
    assert_eq!(shown.unwrap().text, expected);
}

#[test]
fn variables_are_noted_once_each_in_order() {
    let found = expand("$B ${A:-$HOME} $B ${NULL:+$C} ${SHELL}", '\\', &env()).unwrap();
    assert_eq!(found.unset, ["B", "A", "C"]);
    assert_eq!(found.set, ["HOME", "NULL", "SHELL"]);
}

#[test]
fn lines_split_with_places() {
    let line = "COPY <<\"A B\" 3<<-E $x /x";
    let words: Vec<(String, &str)> =
        raw_words(line).into_iter().map(|word| (word.text, &line[word.range])).collect();
    let expected = ["COPY", "<<\"A B\"", "3<<-E", "$x", "/x"];
    assert_eq!(words, expected.map(|word| (word.to_owned(), word)));
    assert_eq!(raw_words("RUN 'open <<EOF"), []);
}

#[test]
fn bounds() {
    let mut env = BTreeMap::from([("A".to_owned(), "x".repeat(1 << 20))]);
    assert_eq!(expand(&"$A".repeat(17), '\\', &env).unwrap_err().fault, Fault::TooLong);
    let nested = |depth: usize| format!("{}x{}", "${B:-".repeat(depth), "}".repeat(depth));
    assert_eq!(expand(&nested(MAX_NESTING), '\\', &env).unwrap().text, "x");
    assert_eq!(expand(&nested(MAX_NESTING + 1), '\\', &env).unwrap_err().fault, Fault::TooDeep);
    assert_eq!(expand(&nested(100_000), '\\', &env).unwrap_err().fault, Fault::TooDeep);
    let costly = format!("${{A//{}y/z}}", "*x".repeat(100));
    assert_eq!(expand(&costly, '\\', &env).unwrap_err().fault, Fault::TooCostly);
    assert_eq!(expand(&"${A:+}".repeat(10), '\\', &env).unwrap_err().fault, Fault::TooCostly);
    env.insert("A".to_owned(), "x".repeat(1 << 16));
    assert_eq!(expand(&"${A##*x}".repeat(100), '\\', &env).unwrap_err().fault, Fault::TooCostly);
    assert_eq!(expand("${A///$A}", '\\', &env).unwrap_err().fault, Fault::TooLong);
}
