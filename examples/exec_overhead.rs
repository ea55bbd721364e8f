//! Measures what a RUN costs besides its command: `exec_overhead ROOT_DIRECTORY [ROUNDS] [PROGRAM]`, where
//! ROOT_DIRECTORY holds an unpacked root with /bin/true.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "it works on a folder that the user names")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rbuild::exec::{Config, Credentials, Executor, ExitStatus, Network, Printed, RootSource, Security, Spec};
use rbuild::oci::Platform;

fn main() {
    if let Some(role) = rbuild::exec::role_from_args() {
        role.run(&[]);
        return;
    }
    let mut args = std::env::args().skip(1);
    let root = PathBuf::from(args.next().expect("a root directory"));
    let rounds: usize = args.next().map_or(200, |text| text.parse().unwrap());
    let config = args
        .next()
        .map_or_else(Config::default, |program| Config { program: program.into(), ..Config::default() });
    let scratch = root.with_extension(format!("scratch-{}", std::process::id()));
    let executor = Executor::new(config);
    let mut times: Vec<Duration> =
        (0..rounds).map(|round| run_once(&executor, &root, &scratch.join(round.to_string()))).collect();
    times.sort();
    println!("min {:?}  median {:?}  p90 {:?}", times[0], times[rounds / 2], times[rounds * 9 / 10]);
    let _ = fs::remove_dir_all(scratch);
}

fn run_once(executor: &Executor, root: &std::path::Path, active: &std::path::Path) -> Duration {
    for part in ["upper", "work", "merged"] {
        fs::create_dir_all(active.join(part)).unwrap();
    }
    let spec = Spec {
        root: RootSource::Overlay {
            lowers: vec![root.to_owned()],
            upper: active.join("upper"),
            work: active.join("work"),
            merged: active.join("merged"),
        },
        args: vec!["/bin/true".into()],
        env: vec![("PATH".into(), "/bin".into())],
        cwd: "/".into(),
        credentials: Credentials { uid: 0, gid: 0, groups: vec![0], home: "/root".into() },
        hostname: "buildkitsandbox".into(),
        network: Network::Host,
        security: Security::Sandbox,
        hidden: Vec::new(),
        mounts: Vec::new(),
        hosts: "127.0.0.1\tlocalhost\n".into(),
        resolv_conf: String::new(),
        shm_size_bytes: 0,
        ulimits: Vec::new(),
        owned_paths: Vec::new(),
        platform: Platform::host(),
        limits: None,
    };
    let started = Instant::now();
    let printed = |_, printed: Printed<'_>| {
        if let Printed::Line(line) = printed {
            println!("{line}");
        }
    };
    let report = executor.run(&spec, printed).unwrap();
    let took = started.elapsed();
    assert_eq!(report.status, ExitStatus::Code(0));
    took
}
