//! What servers do that fail, lie or are not there: never a build that fails, never another layer.

use super::{Project, Said};
use crate::support::http::{Ending, Received, Reply, Server};

/// A server that works, and what is asked of it.
pub(super) struct Backend {
    pub(super) host: String,
    /// Of a host, for reading and for writing.
    pub(super) options: fn(&str) -> (String, String),
    /// Whether a request is about a layer or an index.
    pub(super) is_blob: fn(&Received) -> bool,
    /// Which of [`CHANGES`] are tried; none: all.
    pub(super) only: &'static [&'static str],
}

/// What becomes of an answer.
type Change = fn(Reply) -> Reply;

const CHANGES: [(&str, Change); 7] = [
    ("403", |_| Reply::new(403, "<Error><Code>AccessDenied</Code></Error>")),
    ("500", |_| Reply::new(500, "hidden")),
    ("507", |_| Reply::new(507, "")),
    ("no answer", |reply| reply.ending(Ending::NoAnswer)),
    ("cut", |reply| reply.ending(Ending::CutAfter(7))),
    ("truncated", |mut reply| {
        reply.body.truncate(reply.body.len() / 2);
        without_length(reply)
    }),
    ("other bytes", |mut reply| {
        let middle = reply.body.len() / 2;
        reply.body.iter_mut().skip(middle).take(3).for_each(|byte| *byte ^= 0x55);
        without_length(reply)
    }),
];

fn without_length(mut reply: Reply) -> Reply {
    reply.headers.retain(|(name, _)| name != "content-length");
    reply
}

/// Tries each fault where heads are read, where blobs are read, and where something is written. They take their time, as each is
/// tried again, so all are tried at once.
pub(super) fn faults(backend: &Backend) {
    let project = Project::new();
    let (from, to) = (backend.options)(&backend.host);
    let digest = project.built("first", &[&to]).digest().to_owned();
    let is_tried = |(name, _): &(&str, Change)| backend.only.is_empty() || backend.only.contains(name);
    let (project, digest) = (&project, &digest);
    std::thread::scope(|scope| {
        for (name, change) in CHANGES.into_iter().filter(is_tried) {
            scope.spawn(move || {
                let is_blob = backend.is_blob;
                let heads = proxy(backend, change, move |request| !is_blob(request));
                let said = read(project, backend, &heads, &format!("heads {name}"));
                let without = said.stderr.matches("the build goes on without it").count();
                assert_eq!(without, 1, "{name}: {}", said.stderr);
                let blobs = proxy(backend, change, is_blob);
                let said = read(project, backend, &blobs, &format!("blobs {name}"));
                assert!(said.ran() > 0 || said.digest() == digest, "{name}: {}", said.stderr);
            });
        }
        for (name, change) in CHANGES.into_iter().filter(|(name, _)| matches!(*name, "403" | "no answer")) {
            scope.spawn(move || {
                let writes =
                    proxy(backend, change, |request| request.method != "GET" && request.method != "HEAD");
                written_nowhere(backend, &writes.host(), name);
            });
        }
        scope.spawn(|| written_nowhere(backend, "localhost:1", "nobody there"));
    });
    // What was there still is.
    assert_eq!(project.built("afterwards", &[&from]).ran(), 0);
}

/// Changes the answers to some requests.
fn proxy(
    backend: &Backend,
    change: Change,
    which: impl Fn(&Received) -> bool + Send + Sync + 'static,
) -> Server {
    Server::between(backend.host.clone(), move |request, reply| match which(request) {
        true => change(reply),
        false => reply,
    })
}

/// A build that reads; afterwards all that is in the store is what it should be.
fn read(project: &Project, backend: &Backend, proxy: &Server, machine: &str) -> Said {
    let (from, _) = (backend.options)(&proxy.host());
    let said = project.built(machine, &[&from]);
    assert!(!said.stderr.contains("hidden"), "{}", said.stderr);
    let verified = project.rbuild(machine, &["verify"]);
    assert_eq!(verified.code, 0, "{machine}: {}", verified.stderr);
    said
}

/// A build that writes in vain: a note, and an error only where that was asked for.
fn written_nowhere(backend: &Backend, host: &str, name: &str) {
    let project = Project::new();
    let (_, to) = (backend.options)(host);
    project.write("a", format!("{name}\n"));
    let said = project.built("writer", &[&to]);
    assert_eq!(said.stderr.matches("was not written").count(), 1, "{name}: {}", said.stderr);
    let said = project.build("writer", &[&format!("{to},ignore-error=false")]);
    assert_eq!(said.code, 1, "{name}: {}", said.stderr);
    assert!(said.stderr.contains("cannot be written"), "{name}: {}", said.stderr);
}

/// A server that goes quiet, where heads are read, where blobs are, and where something is written: after its time limit the build goes on.
/// `options` have a short one.
pub(super) fn stalls(backend: &Backend) {
    let project = Project::new();
    let (from, to) = (backend.options)(&backend.host);
    project.built("first", &[&to]);
    let quiet: Change = |reply| reply.ending(Ending::StallAfter(3));
    let (project, is_blob) = (&project, backend.is_blob);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let heads = proxy(backend, quiet, move |request| !is_blob(request));
            let said = read(project, backend, &heads, "heads");
            assert_eq!(said.ran(), 8, "{}", said.stderr);
            let told = said.stderr.matches("the build goes on without it").count();
            assert_eq!(told, 1, "{}", said.stderr);
        });
        scope.spawn(move || {
            let blobs = proxy(backend, quiet, is_blob);
            let said = read(project, backend, &blobs, "blobs");
            assert!(said.ran() > 0 && said.stderr.contains("is made anew"), "{}", said.stderr);
        });
        scope.spawn(move || {
            let writes = proxy(backend, quiet, |request| request.method != "GET" && request.method != "HEAD");
            // What the server says after a write is not waited for, or is one note.
            let (_, to) = (backend.options)(&writes.host());
            let other = Project::new();
            other.write("a", "other\n");
            let said = other.built("writer", &[&to]);
            assert!(said.stderr.matches("was not written").count() <= 1, "{}", said.stderr);
        });
    });
    assert_eq!(project.built("afterwards", &[&from]).ran(), 0);
}
