//! What right files mean, as listings.

use super::{parse, source};
use crate::dockerfile::listing::{instruction, list};
use crate::dockerfile::parse_trigger;
use crate::dockerfile::syntax::SyntaxWarningKind;
use crate::report::Span;

/// Checks what instructions behind `FROM a` mean; lines of here-documents follow behind `|`.
#[track_caller]
fn check(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let file = parse(&format!("FROM a\n{text}")).unwrap_or_else(|errors| panic!("{text}: {errors:#?}"));
        let lines: Vec<String> = list(&file).iter().map(|line| line.replace("\n  ", " ")).collect();
        assert_eq!(lines[1..], **expected, "{text}");
    }
}

#[test]
fn lines_and_continuations() {
    check(&[
        ("RUN a\\\nb", &[r#"run "ab""#]),
        ("RUN a \\\n  b \\ \t\n c", &[r#"run "a   b  c""#]),
        ("RUN a \\\n# comment\n  # another \\\n b", &[r#"run "a  b""#]),
        ("RUN a \\\n\n \t\n b", &[r#"run "a  b""#]),
        ("RUN a \\\\\nRUN b", &[r#"run "a \\\\""#, r#"run "b""#]),
        ("RUN a \\\r\n b\r\nRUN c\r\n", &[r#"run "a  b""#, r#"run "c""#]),
        ("RUN a \\", &[r#"run "a""#]),
        ("RUN a \\\n", &[r#"run "a""#]),
        ("\\\nRUN a", &[r#"run "a""#]),
        ("R\\\nUN a", &[r#"run "a""#]),
        ("\t RUN\ta", &[r#"run "a""#]),
        ("# c\n\n  # d\nRUN a # no comment", &[r#"run "a # no comment""#]),
        ("rUn a", &[r#"run "a""#]),
        ("RUN", &[r#"run """#]),
    ]);
}

#[test]
fn preambles() {
    for (text, escape, syntax, expected) in [
        ("FROM a\nRUN b", '\\', None, r#"run "b""#),
        ("\u{feff}FROM a\nRUN b", '\\', None, r#"run "b""#),
        ("# escape=`\nFROM a\nRUN b `\n c\\", '`', None, r#"run "b  c\\""#),
        ("#ESCAPE = ` \r\nFROM a\r\nRUN b", '`', None, r#"run "b""#),
        ("\u{feff} # escape=`\nFROM a\nRUN b", '`', None, r#"run "b""#),
        ("# syntax=d/d:1 x\n# escape=`\nFROM a\nRUN b", '`', Some("d/d:1"), r#"run "b""#),
        ("# hello\n# escape=`\nFROM a\nRUN b", '\\', None, r#"run "b""#),
        ("\n# escape=`\nFROM a\nRUN b", '\\', None, r#"run "b""#),
        ("# foo=bar\n# escape=`\nFROM a\nRUN b", '\\', None, r#"run "b""#),
        ("#!/usr/bin/env x\n# escape=`\n# syntax=s\nFROM a\nRUN b", '\\', Some("s"), r#"run "b""#),
    ] {
        let file = parse(text).unwrap();
        assert_eq!(file.directives.escape, escape, "{text}");
        assert_eq!(file.directives.syntax.as_ref().map(|word| word.text.as_str()), syntax, "{text}");
        assert_eq!(list(&file)[1], expected, "{text}");
    }
    let check = |text| parse(text).unwrap().directives.check.unwrap();
    let found = check("# check=skip=A, B;error=true\nFROM a");
    assert_eq!((found.skip, found.error), (vec!["A".to_owned(), String::new()], false));
    let found = check("# check=skip=A,B;error=true;experimental=all\nFROM a");
    assert_eq!((found.skip.len(), found.error, found.experimental), (2, true, vec!["all".to_owned()]));
}

#[test]
fn comments_above() {
    let file = parse("# escape=\\\n# one\n#\n# two\n\n# three\nARG a\nFROM b\n").unwrap();
    assert_eq!(file.global_args[0].comment, "two\nthree");
    assert_eq!(file.stages[0].from.comment, "");
}

#[test]
fn stages() {
    let file = parse("ARG V=1\nfrom --platform=$P a:$V aS Build.1-x_y\nRUN x\nFROM scratch\n").unwrap();
    let expected = [
        r#"arg "V"="1""#,
        r#"from "a:$V" platform="$P" as "Build.1-x_y""#,
        r#"run "x""#,
        r#"from "scratch""#,
    ];
    assert_eq!(list(&file), expected);
    assert_eq!(file.stages[0].from.as_keyword.as_ref().unwrap().text, "aS");
}

#[test]
fn heredocs() {
    check(&[
        ("RUN <<EOF\na\nEOF\nRUN b", &[r#"run "<<EOF" 0<<"EOF" | a"#, r#"run "b""#]),
        ("RUN <<EOF\na\r\nEOF\r\n", &[r#"run "<<EOF" 0<<"EOF" | a\r"#]),
        ("RUN <<-EOF\n\ta\n\t\tEOF\n", &[r#"run "<<-EOF" 0<<"EOF" | a"#]),
        (
            "RUN cat <<A 3<<'B' \\\n x\n# no comment \\\nA\n$b\nB\n",
            &[r##"run "cat <<A 3<<'B'  x" 0<<"A" | # no comment \ 3<<"B" quoted | $b"##],
        ),
        ("RUN <<EOF\nEOF", &[r#"run "<<EOF" 0<<"EOF""#]),
        ("RUN cat << EOF\nx\nEOF", &[r#"run "cat << EOF" 0<<"EOF" | x"#]),
        ("RUN cat <<<EOF", &[r#"run "cat <<<EOF""#]),
        ("RUN echo '<<EOF'", &[r#"run "echo '<<EOF'""#]),
        ("RUN [\"<<EOF\"]", &[r#"run ["<<EOF"]"#]),
        ("RUN echo 'a <<EOF", &[r#"run "echo 'a <<EOF""#]),
        ("COPY <<a b <<-'c' /d\nx\na\n\ty\n\tc\n", &[r#"copy ["b"] -> "/d" 0<<"a" | x 0<<"c" quoted | y"#]),
        ("ADD --chmod=1 <<a /d\nx\na", &[r#"add --chmod="1" [] -> "/d" 0<<"a" | x"#]),
        (
            "ONBUILD RUN <<-E \n\tx\n\tE\nRUN y",
            &[r#"onbuild "RUN <<-E \n\tx\nE" = run "<<-E" 0<<"E" | x"#, r#"run "y""#],
        ),
    ]);
}

#[test]
fn commands() {
    check(&[
        ("CMD", &[r#"cmd """#]),
        ("CMD [ \"a\", \"b c\" ]", &[r#"cmd ["a", "b c"]"#]),
        ("CMD []", &["cmd []"]),
        ("CMD ['a']", &[r#"cmd "['a']""#]),
        ("CMD [\"a\"", &[r#"cmd "[\"a\"""#]),
        ("CMD [\"a\"] x", &[r#"cmd "[\"a\"] x""#]),
        ("ENTRYPOINT  a   b", &[r#"entrypoint "a   b""#]),
        ("SHELL [\"a\", \"-c\"]", &[r#"shell ["a", "-c"]"#]),
        (
            "RUN --mount=type=cache,target=/x --mount=\"from=a,target=/b c\" --network=none --security=insecure --device=d x",
            &[
                r#"run "type=cache,target=/x" "from=a,target=/b c" "d" network="none" security="insecure" "x""#,
            ],
        ),
        ("RUN -- --x", &[r#"run "--x""#]),
        ("RUN --network=host -- --x", &[r#"run network="host" "--x""#]),
        ("RUN - --x", &[r#"run "- --x""#]),
        ("HEALTHCHECK none", &["healthcheck none"]),
        ("HEALTHCHECK CMD a b", &[r#"healthcheck "a b" - - - - -"#]),
        (
            "HEALTHCHECK --interval=1m30s --timeout=0 --start-period=1ms --start-interval=1.5s --retries=3 cmd [\"a\"]",
            &[r#"healthcheck ["a"] 90000000000 0 1000000 1500000000 3"#],
        ),
        ("HEALTHCHECK --interval= CMD a", &[r#"healthcheck "a" - - - - -"#]),
        ("ONBUILD copy . /x", &[r#"onbuild "copy . /x" = copy ["."] -> "/x""#]),
        ("onbuild   CMD a  ", &[r#"onbuild "CMD a  " = cmd "a""#]),
    ]);
}

#[test]
fn metadata() {
    check(&[
        ("ENV a=b c=\"d e\" f=g\\ h i='j k'", &[r#"env "a"="b" "c"="\"d e\"" "f"="g\\ h" "i"="'j k'""#]),
        ("ENV a b  c=d", &[r#"env "a" "b  c=d""#]),
        ("ENV a=", &[r#"env "a"="""#]),
        ("ENV a=b=c", &[r#"env "a"="b=c""#]),
        ("ENV a=b\\", &[r#"env "a"="b""#]),
        ("LABEL \"a b\"=c", &[r#"label "\"a b\""="c""#]),
        ("ARG a b=c \"d=e f\"", &[r#"arg "a" "b"="c" "\"d"="e f\"""#]),
        ("ARG --ignored a", &[r#"arg "a""#]),
        ("EXPOSE 80 443/tcp\t90-92", &[r#"expose ["80", "443/tcp", "90-92"]"#]),
        ("VOLUME /a /b", &[r#"volume ["/a", "/b"]"#]),
        ("VOLUME [\"/a\", \" /b c \"]", &[r#"volume ["/a", "/b c"]"#]),
        ("USER a:b", &[r#"user "a:b""#]),
        ("WORKDIR  /a b ", &[r#"workdir "/a b""#]),
        ("STOPSIGNAL --x 9", &[r#"stopsignal "9""#]),
        ("MAINTAINER me <me@x>", &[r#"maintainer "me <me@x>""#]),
    ]);
}

#[test]
fn transfers() {
    check(&[
        ("COPY a b /c", &[r#"copy ["a", "b"] -> "/c""#]),
        ("COPY [\"a b\", \"/c d\"]", &[r#"copy ["a b"] -> "/c d""#]),
        (
            "COPY --from=x --chown=a:b --chmod=u+x --link --parents=false --exclude=*.o --exclude=y a /c",
            &[
                r#"copy --from="x" --chown="a:b" --chmod="u+x" --exclude="*.o" --exclude="y" --link=true --parents=false ["a"] -> "/c""#,
            ],
        ),
        ("COPY --link=TRUE --chown= a /c", &[r#"copy --link=true ["a"] -> "/c""#]),
        ("COPY --chown=\"a b\" a /c", &[r#"copy --chown="a b" ["a"] -> "/c""#]),
        ("COPY --chown=a\\ b a /c", &[r#"copy --chown="a b" ["a"] -> "/c""#]),
        ("COPY \"a b\" /c", &[r#"copy ["\"a", "b\""] -> "/c""#]),
        (
            "ADD --keep-git-dir --checksum=sha256:1 --unpack=false https://x /c",
            &[r#"add --checksum="sha256:1" --keep-git-dir=true --unpack=false ["https://x"] -> "/c""#],
        ),
    ]);
}

#[test]
fn spans_point_at_the_words() {
    let text = "\u{feff}FROM a AS é\nCOPY --from=\"x y\" \\\n # c\n  src \\\n  /dst\nENV k=\"v w\" \\\n  é=1\nRUN <<E\nb\nE\n";
    let file = parse(text);
    // `é` is no name of a stage, and the error shows it.
    let at = |span: Span| &text[span.start as usize..span.end as usize];
    assert_eq!(at(file.unwrap_err()[0].labels[0].span), "é");

    let text = text.replace("AS é", "AS e");
    let at = |span: Span| &text[span.start as usize..span.end as usize];
    let file = parse(&text).unwrap();
    let instructions = &file.stages[0].instructions;
    let debug = format!("{instructions:?}");
    for (word, expected) in [("x y", "\"x y\""), ("src", "src"), ("/dst", "/dst"), ("é", "é"), ("1", "1")] {
        let found = debug.split(&format!("text: {word:?}, span: Span {{ start: ")).nth(1).unwrap();
        let mut numbers = found.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
        let span = Span { start: numbers.next().unwrap(), end: numbers.next().unwrap() };
        assert_eq!(at(span), expected);
    }
    assert_eq!(at(instructions[0].span), "COPY --from=\"x y\" \\\n # c\n  src \\\n  /dst");
    assert_eq!(at(instructions[2].span), "RUN <<E\nb\nE");
    assert_eq!(instructions[0].text, "COPY --from=\"x y\"   src   /dst");
}

#[test]
fn warnings() {
    let kinds = |text: &str| parse(text).unwrap().warnings.into_iter().map(|w| w.kind).collect::<Vec<_>>();
    let empty = |start, end| SyntaxWarningKind::EmptyContinuation { empty: Span::new(start, end) };
    assert_eq!(kinds("FROM a\nRUN a \\\n\n\n b"), [empty(15, 15)]);
    assert_eq!(kinds("FROM a\nRUN a \\\n \n b\nRUN a \\\n\n"), [empty(15, 16), empty(28, 28)]);
    assert_eq!(kinds("FROM a\nCMD ['a']"), [SyntaxWarningKind::NotJson]);
    assert_eq!(kinds("FROM a\nCMD [\"a\",]"), [SyntaxWarningKind::NotJson]);
    assert_eq!(kinds("FROM a\nRUN [ \"$x\" = y ]\nRUN [ -f x ]\nUSER ['a']\nCMD [a]"), []);
}

#[test]
fn triggers() {
    let trigger = |text: &str| match parse_trigger(&source(text)) {
        Ok(found) => instruction(&found).replace("\n  ", " "),
        Err(errors) => errors[0].message.clone(),
    };
    for (text, expected) in [
        ("COPY . /x", r#"copy ["."] -> "/x""#),
        ("run <<E\na\nE", r#"run "<<E" 0<<"E" | a"#),
        ("MAINTAINER x", r#"maintainer "x""#),
        ("ONBUILD RUN x", r#"onbuild "RUN x" = run "x""#),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("RUN a\nRUN b", "ONBUILD trigger should be a single expression"),
        ("# c", "ONBUILD trigger should be a single expression"),
        ("", "the Dockerfile cannot be empty"),
        ("RUNN x", "unknown instruction: RUNN"),
    ] {
        assert_eq!(trigger(text), expected, "{text}");
    }
}
