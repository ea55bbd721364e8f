//! `--on kubernetes://…`: builds that pods do. The API server is one of the tests' own, which holds requests to the API's schema; what its
//! pods run is rbuild itself.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Project, Said};
use crate::support::kubernetes::{Cluster, Door};

const ON: &str = "--on=kubernetes://test/builds,image=registry.example/rbuild";

fn command(project: &Project, cluster: &Cluster, machine: &str, arguments: &[&str]) -> Command {
    let mut command = project.command(machine, arguments);
    command.env("KUBECONFIG", cluster.path("kubeconfig")).env("RBUILD_CONFIG", cluster.path("config.toml"));
    if !cluster.path("config.toml").exists() {
        fs::write(cluster.path("config.toml"), "").unwrap();
    }
    command
}

fn build(project: &Project, cluster: &Cluster, machine: &str, arguments: &[&str]) -> Said {
    let arguments = [&["build", "--progress=plain"], arguments, &["."]].concat();
    let output = command(project, cluster, machine, &arguments).output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn built(project: &Project, cluster: &Cluster, machine: &str, arguments: &[&str]) -> Said {
    let said = build(project, cluster, machine, arguments);
    assert_eq!(said.code, 0, "{}", said.stderr);
    said
}

/// A build that is not waited for, read up to a line that has some words.
fn begun(project: &Project, cluster: &Cluster, words: &str) -> (Child, String) {
    let arguments = ["build", "--progress=plain", ON, "."];
    let mut child = command(project, cluster, "far", &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut read = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while !read.contains(words) {
        assert!(lines.read_line(&mut read).unwrap() > 0, "{read}");
    }
    // What is in the buffer belongs to what was read.
    let mut rest = String::from_utf8(lines.buffer().to_vec()).unwrap();
    std::mem::swap(&mut rest, &mut read);
    child.stderr = Some(lines.into_inner());
    (child, rest + &read)
}

fn ended(child: Child, read: String) -> Said {
    let output = child.wait_with_output().unwrap();
    Said { code: output.status.code().unwrap_or(-1), stderr: read + &String::from_utf8_lossy(&output.stderr) }
}

#[test]
fn pods_make_what_this_machine_makes() {
    let (project, cluster) = (Project::new(), Cluster::start());
    let copies = ["--file=Copies", ON];
    let there = built(&project, &cluster, "far", &copies);
    assert_eq!(there.digest(), project.built("near", &copies[..1]).digest(), "{}", there.stderr);
    assert!(there.has("nothing to do, all from the cache"), "{}", there.stderr);
    assert!(
        there.has("2 files of the context (17 B) go to a pod of `kubernetes://test/builds`"),
        "{}",
        there.stderr
    );
    assert!(
        there.has("built on `kubernetes://test/builds`, pod `rbuild-") && there.has("on node `test-node`: "),
        "{}",
        there.stderr
    );
    // With RUN, and what the image holds; what the command says is there.
    let runs = ["--build-arg=WHO=me", ON, "--output=type=local,dest=../files", "-t=placed"];
    let first = built(&project, &cluster, "far", &runs);
    assert!(first.summary().contains("steps cached") && !first.summary().contains("ran"), "{}", first.stderr);
    let files = project.dir.path().join("files");
    assert_eq!(fs::read_to_string(files.join("said")).unwrap(), "a file me\n");
    assert!(first.has("worker: ") && first.has("a file"), "{}", first.stderr);
    // Nothing stays: neither jobs nor pods.
    assert_eq!((cluster.pods(), cluster.jobs().len()), (0, 2));
    let deleted = cluster.log().iter().filter(|line| line.starts_with("DELETE ")).count();
    assert_eq!(deleted, 2);
    // What is known is not placed again; what changed is one job, to which what is known goes along.
    let again = built(&project, &cluster, "far", &runs);
    assert!(again.has("all is in the cache: nothing was placed"), "{}", again.stderr);
    project.write("src/a", "another\n");
    let changed = built(&project, &cluster, "far", &runs);
    assert_eq!(fs::read_to_string(files.join("said")).unwrap(), "another me\n");
    assert!(
        changed.has("layers of earlier builds") && !changed.summary().contains("ran"),
        "{}",
        changed.stderr
    );
    assert_eq!(cluster.jobs().len(), 3);
    // Also where layers of other stages never came here.
    project.write("Stages", "FROM scratch AS one\nCOPY busybox /bin/sh\nRUN echo $((6*7)) > /made; echo not needed > /other\nFROM scratch\nCOPY --from=one /made /\n");
    for is_placed in [true, false] {
        let staged = built(&project, &cluster, "far", &["--file=Stages", ON]);
        assert_eq!(staged.has("built on `kubernetes://"), is_placed, "{}", staged.stderr);
        assert!(!staged.summary().contains("ran"), "{}", staged.stderr);
    }
}

#[test]
fn platforms_have_pods_of_their_own_and_one_index() {
    let (project, cluster) = (Project::new(), Cluster::start());
    let platforms = ["--file=Copies", "--platform=linux/amd64,linux/arm64"];
    let on = format!("{ON},grain=platform");
    let there = built(&project, &cluster, "far", &[&platforms[..], &[&on]].concat());
    assert_eq!(there.digest(), project.built("near", &platforms).digest(), "{}", there.stderr);
    assert!(there.has("nothing to do, all from the cache"), "{}", there.stderr);
    let mut selected: Vec<String> = cluster
        .jobs()
        .iter()
        .map(|job| {
            job["spec"]["template"]["spec"]["nodeSelector"]["kubernetes.io/arch"].as_str().unwrap().to_owned()
        })
        .collect();
    selected.sort();
    assert_eq!(selected, ["amd64", "arm64"]);
    let again = built(&project, &cluster, "far", &[&platforms[..], &[&on]].concat());
    assert_eq!(again.stderr.matches("nothing was placed").count(), 2, "{}", again.stderr);
}

#[test]
fn a_repository_keeps_its_volume_and_what_it_has() {
    let (project, cluster) = (Project::new(), Cluster::start());
    let secrets = cluster.path("secrets/for-builds");
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("key"), "words that nobody sees\n").unwrap();
    let job = "apiVersion: batch/v1\nkind: Job\nspec:\n  template:\n    spec:\n      tolerations: [{key: builds, operator: Exists}]\n";
    fs::write(cluster.path("job.yaml"), job).unwrap();
    let template = "[kubernetes.default]\njob = 'job.yaml'\nimage = 'registry.example/rbuild'\nclaims = ['rbuild-{0..7}']\nsecrets = 'for-builds'\n\
                    service-account = 'builder'\nuser-namespace = true\n[kubernetes.default.limits]\nmemory = '1Gi'\n[kubernetes.default.node-selector]\npool = 'builds'\n";
    fs::write(cluster.path("config.toml"), template).unwrap();
    let on = "--on=kubernetes://builds,timeout=1h";
    let secret = "FROM scratch\nCOPY busybox /bin/sh\nRUN --mount=type=secret,id=key,required read x < /run/secrets/key; echo ${#x} > /length\n";
    project.write("Dockerfile", secret);
    let first = built(&project, &cluster, "far", &[on, "--output=type=local,dest=../files"]);
    assert_eq!(fs::read_to_string(project.dir.path().join("files/length")).unwrap(), "22\n");
    // From another machine, whose store is empty: the volume has all files but the order, and its store the steps.
    project.write("Dockerfile", format!("{secret}RUN echo more > /more\n"));
    let second = built(&project, &cluster, "farther", &[on]);
    assert!(second.has(": 1 of 2 files sent"), "{}", second.stderr);
    assert!(
        second.stderr.lines().any(|line| line.starts_with("note: worker: #") && line.ends_with(" CACHED")),
        "{}",
        second.stderr
    );
    let jobs = cluster.jobs();
    let claim = |at: usize| {
        let volumes = jobs[at]["spec"]["template"]["spec"]["volumes"].as_array().unwrap().clone();
        volumes
            .iter()
            .find_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned))
            .unwrap()
    };
    assert!(claim(0) == claim(1) && claim(0).starts_with("rbuild-"), "{}", claim(0));
    // What was damaged there is sent again.
    for entry in fs::read_dir(cluster.path(&format!("claims/{}/inbox", claim(0)))).unwrap() {
        let path = entry.unwrap().path();
        let size = fs::metadata(&path).unwrap().len() as usize;
        fs::remove_file(&path).unwrap();
        fs::write(&path, vec![0; size]).unwrap();
    }
    project.write("Dockerfile", format!("{secret}RUN echo most > /most\n"));
    let third = built(&project, &cluster, "farthest", &[on]);
    assert!(third.has(": 2 of 2 files sent"), "{}", third.stderr);
    assert!(
        first.has(&format!("waits for a pod of `kubernetes://builds` with the volume `{}`", claim(0))),
        "{}",
        first.stderr
    );
    let (spec, pod) = (&jobs[0]["spec"], &jobs[0]["spec"]["template"]["spec"]);
    assert_eq!((&spec["activeDeadlineSeconds"], &spec["backoffLimit"]), (&json!(4800), &json!(0)));
    assert_eq!((&pod["serviceAccountName"], &pod["hostUsers"]), (&json!("builder"), &json!(false)));
    assert_eq!(
        (&pod["tolerations"][0]["key"], &pod["nodeSelector"]["pool"]),
        (&json!("builds"), &json!("builds"))
    );
    let container = &pod["containers"][0];
    assert_eq!(
        (&container["resources"]["limits"]["memory"], &container["securityContext"]["procMount"]),
        (&json!("1Gi"), &json!("Unmasked"))
    );
    // Nothing of the secret is anywhere but there.
    let all = jobs.iter().map(ToString::to_string).chain([first.stderr, second.stderr]).collect::<String>();
    assert!(!all.contains("words that nobody sees"));
    // A job that cannot be completed is refused before anything is asked.
    fs::write(cluster.path("job.yaml"), "apiVersion: v1\nkind: Pod\n").unwrap();
    let asked = cluster.log().len();
    project.write("src/a", "x");
    project.write("Dockerfile", "FROM scratch\nCOPY src/a /\n");
    let refused = build(&project, &cluster, "far", &[on]);
    assert!(refused.code == 1 && refused.has("it is no Job of `batch/v1`"), "{}", refused.stderr);
    assert_eq!(cluster.log().len(), asked);
}

