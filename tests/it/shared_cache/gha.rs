//! `type=gha`: a service that the real client accepts, too, and what workflows do with it.

use std::fs;
use std::process::Command;

use super::servers::{Backend, faults};
use super::{Project, Said, writers_at_once_lose_nothing};
use crate::support::gha::{Gha, client, token};

const MAIN: &[(&str, bool)] = &[("refs/heads/main", true)];
const BRANCH: &[(&str, bool)] = &[("refs/heads/branch", true), ("refs/heads/main", false)];

const FROM: &str = "--cache-from=type=gha,scope=app";
const TO: &str = "--cache-to=type=gha,scope=app";

/// A build in a workflow with these scopes, on a machine of its own.
fn built(
    project: &Project,
    service: &Gha,
    machine: &str,
    scopes: &[(&str, bool)],
    arguments: &[&str],
) -> Said {
    let (url, token) = (service.url(), token(scopes));
    let variables = [("ACTIONS_RESULTS_URL", &*url), ("ACTIONS_RUNTIME_TOKEN", &token)];
    let said = project.built_in(machine, &variables, arguments);
    assert!(!said.stderr.contains(&token) && !said.stderr.contains("sig="), "{}", said.stderr);
    said
}

#[test]
fn another_machine_builds_as_if_it_had_built_before() {
    let (project, service) = (Project::new(), Gha::start());
    let first = built(&project, &service, "one", MAIN, &[TO]);
    assert_eq!(first.ran(), 8, "{}", first.stderr);
    // All layers and indexes travel together, and then there is the head.
    assert_eq!(service.count("CreateCacheEntry"), 2, "{:#?}", service.calls());
    let before = service.calls().len();
    let second = built(&project, &service, "two", MAIN, &[FROM, TO]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    assert!(second.stderr.contains("the cache `gha:app` has it all"), "{}", second.stderr);
    let calls = &service.calls()[before..];
    // The head, and where what the image is made of lies.
    assert_eq!(calls.iter().filter(|call| *call == "GetCacheEntryDownloadURL").count(), 2, "{calls:#?}");
    assert!(calls.iter().all(|call| call == "GetCacheEntryDownloadURL" || call == "GET blob"), "{calls:#?}");
    // The token goes to the service alone.
    for request in service.received() {
        assert_eq!(request.header("authorization").is_some(), request.path.starts_with("/twirp/"));
    }
    // Another scope is another cache.
    assert_eq!(built(&project, &service, "three", MAIN, &["--cache-from=type=gha,scope=ap"]).ran(), 8);
    // What a file changes is found, and what it does not is kept.
    project.write("a", "changed\n");
    assert_eq!(built(&project, &service, "four", MAIN, &[FROM, TO]).ran(), 5);
    for content in ["changed\n", "a file\n"] {
        project.write("a", content);
        assert_eq!(built(&project, &service, &format!("five{content:?}"), MAIN, &[FROM]).ran(), 0);
    }
}

#[test]
fn the_real_client_lives_on_the_same_service() {
    let (project, service) = (Project::new(), Gha::start());
    built(&project, &service, "one", MAIN, &[TO]);
    let folder = project.path().join("workspace");
    fs::create_dir_all(folder.join("kept")).unwrap();
    fs::write(folder.join("kept/file"), "content of a file\n").unwrap();
    let run = |script: &str, arguments: &[&str]| {
        let output = client(&service, &token(MAIN), &folder, script, arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let path = folder.join("kept").display().to_string();
    let save = "console.log('saved', await cache.saveCache([argv[0]], argv[1]))";
    let said = run(save, &[&path, "deps-1"]);
    assert!(said.contains("saved 7"), "{said}");
    // An entry that is there is not written again.
    assert!(run(save, &[&path, "deps-1"]).contains("Unable to reserve cache"), "{said}");
    for (key, prefix) in [("deps-1", "other-"), ("deps-2", "deps-")] {
        fs::remove_dir_all(folder.join("kept")).unwrap();
        let restore = "console.log('found', await cache.restoreCache([argv[0]], argv[1], [argv[2]]))";
        let said = run(restore, &[&path, key, prefix]);
        assert!(said.contains("found deps-1"), "{said}");
        assert_eq!(fs::read_to_string(folder.join("kept/file")).unwrap(), "content of a file\n");
    }
    assert_eq!(built(&project, &service, "two", MAIN, &[FROM]).ran(), 0);
}

#[test]
fn large_layers_go_in_blocks() {
    let (project, service) = (Project::new(), Gha::start());
    // What does not become smaller.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    project.write("noise", noise.take((64 << 20) + 1000).collect::<Vec<u8>>());
    project.write("Dockerfile", "FROM scratch\nCOPY noise /\n");
    let first = built(&project, &service, "one", MAIN, &[TO]);
    let blocks = service.received().iter().filter(|request| request.path.contains("comp=block&")).count();
    assert_eq!(blocks, 2, "{}", first.stderr);
    let second = built(&project, &service, "two", MAIN, &[FROM]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    assert_eq!(project.rbuild("two", &["verify"]).code, 0);
    // An entry whose writer died is made under another key.
    service.reserve(|key| key.starts_with("rbuild-blob-1-").then(|| format!("dead {key}")));
    let dead = service.keys().iter().find(|key| key.starts_with("rbuild-blob-1-")).unwrap().clone();
    service.evict("rbuild-");
    service.reserve(|key| key.strip_prefix("dead ").map(str::to_owned));
    assert_eq!(built(&project, &service, "three", MAIN, &[TO]).ran(), 1);
    assert!(service.keys().iter().any(|key| key.starts_with(&format!("{dead}-"))), "{:#?}", service.keys());
    assert_eq!(built(&project, &service, "four", MAIN, &[FROM]).ran(), 0);
}

#[test]
fn writers_at_once() {
    let (project, service) = (Project::new(), Gha::start());
    let at = format!("type=gha,url_v2={},token={}", service.url(), token(MAIN));
    writers_at_once_lose_nothing(&project, &format!("--cache-from={at}"), &format!("--cache-to={at}"));
}

#[test]
fn a_writer_that_died_stops_nobody() {
    let (project, service) = (Project::new(), Gha::start());
    built(&project, &service, "one", MAIN, &[TO]);
    service.reserve(|key| key.starts_with("rbuild-head-").then(|| key.replace("#0000000001", "#0000000002")));
    project.write("a", "changed\n");
    let said = built(&project, &service, "two", MAIN, &[FROM, TO]);
    assert!(said.stderr.contains("cached to `gha:app`"), "{}", said.stderr);
    assert!(service.keys().last().unwrap().ends_with("#0000000003"), "{:#?}", service.keys());
    assert_eq!(built(&project, &service, "three", MAIN, &[FROM]).ran(), 0);
}

#[test]
fn signed_urls_that_ended_are_asked_for_again() {
    let (project, service) = (Project::new(), Gha::start());
    built(&project, &service, "one", MAIN, &[TO]);
    // The head is the first; then all layers come from one entry.
    service.end_urls_after(3);
    let before = service.calls().len();
    let said = built(&project, &service, "two", MAIN, &[FROM]);
    assert_eq!(said.ran(), 0, "{}", said.stderr);
    let calls = &service.calls()[before..];
    assert_eq!(calls.iter().filter(|call| *call == "GetCacheEntryDownloadURL").count(), 3, "{calls:#?}");
    assert_eq!(project.rbuild("two", &["verify"]).code, 0);
}

#[test]
fn what_the_service_dropped_is_made_and_kept_again() {
    let (project, service) = (Project::new(), Gha::start());
    let first = built(&project, &service, "one", MAIN, &[TO]);
    service.evict("rbuild-bundle-");
    let second = built(&project, &service, "two", MAIN, &[FROM, TO]);
    assert!(second.ran() > 0 && second.stderr.contains("is made anew"), "{}", second.stderr);
    assert_eq!(built(&project, &service, "three", MAIN, &[FROM]).ran(), 0);
    assert_ne!(first.digest(), "");
}

#[test]
fn what_is_used_stays_young() {
    let (project, service) = (Project::new(), Gha::start());
    built(&project, &service, "one", MAIN, &[TO]);
    // A head of last week.
    service.change("rbuild-head-1#", |head| {
        let lines = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
        let mut pack = rbuild::shared_cache::Pack::parse(&head[lines..]).unwrap();
        let week = 7 * 24 * 3600;
        pack.entries.values_mut().for_each(|entry| entry.used -= week);
        pack.indexes.values_mut().for_each(|index| index.used -= week);
        [&head[..lines], &pack.to_bytes()].concat()
    });
    // All is here, so no byte of the cache is needed: that it is used is told by asking.
    let before = service.calls().len();
    assert_eq!(built(&project, &service, "one", MAIN, &[TO]).ran(), 0);
    let calls = &service.calls()[before..];
    assert_eq!(calls.iter().filter(|call| *call == "CreateCacheEntry").count(), 1, "{calls:#?}");
    assert_eq!(calls.last().unwrap(), "GetCacheEntryDownloadURL", "{calls:#?}");
    // And once a day.
    let before = service.calls().len();
    built(&project, &service, "one", MAIN, &[TO]);
    assert!(!service.calls()[before..].contains(&"CreateCacheEntry".to_owned()));
}

#[test]
fn cache_mounts_and_signatures_travel_too() {
    let (project, service) = (Project::new(), Gha::start());
    let key = project.path().join("key");
    let keygen = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(keygen.expect("needs the package openssh-client").success());
    let mount = "RUN --mount=type=cache,target=/kept echo kept >> /kept/file && /bin/busybox wc -l < /kept/file > /n\n";
    project.write(
        "Dockerfile",
        format!("FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\nARG N\nRUN echo $N\n{mount}"),
    );
    let repository = [("GITHUB_REPOSITORY", "a/b")];
    let at = format!("type=gha,url_v2={},token={}", service.url(), token(MAIN));
    let to = format!("--cache-to={at},sign={}", key.display());
    let from = format!("--cache-from={at},verify={}.pub", key.display());
    project.built_in("one", &repository, &[&to, "--build-arg=N=1"]);
    let said = project.built_in("two", &repository, &[&from, "--build-arg=N=2"]);
    assert!(said.stderr.contains("the cache mount `/kept` comes from `gha:rbuild`"), "{}", said.stderr);
    assert_eq!(project.built_in("three", &repository, &[&from, "--build-arg=N=1"]).ran(), 0);
    // What was signed for one repository is not believed of another.
    let said = project.built_in("four", &[("GITHUB_REPOSITORY", "a/c")], &[&from, "--build-arg=N=1"]);
    assert!(said.ran() > 0 && said.stderr.contains("has a pack that is not believed"), "{}", said.stderr);
}

#[test]
fn a_service_that_is_asked_too_often_is_left_alone() {
    let (project, service) = (Project::new(), Gha::start());
    // What is over soon is waited for.
    service.throttle(2, "0");
    built(&project, &service, "one", MAIN, &[TO]);
    service.throttle(2, "1");
    assert_eq!(built(&project, &service, "two", MAIN, &[FROM]).ran(), 0);
    service.throttle(1000, "3600");
    let before = service.calls().len();
    let said = built(&project, &service, "three", MAIN, &[FROM, TO]);
    assert_eq!(said.ran(), 8, "{}", said.stderr);
    let sentence = "is asked too often and wants to be left alone for 3600 s";
    assert_eq!(said.stderr.matches(sentence).count(), 2, "one for each option: {}", said.stderr);
    assert!(service.calls().len() - before <= 4, "{:#?}", &service.calls()[before..]);
}

#[test]
fn a_token_that_only_reads_writes_nothing_and_says_so_once() {
    let (project, service) = (Project::new(), Gha::start());
    built(&project, &service, "one", MAIN, &[TO]);
    let fork: &[(&str, bool)] = &[("refs/pull/7/merge", false), ("refs/heads/main", false)];
    project.write("a", "changed\n");
    let before = service.calls().len();
    let said = built(&project, &service, "two", fork, &[FROM, TO]);
    assert_eq!(said.ran(), 5, "{}", said.stderr);
    let sentence = "was not written: this workflow may only read the cache";
    assert_eq!(said.stderr.matches(sentence).count(), 1, "{}", said.stderr);
    assert!(!service.calls()[before..].contains(&"CreateCacheEntry".to_owned()), "{:#?}", service.calls());
    // And if only the service knows.
    let strange: &[(&str, bool)] = &[];
    let said = built(&project, &service, "three", strange, &[TO]);
    assert_eq!(said.stderr.matches(sentence).count(), 1, "{}", said.stderr);
}

#[test]
fn branches_read_the_default_one_and_write_their_own() {
    let (project, service) = (Project::new(), Gha::start());
    built(&project, &service, "one", MAIN, &[TO]);
    project.write("a", "of the branch\n");
    assert_eq!(built(&project, &service, "two", BRANCH, &[FROM, TO]).ran(), 5);
    project.write("a", "of main\n");
    assert_eq!(built(&project, &service, "three", MAIN, &[FROM, TO]).ran(), 5);
    // The branch has what it wrote, and what main wrote since.
    for content in ["of the branch\n", "of main\n", "a file\n"] {
        project.write("a", content);
        let said = built(&project, &service, &format!("on the branch {content:?}"), BRANCH, &[FROM]);
        assert_eq!(said.ran(), 0, "{content}: {}", said.stderr);
    }
    project.write("a", "of the branch\n");
    assert_eq!(built(&project, &service, "on main", MAIN, &[FROM]).ran(), 5);
}

#[test]
fn a_cache_of_a_workflow_can_be_looked_after() {
    let (project, service) = (Project::new(), Gha::start());
    built(&project, &service, "one", MAIN, &[TO]);
    let at = format!("type=gha,scope=app,url_v2={},token={}", service.url(), token(MAIN));
    let said = project.rbuild("one", &["cache", "prune", "--max-size", "1", &at]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_ne!(built(&project, &service, "two", MAIN, &[FROM]).ran(), 0);
    assert_eq!(project.rbuild("one", &["cache", "rm", &at]).code, 0);
    assert_eq!(built(&project, &service, "three", MAIN, &[FROM]).ran(), 8);
}

#[test]
fn what_a_step_lacks_is_said() {
    let project = Project::new();
    let nothing = [("ACTIONS_RESULTS_URL", ""), ("ACTIONS_RUNTIME_TOKEN", ""), ("ACTIONS_CACHE_URL", "")];
    let said = project.built_in("one", &nothing, &[FROM]);
    let sentence = "`url_v2=` is missing, and ACTIONS_RESULTS_URL is not set; docs/ci.md tells how";
    assert_eq!(said.stderr.matches(sentence).count(), 1, "{}", said.stderr);
    let first = [("ACTIONS_RESULTS_URL", ""), ("ACTIONS_CACHE_URL", "http://localhost:1/")];
    let said = project.built_in("two", &first, &[FROM]);
    assert!(said.stderr.contains("only the first version of the cache service"), "{}", said.stderr);
}

#[test]
fn servers_that_fail_cost_no_build() {
    let service = Gha::start();
    faults(&Backend {
        host: service.host(),
        options: |host| {
            let at = format!("type=gha,url_v2=http://{host},token={}", token(MAIN));
            (format!("--cache-from={at}"), format!("--cache-to={at}"))
        },
        is_blob: |request| request.path.starts_with("/blob/"),
        // What is read is read as from other servers.
        only: &["403", "500", "cut", "other bytes"],
    });
}
