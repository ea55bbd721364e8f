//! `type=http`: a server of Bazel's protocol that checks nothing, nginx with WebDAV.

use std::fs;

use super::servers::{Backend, faults, stalls};
use super::{Project, writers_at_once_lose_nothing};
use crate::support::nginx::{Nginx, PASSWORD, USER};

/// For reading and for writing.
fn options(host: &str, name: &str) -> (String, String) {
    let at = format!("type=http,url=http://{USER}:{PASSWORD}@{host}/cache,name={name}");
    (format!("--cache-from={at}"), format!("--cache-to={at}"))
}

#[test]
fn another_machine_builds_as_if_it_had_built_before() {
    let (project, server) = (Project::new(), Nginx::start());
    let (from, to) = options(&server.host(), "main");
    let first = project.built("one", &[&to]);
    assert_eq!(first.ran(), 8, "{}", first.stderr);
    let sent = server.requests().len();
    let second = project.built("two", &[&from]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    // The records are one request; others are for layers of the image, each once.
    let asked = &server.requests()[sent..];
    assert_eq!(asked.iter().filter(|line| line.contains("/ac/")).count(), 1, "{asked:#?}");
    assert!(asked.iter().all(|line| line.ends_with(" 200")), "{asked:#?}");
    // Another name is another cache.
    let (other, _) = options(&server.host(), "other");
    assert_eq!(project.built("three", &[&other]).ran(), 8);
    for said in [&first.stderr, &second.stderr] {
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

#[test]
fn what_is_there_is_not_sent_again() {
    let (project, server) = (Project::new(), Nginx::start());
    let (from, to) = options(&server.host(), "main");
    project.built("one", &[&to]);
    let before = server.requests().len();
    let again = project.built("two", &[&from, &to]);
    assert!(again.stderr.contains("has it all"), "{}", again.stderr);
    let asked = &server.requests()[before..];
    assert!(asked.iter().all(|line| line.starts_with("GET ")), "{asked:#?}");
    project.write("a", "changed\n");
    let third = project.built("three", &[&from, &to]);
    assert_eq!(third.ran(), 5, "{}", third.stderr);
    project.write("a", "a file\n");
    assert_eq!(project.built("four", &[&from]).ran(), 0);
}

#[test]
fn writers_at_once() {
    let (project, server) = (Project::new(), Nginx::start());
    let (from, to) = options(&server.host(), "main");
    writers_at_once_lose_nothing(&project, &from, &to);
}

#[test]
fn who_may_not_ask_builds_without_it() {
    let (project, server) = (Project::new(), Nginx::start());
    let at = format!("type=http,url=http://{}/cache,token=hidden-word", server.host());
    let said = project.built("one", &[&format!("--cache-from={at}"), &format!("--cache-to={at}")]);
    // One note for each option.
    assert_eq!(said.stderr.matches("answers 401: it wants credentials").count(), 2, "{}", said.stderr);
    assert!(!said.stderr.contains("hidden"), "{}", said.stderr);
    assert_eq!(fs::read_dir(server.data()).unwrap().count(), 0);
}

#[test]
fn servers_that_fail_cost_no_build() {
    let server = Nginx::start();
    faults(&Backend {
        host: server.host(),
        options: |host| options(host, "main"),
        is_blob: |request| request.path.contains("/cas/"),
        only: &[],
    });
}

#[test]
fn servers_that_go_quiet_cost_no_build() {
    let server = Nginx::start();
    stalls(&Backend {
        host: server.host(),
        options: |host| {
            let (from, to) = options(host, "main");
            (format!("{from},timeout=1s"), format!("{to},timeout=1s"))
        },
        is_blob: |request| request.path.contains("/cas/"),
        only: &[],
    });
}

#[test]
fn what_was_removed_is_a_miss() {
    let (project, server) = (Project::new(), Nginx::start());
    let (from, to) = options(&server.host(), "main");
    project.built("one", &[&to]);
    let cache = from.strip_prefix("--cache-from=").unwrap();
    let removed = project.rbuild("one", &["cache", "rm", cache]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert!(!removed.stderr.contains(PASSWORD));
    assert_eq!(project.built("two", &[&from, &to]).ran(), 8);
    assert_eq!(project.built("three", &[&from]).ran(), 0);
}
