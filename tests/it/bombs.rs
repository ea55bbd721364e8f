//! Small inputs that could cost much. Each is either refused or done, within limits on the memory and the processor time
//! of the whole process.

mod data;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rbuild::oci::{Descriptor, Digest, MediaType};

use crate::support::attack::is_long;
use crate::support::program::{Ran, World};

/// Address space, which is more than what is used: threads' stacks count whole.
const MEMORY: &str = "--as=2147483648";
/// Generous, since the program under test is not optimised; what is quadratic takes minutes.
const SECONDS: &str = "--cpu=15";

/// What becomes of a bomb.
#[derive(Clone, Copy)]
enum Fate {
    Done,
    /// The error says this.
    Refused(&'static str),
}
use Fate::{Done, Refused};

/// So many, or a tenth of it in the short form: what is quadratic shows in the long one.
fn up_to(count: usize) -> usize {
    if is_long() { count } else { count / 10 }
}

fn limited(world: &World, words: &[&str]) -> Ran {
    world.through(&["prlimit", MEMORY, SECONDS], words).any_status().any_stdout().run()
}

#[track_caller]
fn holds(name: &str, ran: &Ran, fate: Fate) {
    let told: String = ran.stderr.chars().take(2_000).collect();
    match fate {
        Done => assert_eq!(ran.status, Some(0), "{name}: {told}"),
        Refused(why) => {
            assert_eq!(ran.status, Some(1), "{name}: {told}");
            assert!(ran.stderr.contains(why), "{name}: {told}");
        }
    }
    // Messages are bounded, too: what is repeated is cut.
    assert!(ran.stderr.len() < 1 << 20, "{name} says {} bytes", ran.stderr.len());
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, at| {
        let _ = writeln!(text, "{}", line(at));
        text
    })
}

fn words(count: usize, word: impl Fn(usize) -> String) -> String {
    (0..count).map(|at| word(at) + " ").collect()
}

#[test]
fn in_a_dockerfile() {
    let scratch = "FROM scratch\n";
    let ports = "more ports than EXPOSE can list";
    let stages = |count, more: &str| {
        format!("FROM scratch AS s0\n{more}")
            + &lines(count, |at| format!("FROM s{at} AS s{}\nLABEL x={at}", at + 1))
    };
    let fan = "FROM scratch AS s\nEXPOSE 1-65535\n".to_owned()
        + &lines(up_to(1_000).max(150), |at| format!("FROM s AS s{at}\nLABEL x={at}"))
        + scratch
        + &lines(up_to(1_000).max(150), |at| format!("COPY --from=s{at} / /"));
    for (name, text, fate) in [
        ("ports in one line", format!("{scratch}EXPOSE {}", "1-65535 ".repeat(up_to(2_000))), Refused(ports)),
        (
            "ports in many lines",
            scratch.to_owned() + &"EXPOSE 1-65535\n".repeat(up_to(2_000)),
            Refused(ports),
        ),
        ("a long chain of stages", stages(up_to(4_000), ""), Done),
        ("a long chain with a large configuration", stages(up_to(1_000), "EXPOSE 1-65535\n"), Done),
        ("many stages on a large one", fan, Refused("too large to carry along")),
        (
            "one variable set often",
            scratch.to_owned() + &lines(up_to(20_000), |at| format!("ENV A={at}")),
            Done,
        ),
        (
            "many variables, each often",
            scratch.to_owned() + &lines(up_to(40_000), |at| format!("ENV A{}={at}", at % up_to(9_000))),
            Done,
        ),
        (
            "too many variables",
            format!("{scratch}ENV {}", words(up_to(50_000).max(10_001), |at| format!("A{at}=1"))),
            Refused("more than 10000 variables"),
        ),
        (
            "arguments that lead to each other",
            lines(up_to(20_000), |at| format!("ARG A{}=$A{at}x", at + 1)) + scratch,
            Done,
        ),
        (
            "a word that doubles",
            format!("{scratch}ARG A=xxxxxxxx\n{}", "ARG A=$A$A\n".repeat(60)),
            Refused("more than 1048576 bytes"),
        ),
        (
            "undefined variables",
            format!("{scratch}ENV {}\n", words(up_to(5_000), |at| format!("A{at}=1")))
                + &lines(up_to(20_000), |at| format!("LABEL a=$B{at}")),
            Done,
        ),
        (
            "many images",
            scratch.to_owned() + &lines(up_to(20_000), |at| format!("COPY --from=i{at} / /")),
            Refused("no registry may be asked"),
        ),
        (
            "many mounts",
            format!(
                "{scratch}RUN {} true",
                words(up_to(10_000), |at| format!("--mount=type=tmpfs,target=/{at}"))
            ),
            Done,
        ),
        (
            "many here-documents",
            format!("{scratch}RUN {}\n", words(1_000, |at| format!("<<E{at}")))
                + &lines(1_000, |at| format!("x\nE{at}")),
            Done,
        ),
        (
            "triggers",
            "FROM scratch AS a\n".to_owned() + &"ONBUILD LABEL a=1\n".repeat(up_to(20_000)) + "FROM a\n",
            Done,
        ),
        (
            "labels and volumes",
            format!(
                "{scratch}LABEL {}\nVOLUME {}",
                words(up_to(50_000), |at| format!("a{at}=1")),
                words(up_to(50_000), |at| format!("/a{at}"))
            ),
            Done,
        ),
        ("deep JSON", format!("{scratch}CMD {}\n", "[".repeat(up_to(500_000))), Done),
        (
            "unknown instructions",
            scratch.to_owned() + &"FOO x\n".repeat(up_to(50_000)),
            Refused("unknown instruction"),
        ),
        (
            "a name of 200 kB",
            format!("{scratch}COPY --from={} / /\n", "A".repeat(200_000)),
            Refused("AAAA…AAAA"),
        ),
    ] {
        let world = World::new();
        world.dockerfile(&text);
        holds(name, &limited(&world, &["plan", "--offline", "."]), fate);
    }
    let world = World::new();
    world.dockerfile(&format!("{scratch}EXPOSE {}\n", "1-65535 ".repeat(up_to(2_000))));
    let ran = limited(&world, &["build", "--check", "."]);
    assert_eq!(ran.status, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains(ports), "{}", ran.stdout);
}

