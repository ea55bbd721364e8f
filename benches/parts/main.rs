//! Times the parts of a build, each alone: `cargo bench [-- [--runs N] [--dir DIR] [PART…]]`.
//!
//! A part is chosen by any piece of its name; each prints the median and the least of its runs, after one that does
//! not count. `--dir` gives `scan` and `write` a folder of yours instead of the made one. The figures that the files
//! name are of two cores of an AMD EPYC that had other work, too.
//!
//! `--count TIMES NAME` does the fixed work of [`COUNTED`] and prints nothing; `benches/instructions` counts what that
//! costs.

#![allow(clippy::disallowed_methods, reason = "benches make their own files")]

mod ignore;
mod index;
mod key;
mod no_op;
mod parse;
mod plan;
mod scan;
mod tree;
mod unpack;
mod write;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// As in the program, which allocates this way when it is linked with musl.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is timed, prepared.
type Work = Box<dyn FnMut()>;

/// A name, and how its work is prepared.
type Case = (&'static str, fn(&Setting) -> Work);

/// What parts may use.
struct Setting {
    /// A folder that is empty at first and goes with the process.
    scratch: PathBuf,
    /// The folder of `--dir`.
    given: Option<PathBuf>,
}

const TIMED: &[Case] = &[
    ("parse 15,000 lines", |_| parse::long(15_000)),
    ("check 15,000 lines", |_| parse::checks(15_000)),
    ("plan a realistic file", |_| plan::realistic()),
    ("plan 1,000 stages", |_| plan::many(1_000)),
    ("key of 10,000 files", |_| key::of_files(10_000)),
    ("ignore 10,000 files", |_| ignore::matching(10_000)),
    ("scan 10,000 files, cold", |setting| scan::cold(setting)),
    ("scan 10,000 files, warm", |setting| scan::warm(setting)),
    ("write gzip", |setting| write::tree(setting, write::GZIP)),
    ("write level 6", |setting| write::tree(setting, write::GZIP_6)),
    ("write zstd", |setting| write::tree(setting, write::ZSTD)),
    ("write estargz", |setting| write::tree(setting, write::ESTARGZ)),
    ("write uncompressed", |setting| write::tree(setting, write::NONE)),
    ("index 10,000 entries from a layer", |_| index::read(10_000)),
    ("index 10,000 entries at hand", |_| index::from_entries(10_000)),
    ("index 10,000 entries from its file", |_| index::load(10_000)),
    ("unpack 10,000 files", |setting| unpack::into_empty(setting, 10_000)),
    ("no-op build, 10,000 files", |setting| no_op::build(setting, 10_000)),
    ("hostile text", |_| parse::hostile()),
];

/// Nothing here reads a clock or a file, and only writing and reading whole layers starts threads.
const COUNTED: &[Case] = &[
    ("parse", |_| parse::long(5_000)),
    ("plan", |_| plan::many(200)),
    ("key", |_| key::of_files(5_000)),
    ("ignore", |_| ignore::matching(5_000)),
    ("write-gzip", |_| write::memory(100, write::GZIP)),
    ("write-zstd", |_| write::memory(100, write::ZSTD)),
    ("headers", |_| write::headers(2_000)),
    ("read-headers", |_| index::read_unhashed(2_000)),
    ("index", |_| index::from_entries(2_000)),
];

fn main() {
    let mut runs = 11;
    let mut given = None;
    let mut wanted = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--runs" => runs = number(args.next()),
            "--dir" => given = args.next().map(PathBuf::from),
            "--count" => return count(number(args.next()), &args.next().unwrap_or_default()),
            // What cargo adds.
            "--bench" => {}
            _ => wanted.push(arg),
        }
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (number, (name, prepare)) in TIMED.iter().enumerate() {
        if wanted.is_empty() || wanted.iter().any(|piece| name.contains(piece.as_str())) {
            let scratch = dir.path().join(number.to_string());
            std::fs::create_dir(&scratch).expect("a folder for this part");
            let mut work = prepare(&Setting { scratch: scratch.clone(), given: given.clone() });
            time(name, runs, &mut work);
            std::fs::remove_dir_all(scratch).expect("what was made can be removed");
        }
    }
}

fn number(arg: Option<String>) -> usize {
    arg.and_then(|arg| arg.parse().ok()).filter(|&number| number > 0).expect("a number above zero")
}

fn time(name: &str, runs: usize, work: &mut Work) {
    work();
    let mut times: Vec<Duration> = (0..runs).map(|_| once(work)).collect();
    times.sort();
    let [median, least] = [times[runs / 2], times[0]].map(|time| time.as_secs_f64() * 1e3);
    let _ = writeln!(std::io::stderr(), "{name:36} {median:10.3} ms, least {least:.3} ms");
}

fn once(work: &mut Work) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Prepares, then works so many times: twice less once is the work alone, without preparing and starting.
fn count(times: usize, name: &str) {
    let found = COUNTED.iter().find(|(known, _)| *known == name);
    let (_, prepare) = found.expect("a name from the list");
    let mut work = prepare(&Setting { scratch: PathBuf::new(), given: None });
    (0..times).for_each(|_| work());
}