#[test]
fn what_is_lost_is_begun_again_and_what_breaks_is_taken_up() {
    let (project, cluster) = (Project::new(), Cluster::start());
    // The step ends some seconds from now, whoever runs it.
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let end = uptime.split('.').next().unwrap().parse::<u64>().unwrap() + 8;
    let wait = format!(
        "RUN echo begin$((6*7)); while read x < /proc/uptime; [ ${{x%%.*}} -lt {end} ]; do :; done; echo end$((6*7))\n"
    );
    project.write("Dockerfile", format!("FROM scratch\nCOPY busybox /bin/sh\n{wait}"));
    let (child, mut read) = begun(&project, &cluster, "begin42");
    cluster.tell("evict", "");
    let mut child = child;
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while read.matches("begin42").count() < 2 || !read.contains("begins the build anew") {
        assert!(lines.read_line(&mut read).unwrap() > 0, "{read}");
    }
    assert!(read.contains("begins the build anew: Evicted: The node was low on resource"), "{read}");
    // The connection breaks, and the pod goes on.
    cluster.tell("break", "");
    lines.read_to_string(&mut read).unwrap();
    let said = ended(child, read);
    assert_eq!(said.code, 0, "{}", said.stderr);
    // No line is told twice after that.
    assert_eq!(said.stderr.matches("end42").count(), 1, "{}", said.stderr);
    assert_eq!((cluster.jobs().len(), cluster.pods()), (2, 0), "{}", said.stderr);
}

