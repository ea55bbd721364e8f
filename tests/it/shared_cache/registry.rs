//! `type=registry`: a tag of a real registry between machines, with somebody in the middle who counts.

use crate::support::base::busybox_registry;
use crate::support::http::{Reply, Server};
use crate::support::registry::Registry;

use super::Project;

/// A registry with a base image, and a way to it on which requests are counted.
pub(super) struct Counted {
    server: Server,
    _registry: Registry,
}

impl Counted {
    pub(super) fn start() -> Self {
        let registry = busybox_registry();
        Self { server: Server::between(registry.host(), |_, reply| reply), _registry: registry }
    }

    pub(super) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.server.host())
    }

    /// What was asked since the last call, by `since`.
    pub(super) fn requests(&self, since: &mut usize) -> Vec<String> {
        let all = self.server.requests();
        all[std::mem::replace(since, all.len())..].to_vec()
    }
}

fn dockerfile(counted: &Counted, steps: usize) -> String {
    let base = counted.name("busybox:latest");
    let runs: String = (0..steps).map(|step| format!("RUN echo {step} > /f{step}\n")).collect();
    format!(
        "FROM {base} AS tools\nRUN echo tools > /tools\nFROM {base}\nCOPY --from=tools /tools /\nCOPY a /a\n{runs}"
    )
}

/// GETs of blobs that are as large as a layer.
fn of_layers(requests: &[String]) -> Vec<&String> {
    requests.iter().filter(|request| request.starts_with("GET") && request.contains("/blobs/")).collect()
}

#[test]
fn nothing_moves_where_nothing_changed() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", dockerfile(&counted, 20));
    let cache = counted.name("app:cache");
    let (from, to) = (format!("--cache-from={cache}"), format!("--cache-to={cache}"));
    let mut since = 0;
    let first = project.built("one", &["--push", "-t", &counted.name("app:1"), &from, &to]);
    assert_eq!(first.ran(), 23, "{}", first.stderr);
    counted.requests(&mut since);

    let second = project.built("two", &["--push", "-t", &counted.name("app:2"), &from, &to]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    let requests = counted.requests(&mut since);
    // The head; of the base its digest, manifest and configuration; the image before; the new name is looked for and written.
    assert!(requests.len() <= 8, "{requests:#?}");
    assert_eq!(of_layers(&requests).len(), 1, "{requests:#?}");
    assert!(!requests.iter().any(|request| request.contains("/uploads/")), "{requests:#?}");
}

#[test]
fn a_new_repository_gets_layers_without_their_bytes() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", dockerfile(&counted, 2));
    let cache = counted.name("cache:main");
    let to = format!("--cache-to=type=registry,ref={cache}");
    let first = project.built("one", &["--push", "-t", &counted.name("app:1"), &to]);
    let mut since = 0;
    counted.requests(&mut since);
    let from = format!("--cache-from=type=registry,ref={cache}");
    let second = project.built("two", &["--push", "-t", &counted.name("other:1"), &from]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    let requests = counted.requests(&mut since);
    let mounts = requests.iter().filter(|request| request.contains("mount=")).count();
    assert_eq!(mounts, 5, "one for each layer: {requests:#?}");
    assert_eq!(of_layers(&requests).len(), 1, "{requests:#?}");
}

#[test]
fn what_a_copy_misses_needs_indexes_only() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", dockerfile(&counted, 0));
    let cache = counted.name("app:cache");
    let (from, to) = (format!("--cache-from={cache}"), format!("--cache-to={cache}"));
    project.built("one", &["--push", "-t", &counted.name("app:1"), &to]);
    project.write("a", "changed\n");
    let layers_of_two = |project: &Project| {
        let blobs = std::fs::read_dir(project.store("two").join("blobs/sha256")).unwrap();
        blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).filter(|size| *size > 100_000).count()
    };
    let second = project.built("two", &["--push", "-t", &counted.name("app:2"), &from, &to]);
    assert_eq!(second.ran(), 1, "{}", second.stderr);
    assert_eq!(layers_of_two(&project), 0, "the base's layer stayed where it is");
    // With the file as it was all is there again.
    project.write("a", "a file\n");
    assert_eq!(project.built("three", &["--push", "-t", &counted.name("app:3"), &from]).ran(), 0);
}

#[test]
fn a_registry_that_refuses_costs_no_build() {
    let registry = busybox_registry();
    for status in [403, 404, 500] {
        let server =
            Server::between(registry.host(), move |request, reply| match request.path.contains("/cache/") {
                true => Reply::new(status, "{}"),
                false => reply,
            });
        let project = Project::new();
        project.write("Dockerfile", format!("FROM {}/busybox\nRUN echo 1 > /1\n", server.host()));
        let cache = format!("{}/cache:main", server.host());
        let said = project.built("one", &[&format!("--cache-from={cache}"), &format!("--cache-to={cache}")]);
        assert!(said.stderr.contains("was not written"), "{status}: {}", said.stderr);
        let strict = format!("--cache-to=type=registry,ref={cache},ignore-error=false");
        let said = project.build("one", &[&strict]);
        assert!(said.code == 1 && said.stderr.contains("cannot be written"), "{status}: {}", said.stderr);
    }
}

#[test]
fn an_image_is_no_cache_and_is_left_alone() {
    let counted = Counted::start();
    let project = Project::new();
    let image = counted.name("busybox:latest");
    let said = project.built("one", &[&format!("--cache-from={image}"), &format!("--cache-to={image}")]);
    assert!(said.stderr.contains("it is an image and no cache"), "{}", said.stderr);
    project.write("Dockerfile", format!("FROM {image}\nRUN true\n"));
    project.built("two", &[]);
}

#[test]
fn offline_asks_nobody() {
    let server = Server::start(|_| Reply::new(500, "{}"));
    let project = Project::new();
    let cache = format!("{}/cache:main", server.host());
    let (from, to) = (format!("--cache-from={cache}"), format!("--cache-to={cache}"));
    let said = project.built("one", &["--offline", &from, &to]);
    assert_eq!(said.stderr.matches("neither read nor written").count(), 1, "{}", said.stderr);
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}