#[test]
fn in_a_base_image() {
    let list = |count, entry: &dyn Fn(usize) -> String| (0..count).map(entry).collect::<Vec<_>>().join(",");
    let refused = "more than 10000 variables in one stage";
    for (name, config, fate) in [
        (
            "variables",
            format!(r#""Env":[{}]"#, list(up_to(200_000), &|at| format!(r#""A{at}=1""#))),
            Refused(refused),
        ),
        (
            "labels",
            format!(r#""Labels":{{{}}}"#, list(up_to(200_000), &|at| format!(r#""A{at}":"1""#))),
            Done,
        ),
        (
            "volumes",
            format!(r#""Volumes":{{{}}}"#, list(up_to(200_000), &|at| format!(r#""/A{at}":{{}}"#))),
            Done,
        ),
        (
            "triggers",
            format!(r#""OnBuild":[{}]"#, list(up_to(50_000), &|_| r#""LABEL a=1""#.to_owned())),
            Done,
        ),
        (
            "ports of a trigger",
            format!(r#""OnBuild":["EXPOSE {}"]"#, "1-65535 ".repeat(up_to(2_000))),
            Refused("more ports"),
        ),
        ("depth", format!(r#""Foo":{}{}"#, "[".repeat(100_000), "]".repeat(100_000)), Done),
    ] {
        let world = World::new();
        world.dockerfile("FROM base\nLABEL x=1\nENV B=1\n");
        layout(&world.path().join("home/base"), &format!(r#"{{{config}}}"#), "");
        let base = format!("base=oci-layout://{}", world.path().join("home/base").display());
        holds(name, &limited(&world, &["plan", "--build-context", &base, "."]), fate);
    }
    let world = World::new();
    world.dockerfile("FROM base\nLABEL x=1\n");
    let entry = r#"{"created_by":"x","empty_layer":true}"#;
    layout(&world.path().join("home/base"), "{}", &list(up_to(100_000), &|_| entry.to_owned()));
    let base = format!("base=oci-layout://{}", world.path().join("home/base").display());
    holds("history", &limited(&world, &["build", "--progress=quiet", "--build-context", &base, "."]), Done);
}

/// An image without layers whose configuration has this `config` and this history.
fn layout(path: &Path, config: &str, history: &str) {
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: MediaType, text: String| {
        let digest = Digest::of(text.as_bytes());
        fs::write(blobs.join(digest.hex()), &text).unwrap();
        let descriptor = Descriptor::new(media_type, digest, text.len() as u64);
        serde_json::to_string(&descriptor).unwrap()
    };
    let architecture = rbuild::oci::Platform::host().architecture;
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}},"history":[{history}]}}"#
    );
    let config = put(MediaType::CONFIG, config);
    let manifest =
        put(MediaType::MANIFEST, format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#));
    fs::write(path.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#)).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Twenty thousand rules and two thousand files in the long form: a look at each rule for each file took minutes.
#[test]
fn in_an_ignore_file() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY . /\n");
    let rules = lines(up_to(5_000), |at| {
        format!("some/where/file{at}\n**/*x{at}/deep/name{at}.o\nlib{at}/*.so\n!lib{at}/kept.so")
    });
    world.file(".dockerignore", rules);
    for folder in 0..up_to(100).max(10) {
        for file in 0..20 {
            world.file(&format!("lib{folder}/{file}.c"), "");
        }
    }
    world.file("lib7/gone.so", "").file("lib7/kept.so", "");
    holds("rules", &limited(&world, &["build", "--progress=quiet", "-o", "../out", "."]), Done);
    assert!(world.path().join("out/lib7/kept.so").exists() && world.path().join("out/lib7/3.c").exists());
    assert!(!world.path().join("out/lib7/gone.so").exists());
}

/// A command that prints without end into a terminal, or a log of CI, that takes nothing for a while.
#[test]
fn in_the_output_of_a_step() {
    use crate::support::base::busybox_registry;
    if !crate::support::is_root() {
        crate::support::skip!("the limits on the process are those of its namespaces' processes, too");
    }
    let registry = busybox_registry();
    let world = World::new();
    // 20 MiB in lines of 1,000 bytes.
    let loud = "RUN yes $(printf %999s x | tr ' ' y) | head -c 20971520";
    world.dockerfile(&format!("FROM {}/busybox\n{loud}\n", registry.host()));
    let ran = limited(&world, &["build", "--progress=plain", "."]);
    assert_eq!(ran.status, Some(0));
    let shown = ran.stderr.len();
    assert!(ran.stderr.contains("[output clipped, 16 MiB are shown of a step; `rbuild logs`"), "{shown}");
    assert!((16 << 20..20 << 20).contains(&shown), "{shown}");
}