#[test]
fn who_is_interrupted_removes_the_job() {
    let (project, cluster) = (Project::new(), Cluster::start());
    project.write(
        "Dockerfile",
        "FROM scratch\nCOPY busybox /bin/sh\nRUN echo begin$((6*7)); while :; do :; done\n",
    );
    let (child, read) = begun(&project, &cluster, "begin42");
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::INT).unwrap();
    let said = ended(child, read);
    assert_eq!(said.code, 130, "{}", said.stderr);
    assert_eq!(cluster.pods(), 0);
    // One that waits for its pod, too.
    cluster.tell("set", r#"{"waits": "0/3 nodes are available: 3 Insufficient cpu."}"#);
    let (child, read) = begun(&project, &cluster, "the pod waits: Unschedulable: 0/3 nodes are available");
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::INT).unwrap();
    assert_eq!(ended(child, read).code, 130);
    assert_eq!(cluster.pods(), 0);
}

#[test]
fn what_goes_wrong_there_is_told() {
    let (project, cluster) = (Project::new(), Cluster::behind(Door::Certificate));
    project
        .write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN echo words of the command; exit 7\n");
    let failed = build(&project, &cluster, "far", &[ON]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(
        failed.has("words of the command")
            && failed.has("the build failed on `kubernetes://test/builds`, pod `"),
        "{}",
        failed.stderr
    );
    // What RUN finds there.
    let doctor = command(&project, &cluster, "far", &["doctor", ON]).output().unwrap();
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(
        doctor.status.success() && text.contains("of `kubernetes://test/builds`:\nRUN works here, "),
        "{doctor:?}"
    );
    // A secret that no pod has, and none of this machine's.
    project.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN --mount=type=secret,id=key,required read x < /run/secrets/key\n");
    let refused = build(&project, &cluster, "far", &[ON]);
    assert!(
        refused.code == 1 && refused.has("the build needs the secret `key`, which this worker does not have"),
        "{}",
        refused.stderr
    );
    let refused = build(&project, &cluster, "far", &[ON, "--secret=id=key,src=src/a"]);
    assert!(
        refused.code == 1 && refused.has("`--secret` or `--ssh` does not go with `--on`"),
        "{}",
        refused.stderr
    );
    // Time.
    project.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN while :; do :; done\n");
    let late = build(&project, &cluster, "far", &[&format!("{ON},timeout=1s")]);
    assert!(late.code == 1 && late.has("did not end in time"), "{}", late.stderr);
    assert_eq!(cluster.pods(), 0);
}

#[test]
fn clusters_that_cannot_are_told_or_done_without() {
    let (project, cluster) = (Project::new(), Cluster::start());
    project.write("Dockerfile", "FROM scratch\nCOPY src/a /\n");
    let with = |more: &str| build(&project, &cluster, "far", &[&format!("{ON}{more}")]);
    for (settings, more, code, expected) in [
        (r#"{"forbidden": true}"#, "", 1, "answers 403 (jobs.batch is forbidden: User \"ci\" cannot create"),
        (
            r#"{"unable": "Back-off pulling image"}"#,
            "",
            1,
            "its pod does not start (ImagePullBackOff: Back-off pulling image)",
        ),
        (r#"{"waits": "no node"}"#, ",start=1s", 75, "no pod of it runs after 1.00s"),
        (r#"{"down": true}"#, "", 75, "answers 503 (the server is currently unable"),
    ] {
        cluster.tell("set", settings);
        let told = with(more);
        assert!(told.code == code && told.has(expected), "{settings} {}: {}", told.code, told.stderr);
        assert_eq!(cluster.pods(), 0, "{settings}");
    }
    let here = with(",fallback=local");
    assert!(here.code == 0 && here.has("the build is done here (`fallback=local`)"), "{}", here.stderr);
    // Nobody is there, nobody is known, and the wrong one is shown.
    cluster.tell("set", "{}");
    project.write("src/a", "x");
    let kubeconfig = fs::read_to_string(cluster.path("kubeconfig")).unwrap();
    for (from, to, code, expected) in [
        ("name: test", "name: other", 1, "has no context `test`"),
        ("token: hidden", "token: wrong", 1, "answers 401 (Unauthorized)"),
        ("127.0.0.1:", "127.0.0.1:1/x", 75, "connection refused"),
    ] {
        fs::write(cluster.path("kubeconfig"), kubeconfig.replace(from, to)).unwrap();
        let told = with("");
        assert!(told.code == code && told.has(expected), "{} {}", told.code, told.stderr);
        assert!(!told.has("hidden") && !told.has("wrong"), "{}", told.stderr);
    }
}
