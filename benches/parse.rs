//! Times reading Dockerfiles: `cargo bench --bench parse --features mimalloc [-- RUNS [CASE]]`.
//!
//! Prints the median and the least of each case. What to expect of a 15,000-line file: 5 to 6 ms.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rbuild::dockerfile::{MAX_SOURCE_BYTES, checks, parse};
use rbuild::report::Source;

/// As in the program, which allocates this way when it is linked with musl.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let runs = args.next().and_then(|runs| runs.parse().ok()).unwrap_or(51);
    let only = args.next().unwrap_or_default();
    let long = long_file(15_000);
    let wanted = |name: &str| name.contains(&only);
    if wanted("15,000 lines") {
        time("15,000 lines", runs, &long, parse);
    }
    if wanted("checks") {
        let file = parse(&source(&long)).expect("the file is right");
        time("the checks of these", runs, &long, |_| Ok::<_, ()>(checks::check(&file)));
    }
    for (name, unit) in HOSTILE.into_iter().filter(|(name, _)| wanted(name)) {
        let text = format!("FROM a\n{}", unit.repeat((MAX_SOURCE_BYTES - 7) / unit.len()));
        time(name, 3, &text, parse);
    }
}

/// Texts that, repeated up to the size limit, cost the most.
const HOSTILE: [(&str, &str); 11] = [
    ("shortest instructions", "CMD\n"),
    ("short instructions", "ENV a=\n"),
    ("many words", "ENV a= a= a= a= a= a= a= a=\n"),
    ("many lists", "CMD [\"\",\"\",\"\",\"\",\"\",\"\"]\n"),
    ("no lists", "CMD [\"\",\"\",\"\",\"\",\"\",\"\"\n"),
    ("empty continuations", "CMD \\\n\n\n\n\n\n\n\n\n"),
    ("continuations", "CMD \\\na\\\na\\\na\\\na\\\na\n"),
    ("comments", "#a\n"),
    ("here-documents", "RUN <<a <<a <<a <<a\na\na\na\na\n"),
    ("stages", "FROM a AS b\nCMD\n"),
    ("flags", "RUN --mount=id= --mount=id= --mount=id= a\n"),
];

/// What a generator of Dockerfiles writes.
fn long_file(lines: usize) -> String {
    let mut text = String::from("# syntax=docker/dockerfile:1\nARG BASE=debian:bookworm\n");
    let mut count = 2;
    let mut section = 0;
    while count < lines {
        let part = section_of(section);
        count += part.lines().count();
        text.push_str(&part);
        section += 1;
    }
    text
}

fn section_of(number: usize) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "\n# Builds component {number}.\nFROM ${{BASE}} AS component-{number}\nARG VERSION=1.{number} TARGETARCH\n\
         ENV PATH=/opt/c{number}/bin:$PATH \\\n    LANG=C.UTF-8 \\\n    HOME=/home/user\n\
         RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\\n    apt-get update \\\n \
         && apt-get install -y --no-install-recommends \\\n       build-essential \\\n       curl={number} \\\n \
         && rm -rf /var/lib/apt/lists/*\nWORKDIR /src/c{number}\nCOPY --chown=1000:1000 package.json lock-{number}.json ./\n\
         COPY --from=component-0 [\"/out/a b\", \"/opt/\"]\nRUN <<EOF\nset -e\nmake -j ${{JOBS:-4}} all > log{number} 2>&1\nEOF\n\
         LABEL org.example.component=\"component {number}\" org.example.version=$VERSION\n\
         HEALTHCHECK --interval=30s CMD [\"/bin/check\"]\nEXPOSE 80{number} 443/tcp\nUSER 1000:1000\nCMD [\"/opt/c{number}/run\", \"--verbose\"]\n"
    );
    text
}

fn time<T, E>(name: &str, runs: usize, text: &str, work: impl Fn(&Arc<Source>) -> Result<T, E>) {
    let source = source(text);
    let mut times: Vec<Duration> = Vec::new();
    let mut fine = false;
    for _ in 0..runs {
        let start = Instant::now();
        let result = work(&source);
        times.push(start.elapsed());
        fine = result.is_ok();
    }
    times.sort();
    let [ms, least] = [times[runs / 2], times[0]].map(|time| time.as_secs_f64() * 1e3);
    let lines = text.lines().count();
    let _ = writeln!(
        std::io::stderr(),
        "{name}: {ms:.3} ms, least {least:.3} ms ({} bytes, {lines} lines, {})",
        text.len(),
        if fine { "accepted" } else { "refused" }
    );
}

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() })
}
