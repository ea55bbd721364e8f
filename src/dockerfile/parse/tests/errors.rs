//! What wrong files are told, with the text that the message points at.

use super::parse;
use crate::dockerfile::{
    MAX_ERRORS, MAX_HEREDOCS, MAX_INSTRUCTIONS, MAX_LINE_BYTES, MAX_SOURCE_BYTES, MAX_STAGES,
};
use crate::report::Diagnostic;

/// `line:column «text» message (help)` of each error.
fn errors(text: &str) -> Vec<String> {
    parse(text).expect_err(text).iter().map(|error| line(error, text)).collect()
}

fn line(error: &Diagnostic, text: &str) -> String {
    let span = error.labels[0].span;
    let (line, column) = error.source.as_ref().unwrap().line_column(span.start);
    let marked = &text[span.start as usize..span.end as usize];
    let help = error.help.iter().map(|help| format!(" ({help})")).collect::<String>();
    format!("{line}:{column} «{marked}» {}{help}", error.message)
}

/// Checks the one error of what follows `FROM a`.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(errors(&format!("FROM a\n{text}")), [*expected], "{text}");
    }
}

#[test]
fn unknown_words() {
    check(&[
        ("RUNN x", "2:1 «RUNN» unknown instruction: RUNN (did you mean `RUN`?)"),
        ("FORM x", "2:1 «FORM» unknown instruction: FORM (did you mean `FROM`?)"),
        ("something", "2:1 «something» unknown instruction: something"),
        ("COPY --form=x a b", "2:6 «--form» unknown flag: --form (did you mean `--from`?)"),
        (
            "RUN --zzzzz x",
            "2:5 «--zzzzz» unknown flag: --zzzzz (its flags are `--mount`, `--network`, `--security`, `--device`)",
        ),
        ("ENV --a=b x=y", "2:5 «--a» unknown flag: --a (this instruction has no flags)"),
        ("ONBUILD RNU x", "2:9 «RNU» unknown instruction: RNU (did you mean `RUN`?)"),
    ]);
}

#[test]
fn flags() {
    check(&[
        (
            "COPY --chown a b",
            "2:6 «--chown» missing a value on flag: --chown (write `--chown=VALUE`, without blanks)",
        ),
        (
            "COPY --link= a b",
            "2:6 «--link=» missing a value on flag: --link (write `--link=VALUE`, without blanks)",
        ),
        ("COPY --link=maybe a b", "2:13 «maybe» expecting boolean value for flag --link, not: maybe"),
        ("COPY --chown=1 \\\n --chown=2 a b", "3:2 «--chown=2» duplicate flag specified: --chown"),
        ("COPY --link --link a b", "2:13 «--link» duplicate flag specified: --link"),
        (
            "RUN --network=moon x",
            "2:15 «moon» invalid network mode `moon` (allowed are `default`, `none`, `host`)",
        ),
        (
            "RUN --security=lax x",
            "2:16 «lax» invalid security mode `lax` (allowed are `insecure`, `sandbox`)",
        ),
        (
            "RUN --mount=from=$x x",
            "2:13 «from=$x» `from` doesn't support variable expansion, define alias stage instead",
        ),
        ("RUN --mount=a\\\"b x", "2:13 «a\\\"b» failed to parse csv mounts: bare \" in non-quoted field"),
        (
            "RUN --device=a,nmae=b x",
            "2:14 «a,nmae=b» unexpected key `nmae` in `nmae=b` (did you mean `name`?)",
        ),
    ]);
}

