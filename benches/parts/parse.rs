//! Reading Dockerfiles, and their build checks: text to syntax. 15,000 lines take 4 ms (with mimalloc), their checks 0.5 ms; the
//! eleven texts that cost the most up to the size limit take 1.8 s together.

use std::fmt::Write as _;
use std::sync::Arc;

use rbuild::dockerfile::syntax::Dockerfile;
use rbuild::dockerfile::{MAX_SOURCE_BYTES, checks, parse};
use rbuild::report::Source;

use super::Work;

/// Parses what a generator of Dockerfiles writes.
pub(crate) fn long(lines: usize) -> Work {
    let source = source(&long_text(lines));
    Box::new(move || drop(parse(&source).expect("the file is right")))
}

/// Checks the same file.
pub(crate) fn checks(lines: usize) -> Work {
    let file = file(&long_text(lines));
    Box::new(move || drop(checks::check(&file)))
}

/// Parses each of the [`HOSTILE`] texts; some are refused.
pub(crate) fn hostile() -> Work {
    let text = |unit: &str| format!("FROM a\n{}", unit.repeat((MAX_SOURCE_BYTES - 7) / unit.len()));
    let sources: Vec<_> = HOSTILE.iter().map(|unit| source(&text(unit))).collect();
    Box::new(move || sources.iter().for_each(|source| drop(parse(source))))
}

/// Texts that, repeated up to the size limit, cost the most: the shortest instructions, many words, many lists, some
/// that are none, continuations, comments, here-documents, stages, and flags.
const HOSTILE: [&str; 11] = [
    "CMD\n",
    "ENV a=\n",
    "ENV a= a= a= a= a= a= a= a=\n",
    "CMD [\"\",\"\",\"\",\"\",\"\",\"\"]\n",
    "CMD [\"\",\"\",\"\",\"\",\"\",\"\"\n",
    "CMD \\\n\n\n\n\n\n\n\n\n",
    "CMD \\\na\\\na\\\na\\\na\\\na\n",
    "#a\n",
    "RUN <<a <<a <<a <<a\na\na\na\na\n",
    "FROM a AS b\nCMD\n",
    "RUN --mount=id= --mount=id= --mount=id= a\n",
];

/// The syntax of `text`, which is right.
pub(crate) fn file(text: &str) -> Dockerfile {
    parse(&source(text)).expect("the file is right")
}

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() })
}

fn long_text(lines: usize) -> String {
    let mut text = String::from("# syntax=docker/dockerfile:1\nARG BASE=debian:bookworm\n");
    let mut count = 2;
    let mut number = 0;
    while count < lines {
        let part = stage(number);
        count += part.lines().count();
        text.push_str(&part);
        number += 1;
    }
    text
}

/// One stage of about 25 lines.
pub(crate) fn stage(number: usize) -> String {
    let port = 8000 + number;
    let mut text = String::new();
    let _ = write!(
        text,
        "\n# Builds component {number}.\nFROM ${{BASE}} AS component-{number}\nARG VERSION=1.{number} TARGETARCH\n\
         ENV PATH=/opt/c{number}/bin:$PATH \\\n    LANG=C.UTF-8 \\\n    HOME=/home/user\n\
         RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\\n    apt-get update \\\n \
         && apt-get install -y --no-install-recommends \\\n       build-essential \\\n       curl={number} \\\n \
         && rm -rf /var/lib/apt/lists/*\nWORKDIR /src/c{number}\nCOPY --chown=1000:1000 package.json lock-{number}.json ./\n\
         COPY --from=shared [\"/out/a b\", \"/opt/\"]\nRUN <<EOF\nset -e\nmake -j ${{JOBS:-4}} all > log{number} 2>&1\nEOF\n\
         LABEL org.example.component=\"component {number}\" org.example.version=$VERSION\n\
         HEALTHCHECK --interval=30s CMD [\"/bin/check\"]\nEXPOSE {port} 443/tcp\nUSER 1000:1000\nCMD [\"/opt/c{number}/run\", \"--verbose\"]\n"
    );
    text
}
