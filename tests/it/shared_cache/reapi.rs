//! `type=reapi`: servers of the Remote Execution API, of which `buildbox-casd` is one. nginx stands before it where calls are counted,
//! or nobody is let in whom it does not know.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Project, Said, writers_at_once_lose_nothing};
use crate::support::casd::{Casd, object};
use crate::support::nginx::{Nginx, PASSWORD};
use crate::support::tls;

/// For reading and for writing.
fn options(host: &str, more: &str) -> (String, String) {
    let at = format!("type=reapi,endpoint=grpc://{host},name=main{more}");
    (format!("--cache-from={at}"), format!("--cache-to={at}"))
}

fn casd(project: &Project) -> Casd {
    Casd::start_in(&project.path().join("casd"), "2G")
}

/// What was asked, as `GetActionResult`.
fn methods(server: &Nginx) -> Vec<String> {
    let requests = server.requests();
    let bad: Vec<&String> = requests.iter().filter(|line| !line.ends_with(" 200")).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let path = |line: &String| line.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
    requests.iter().map(path).collect()
}

fn count(methods: &[String], method: &str) -> usize {
    methods.iter().filter(|asked| *asked == method).count()
}

#[test]
fn another_machine_builds_as_if_it_had_built_before() {
    let project = Project::new();
    let casd = casd(&project);
    let server = Nginx::before(&casd.host());
    let (from, to) = options(&server.host(), "");
    let first = project.built("one", &[&to]);
    assert_eq!(first.ran(), 8, "{}", first.stderr);
    let sent = methods(&server).len();
    let second = project.built("two", &[&from, &to]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    assert!(second.stderr.contains("has it all"), "{}", second.stderr);
    // The records are one request; others are for layers of the image, each once.
    let asked = methods(&server).split_off(sent);
    assert_eq!(count(&asked, "GetActionResult"), 1, "{asked:#?}");
    assert_eq!(count(&asked, "GetCapabilities"), 1, "{asked:#?}");
    let writes = ["FindMissingBlobs", "BatchUpdateBlobs", "Write", "UpdateActionResult"];
    assert!(writes.iter().all(|method| count(&asked, method) == 0), "{asked:#?}");
    // Another name is another cache.
    let other = from.replace("name=main", "name=other");
    assert_eq!(project.built("three", &[&other]).ran(), 8);
    assert_eq!(project.rbuild("two", &["verify"]).code, 0);
}

#[test]
fn what_changed_is_sent_and_what_was_removed_is_a_miss() {
    let project = Project::new();
    let casd = casd(&project);
    let (from, to) = options(&casd.host(), "");
    project.built("one", &[&to]);
    project.write("a", "changed\n");
    let second = project.built("two", &[&from, &to]);
    assert_eq!(second.ran(), 5, "{}", second.stderr);
    project.write("a", "a file\n");
    assert_eq!(project.built("three", &[&from]).ran(), 0);
    let cache = from.strip_prefix("--cache-from=").unwrap();
    let inspected = project.rbuild("one", &["cache", "inspect", cache]);
    assert_eq!(inspected.code, 0, "{}", inspected.stderr);
    let removed = project.rbuild("one", &["cache", "rm", cache]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert_eq!(project.built("four", &[&from, &to]).ran(), 8);
    assert_eq!(project.built("five", &[&from]).ran(), 0);
}

#[test]
fn writers_at_once() {
    let project = Project::new();
    let casd = casd(&project);
    let (from, to) = options(&casd.host(), "");
    writers_at_once_lose_nothing(&project, &from, &to);
}

/// What does not become smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    noise.take(size).collect()
}

#[test]
fn large_layers_go_in_pieces_and_are_taken_up_where_they_broke_off() {
    let project = Project::new();
    let casd = casd(&project);
    project.write("noise", noise(24 << 20));
    // The layer of a command is fetched, and not made again.
    let copy =
        r#"RUN --mount=type=bind,source=noise,target=/noise ["/bin/busybox", "cp", "/noise", "/copy"]"#;
    project.write("Dockerfile", format!("FROM scratch\nCOPY busybox /bin/busybox\n{copy}\n"));
    // The first two connections that move much break after 6 MB, on the way there and on the way back.
    let (cut, cuts) = cutting(&casd.host(), 6 << 20, 2);
    let (from, to) = options(&cut, "");
    let first = project.built("one", &[&to]);
    assert!(first.stderr.contains("cached to "), "{}", first.stderr);
    assert_eq!(cuts.swap(2, Ordering::SeqCst), 0);
    let second = project.built("two", &[&from, "--output=type=oci,dest=../image.tar"]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    assert!(second.stderr.contains("(2 remote; 2"), "{}", second.stderr);
    assert_eq!(cuts.load(Ordering::SeqCst), 0);
    assert_eq!(project.rbuild("two", &["verify"]).code, 0);
}

/// Passes on to a server. As often as the number says, a connection that moved so many bytes one way is cut.
fn cutting(server: &str, limit: usize, times: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let left = Arc::new(AtomicUsize::new(times));
    let (server, its) = (server.to_owned(), Arc::clone(&left));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                let left = Arc::clone(&its);
                std::thread::spawn(move || {
                    let (mut buffer, mut moved) = (vec![0; 64 << 10], 0);
                    while let Ok(n @ 1..) = from.read(&mut buffer) {
                        moved += n;
                        let is_cut = moved > limit
                            && left
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                                .is_ok();
                        if is_cut || to.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    (host, left)
}

#[test]
fn plain_layers_are_packed_on_the_way() {
    let project = Project::new();
    let casd = casd(&project);
    let server = Nginx::before(&casd.host());
    let (from, to) = options(&server.host(), "");
    project.write("zeros", vec![0; 9 << 20]);
    project.write("Dockerfile", "FROM scratch\nCOPY zeros /\n");
    let plain = "--output=type=oci,dest=../image.tar,compression=uncompressed";
    let first = project.built("one", &[&to, plain]);
    let second = project.built("two", &[&from, plain]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    assert_eq!(project.rbuild("two", &["verify"]).code, 0);
}

/// Builds with what is left in a cache, whatever that is.
fn builds_all_the_same(project: &Project, machine: &str, from: &str, to: &str) -> Said {
    let said = project.built(machine, &[from, to]);
    let verified = project.rbuild(machine, &["verify"]);
    assert_eq!(verified.code, 0, "{machine}: {}", verified.stderr);
    said
}

#[test]
fn what_the_server_lost_is_made_anew() {
    let project = Project::new();
    let folder = project.path().join("casd");
    let first = {
        let casd = Casd::start_in(&folder, "2G");
        let (_, to) = options(&casd.host(), "");
        project.built("one", &[&to])
    };
    // All blobs are gone between two builds, and results are not.
    fs::remove_dir_all(folder.join("cas")).unwrap();
    let casd = Casd::start_in(&folder, "2G");
    let (from, to) = options(&casd.host(), "");
    let second = builds_all_the_same(&project, "two", &from, &to);
    assert_eq!(second.ran(), 8, "{}", second.stderr);
    assert_eq!(project.built("three", &[&from]).ran(), 0);
    // One layer is gone that the records name: then the server does not give them.
    let blobs = fs::read_dir(project.store("one").join("blobs/sha256")).unwrap().map(|entry| entry.unwrap());
    let largest = blobs.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap();
    fs::remove_file(object(&folder, &largest.file_name().into_string().unwrap())).unwrap();
    let fourth = builds_all_the_same(&project, "four", &from, &to);
    assert_eq!(fourth.ran(), 8, "{}", fourth.stderr);
    assert_eq!(project.built("five", &[&from]).ran(), 0);
    assert_eq!(first.ran(), 8);
}

#[test]
fn bytes_that_are_others_are_not_believed() {
    let project = Project::new();
    let folder = project.path().join("casd");
    let casd = Casd::start_in(&folder, "2G");
    let (from, to) = options(&casd.host(), "");
    let first = project.built("one", &[&to]);
    // Each blob keeps its size and is another.
    let mut changed = 0;
    for entry in walk(&folder.join("cas/objects")) {
        let mut bytes = fs::read(&entry).unwrap();
        if bytes.len() > 100 {
            bytes[50] ^= 1;
            fs::remove_file(&entry).unwrap();
            fs::write(&entry, bytes).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 5, "{changed}");
    let second = project.built("two", &[&from, "--output=type=oci,dest=../image.tar"]);
    assert!(second.ran() > 0 || second.digest() == first.digest(), "{}", second.stderr);
    assert!(second.stderr.contains("gives sha256:"), "{}", second.stderr);
    assert_eq!(project.rbuild("two", &["verify"]).code, 0);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| walk(folder)));
    files
}

#[test]
fn a_server_without_room_costs_no_build() {
    let project = Project::new();
    let casd = Casd::start_in(&project.path().join("casd"), "2M");
    let (_, to) = options(&casd.host(), "");
    project.write("noise", noise(6 << 20));
    project.write("Dockerfile", "FROM scratch\nCOPY noise /\n");
    let said = project.built("one", &[&to]);
    assert_eq!(said.stderr.matches("was not written").count(), 1, "{}", said.stderr);
    // As this server puts it.
    assert!(said.stderr.contains("Blob size exceeds total storage allocation"), "{}", said.stderr);
    let said = project.build("one", &[&format!("{to},ignore-error=false")]);
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.stderr.contains("cannot be written"), "{}", said.stderr);
}

#[test]
fn a_server_that_is_not_there_or_says_nothing_costs_no_build() {
    let project = Project::new();
    let (from, to) = options("127.0.0.1:1", "");
    let said = project.built("one", &[&from, &to]);
    assert_eq!(said.stderr.matches("cannot be asked: connection refused").count(), 2, "{}", said.stderr);
    // Connections are made, and nobody answers.
    let quiet = TcpListener::bind("127.0.0.1:0").unwrap();
    let (from, to) = options(&quiet.local_addr().unwrap().to_string(), ",timeout=1s");
    project.write("a", "other\n");
    let said = project.built("one", &[&from, &to]);
    assert_eq!(said.stderr.matches("the build goes on without it").count(), 1, "{}", said.stderr);
    // Something else than gRPC.
    let web = crate::support::http::Server::start(|_| crate::support::http::Reply::new(404, "no"));
    let (from, _) = options(&web.host().replace("localhost", "127.0.0.1"), "");
    let said = project.built("two", &[&from]);
    assert_eq!(said.stderr.matches("does not speak gRPC").count(), 1, "{}", said.stderr);
}

#[test]
fn who_is_not_known_is_not_let_in_and_no_token_is_told() {
    let project = Project::new();
    let casd = casd(&project);
    let certificates = project.path().join("certificates");
    fs::create_dir(&certificates).unwrap();
    tls::certificates(&certificates);
    let server = Nginx::guarding(&casd.host(), &certificates);
    let file = |name: &str| certificates.join(name).display().to_string();
    let at = format!("type=reapi,endpoint=grpcs://{},name=main", server.host());
    let ca = format!("ca={}", file("ca.crt"));
    let shown = format!("{ca},cert={},key={}", file("tls.crt"), file("tls.key"));
    let token = project.path().join("token");
    fs::write(&token, format!("Bearer {PASSWORD}\n")).unwrap();
    let build = |machine: &str, more: &str| {
        let options = [format!("--cache-from={at},{more}"), format!("--cache-to={at},{more}")];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let said = project.built_in(machine, &[("HEADER", &format!("Bearer {PASSWORD}"))], &options);
        assert!(!said.stderr.contains(PASSWORD), "{}", said.stderr);
        said
    };
    for (more, expected) in [
        ("timeout=20s".to_owned(), "UnknownIssuer"),
        (ca.clone(), "answers "),
        (format!("ca={}", token.display()), "it holds no certificate"),
        (format!("{ca},cert={0},key={0}", file("tls.crt")), "tls.crt`"),
        (shown.clone(), "UNAUTHENTICATED: it wants credentials, or others"),
        (format!("{shown},token=wrong-{PASSWORD}"), "UNAUTHENTICATED"),
        (format!("{shown},header-env=authorization=NOT_SET"), "the variable `NOT_SET` is not set"),
        (format!("{shown},header-file=authorization=/nowhere"), "cannot read `/nowhere`"),
    ] {
        let said = build("stranger", &more);
        assert!(said.stderr.contains(expected), "{more}: {}", said.stderr);
        assert!(!said.stderr.contains("cached to"), "{more}: {}", said.stderr);
    }
    for (number, more) in [
        format!("token={PASSWORD}"),
        "header-env=authorization=HEADER".to_owned(),
        format!("header-file=Authorization={}", token.display()),
        format!("header=authorization=Bearer {PASSWORD}"),
    ]
    .iter()
    .enumerate()
    {
        let said = build(&format!("known{number}"), &format!("{shown},{more}"));
        assert_eq!(said.ran(), if number == 0 { 8 } else { 0 }, "{more}: {}", said.stderr);
    }
}