#[test]
fn arguments() {
    check(&[
        ("FROM", "2:1 «FROM» FROM requires either one or three arguments"),
        ("FROM a b", "2:6 «a b» FROM requires either one or three arguments (write `FROM a AS b`)"),
        ("FROM a is b", "2:6 «a is b» FROM requires either one or three arguments"),
        ("FROM a as b c", "2:6 «a as b c» FROM requires either one or three arguments"),
        (
            "FROM a AS 1st",
            "2:11 «1st» invalid name for build stage: `1st`, name can't start with a number or contain symbols",
        ),
        (
            "COPY a",
            "2:6 «a» COPY requires at least two arguments, but only one was provided. Destination could not be determined (write `COPY a DESTINATION`; `.` is the working directory)",
        ),
        ("COPY a <<E\nE\n", "2:8 «<<E» COPY cannot accept a heredoc as a destination"),
        (
            "COPY [\"a\", 1]",
            "2:6 «[\"a\", 1]» when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("ENV a", "2:5 «a» ENV must have two arguments (write `ENV a=VALUE`)"),
        ("ENV", "2:1 «ENV» ENV requires at least one argument"),
        ("ENV =a", "2:5 «=a» ENV names can not be blank"),
        (
            "ENV a=b c",
            "2:9 «c» syntax error - can't find = in `c`. Must be of the form: name=value (quote values that hold blanks: `name=\"two words\"`)",
        ),
        ("LABEL =a", "2:7 «=a» LABEL names can not be blank"),
        ("ARG", "2:1 «ARG» ARG requires at least one argument (write `ARG NAME` or `ARG NAME=DEFAULT`)"),
        ("ARG =a", "2:5 «=a» ARG names can not be blank"),
        (
            "EXPOSE",
            "2:1 «EXPOSE» EXPOSE requires at least one argument (write `EXPOSE PORT`, such as `EXPOSE 80`)",
        ),
        ("VOLUME []", "2:1 «VOLUME» VOLUME requires at least one argument (write `VOLUME /PATH`)"),
        ("VOLUME [\"/a\", \" \"]", "2:15 «\" \"» VOLUME specified can not be an empty string"),
        ("workdir", "2:1 «workdir» WORKDIR requires exactly one argument (write `WORKDIR /PATH`)"),
        (
            "STOPSIGNAL",
            "2:1 «STOPSIGNAL» STOPSIGNAL requires exactly one argument (write `STOPSIGNAL SIGTERM`)",
        ),
        ("SHELL", "2:1 «SHELL» SHELL requires at least one argument"),
        ("SHELL []", "2:1 «SHELL» SHELL requires at least one argument"),
        (
            "SHELL a",
            "2:7 «a» SHELL requires the arguments to be in JSON form (write `SHELL [\"/bin/sh\", \"-c\"]`)",
        ),
        ("ONBUILD", "2:1 «ONBUILD» ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN a", "2:9 «ONBUILD» chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from a", "2:9 «from» FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "2:9 «MAINTAINER» MAINTAINER isn't allowed as an ONBUILD trigger"),
        (
            "ONBUILD USER \\\n",
            "2:9 «USER» USER requires exactly one argument (write `USER NAME` or `USER UID:GID`)",
        ),
    ]);
}

#[test]
fn healthchecks() {
    check(&[
        ("HEALTHCHECK", "2:1 «HEALTHCHECK» HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "2:18 «x» HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK PING x", "2:13 «PING» unknown type `PING` in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK CMD", "2:13 «CMD» missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "2:13 «CMD» missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=1us CMD x", "2:24 «1us» interval `interval` cannot be less than 1ms"),
        ("HEALTHCHECK --timeout=-1s CMD x", "2:23 «-1s» interval `timeout` cannot be less than 1ms"),
        (
            "HEALTHCHECK --timeout=5 CMD x",
            "2:23 «5» invalid duration `5` for --timeout (write a number with a unit: `500ms`, `30s`, `5m`, `1h30m`)",
        ),
        ("HEALTHCHECK --retries=-1 CMD x", "2:23 «-1» --retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=x CMD x", "2:23 «x» invalid number `x` for --retries"),
    ]);
}

#[test]
fn heredocs() {
    let help = |name: &str| format!("(end it with a line that holds `{name}` and nothing else)");
    check(&[
        ("RUN <<EOF\nx\n", &format!("2:5 «<<EOF» unterminated heredoc {}", help("EOF"))),
        ("RUN <<E\n E\nE ", &format!("2:5 «<<E» unterminated heredoc {}", help("E"))),
        ("RUN a 3<<-A <<B\n\tA\nx", &format!("2:13 «<<B» unterminated heredoc {}", help("B"))),
        (
            "CMD <<EOF\necho\nEOF\n",
            "3:1 «echo» unknown instruction: echo (CMD takes no here-document; RUN, COPY and ADD do)",
        ),
        ("RUNN <<E\nx\nE", "2:1 «RUNN» unknown instruction: RUNN (did you mean `RUN`?)"),
    ]);
}

#[test]
fn whole_files() {
    for (text, expected) in [
        ("", "1:1 «» the Dockerfile cannot be empty (a Dockerfile begins with `FROM IMAGE`)"),
        ("\n# c\n", "1:1 «» file with no instructions (a Dockerfile needs a `FROM IMAGE`)"),
        (
            "ARG a",
            "1:1 «ARG a» dockerfile contains no stages to build: no build stage in current context (a Dockerfile needs a `FROM IMAGE`)",
        ),
        (
            "ARG a\nRUN x\nFROM a",
            "2:1 «RUN» no build stage in current context (begin with `FROM IMAGE`; only ARG may stand before it)",
        ),
        ("FORM a\nRUN x", "1:1 «FORM» unknown instruction: FORM (did you mean `FROM`?)"),
        (
            "# escape=x\nnonsense",
            "1:1 «# escape=x» invalid escape token `x` (write `# escape=\\` or ``# escape=` ``)",
        ),
        ("# escape=`\n# Escape=`\nFROM a", "2:1 «# Escape=`» only one escape parser directive can be used"),
        (
            "# check=what\nFROM a",
            "1:1 «# check=what» failed to parse check options: invalid check option `what`",
        ),
        (
            "# check=error=x\nFROM a",
            "1:1 «# check=error=x» failed to parse check options: invalid check option `error=x`",
        ),
        (
            "// syntax=other/thing\nhello {}",
            "1:1 «// syntax=other/thing» the file asks for the frontend `other/thing` and is no Dockerfile (rbuild reads Dockerfiles only)",
        ),
        (
            "{\"syntax\": \"x\"}",
            "1:1 «{\"syntax\": \"x\"}» the file asks for the frontend `x` and is no Dockerfile (rbuild reads Dockerfiles only)",
        ),
    ] {
        assert_eq!(errors(text), [expected], "{text}");
    }
}

#[test]
fn several_errors_at_once() {
    let found = errors("FROM a\nRUNN x\nCOPY y\nRUN ok\nblah\nblah\nUSER\nEXPSE 1");
    let messages = ["RUNN", "COPY requires", "blah", "USER requires", "EXPSE"];
    assert_eq!(found.len(), messages.len(), "{found:#?}");
    found.iter().zip(messages).for_each(|(error, part)| assert!(error.contains(part), "{error}"));
    assert_eq!(errors(&format!("FROM a\n{}", "USER\n".repeat(100))).len(), MAX_ERRORS);
}

#[test]
fn bounds() {
    let message = |text: &str| parse(text).unwrap_err()[0].message.clone();
    assert!(message(&"#\n".repeat(MAX_SOURCE_BYTES / 2 + 1)).contains("larger than"));
    assert!(message(&format!("FROM a\nRUN {}", "x".repeat(MAX_LINE_BYTES))).contains("longer than"));
    assert!(message(&"FROM a\n".repeat(MAX_STAGES + 1)).contains("stages"));
    assert!(message(&format!("FROM a\n{}", "CMD\n".repeat(MAX_INSTRUCTIONS))).contains("instructions"));
    let markers = " <<E".repeat(MAX_HEREDOCS + 1);
    let bodies = "E\n".repeat(MAX_HEREDOCS + 1);
    assert!(message(&format!("FROM a\nRUN{markers}\n{bodies}")).contains("here-documents"));
    let large = "x".repeat(1 << 20);
    let large = format!("FROM a\nCOPY{} /x\n{}{large}\nE\n", " <<E".repeat(100), "E\n".repeat(99));
    assert!(message(&large).contains("too large together"));
    assert!(message(&format!("FROM a\n{} x", "R".repeat(10_000))).len() < 500);
}

#[test]
fn many_wrong_directives_are_reported_up_to_the_limit() {
    for escape in ["`", "xx"] {
        let text = format!("# escape={escape}\n{}FROM scratch\n", "# escape=`\n".repeat(3 * MAX_ERRORS));
        assert_eq!(errors(&text).len(), MAX_ERRORS, "{escape}");
    }
}
