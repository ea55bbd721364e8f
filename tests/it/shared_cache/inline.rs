//! `type=inline`: an image of a real registry that carries the records of its own layers.

use serde_json::Value;

use super::Project;
use super::registry::Counted;
use crate::support::base::busybox_registry;
use crate::support::image::TestImage;
use crate::support::tools;

const INLINE: &str = "--cache-to=type=inline";
/// What a configuration calls its records.
const KEY: &str = "io.rbuild.cache.v1";

/// The configuration of an image, as skopeo reads it; `platform` chooses from an index.
fn config(image: &str, platform: &[&str]) -> Value {
    let source = format!("docker://{image}");
    let given = ["inspect", "--tls-verify=false", "--raw", "--config", &source];
    tools::json("skopeo", platform.iter().copied().chain(given))
}

fn manifest(image: &str) -> Value {
    tools::json("skopeo", ["inspect", "--tls-verify=false", "--raw", &format!("docker://{image}")])
}

fn copied(from: &str, to: &str, more: &[&str]) {
    let (from, to) = (format!("docker://{from}"), format!("docker://{to}"));
    let given = ["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tools::run("skopeo", given.iter().chain(more).copied().chain([&*from, &*to]));
}

fn from(image: &str) -> String {
    format!("--cache-from=type=registry,ref={image}")
}

/// One stage: each layer of the image is a step's.
fn one_stage(counted: &Counted) -> String {
    let base = counted.name("busybox:latest");
    format!("FROM {base}\nRUN echo one > /one\nCOPY a /a\nWORKDIR /w\nRUN echo two > /two\nENV A=b\n")
}

#[test]
fn an_image_brings_its_own_steps_to_another_machine() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", one_stage(&counted));
    let image = counted.name("app:1");
    let first = project.built("one", &["--push", "-t", &image, INLINE]);
    assert_eq!(first.ran(), 4, "{}", first.stderr);
    assert_eq!(config(&image, &[])[KEY].as_array().unwrap().len(), 4, "{:#}", config(&image, &[]));

    let mut since = 0;
    counted.requests(&mut since);
    let second = project.built("two", &["--push", "-t", &counted.name("app:2"), &from(&image), INLINE]);
    // The same steps are the same image, also with what it carries.
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    let layers: Vec<String> = manifest(&image)["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect();
    let requests = counted.requests(&mut since);
    let moved =
        requests.iter().filter(|r| r.starts_with("GET") && layers.iter().any(|layer| r.contains(layer)));
    assert_eq!(moved.count(), 0, "{requests:#?}");
    assert!(!requests.iter().any(|request| request.contains("/uploads/")), "{requests:#?}");

    // Who copies it into another registry, or into Docker's form, takes the records along.
    let other = busybox_registry();
    for (tag, form) in [("oci", "oci"), ("docker", "v2s2")] {
        let copy = format!("{}/elsewhere:{tag}", other.host());
        copied(&image, &copy, &["--format", form]);
        let said = project.built(&format!("three {tag}"), &[&from(&copy)]);
        assert_eq!(said.ran(), 0, "{}", said.stderr);
    }

    // A file that changes: what stands below it is still found, and fetched for the step that runs.
    project.write("a", "changed\n");
    let said = project.built("four", &[&from(&image)]);
    assert_eq!(said.ran(), 3, "{}", said.stderr);
    assert!(said.stderr.contains("CACHED"), "{}", said.stderr);
    assert_eq!(project.rbuild("four", &["verify"]).code, 0);
}

#[test]
fn an_image_that_carries_records_keeps_its_digest() {
    let project = Project::new();
    let folder = project.path().join("cache").display().to_string();
    let to = format!("--cache-to=type=local,dest={folder}");
    let first = project.built("one", &[INLINE, &to]);
    assert_eq!(first.ran(), 8, "{}", first.stderr);
    // Steps of several stages have keys of two kinds, of which later builds meet one.
    let again = project.built("one", &[INLINE]);
    assert_eq!(again.digest(), first.digest(), "{}", again.stderr);
    let elsewhere = project.built("two", &[INLINE, &format!("--cache-from=type=local,src={folder}")]);
    assert_eq!((elsewhere.ran(), elsewhere.digest()), (0, first.digest()), "{}", elsewhere.stderr);
    // Without records it is another one, and what is made of it carries none.
    let plain = project.built("one", &[]);
    assert_ne!(plain.digest(), first.digest());
}

#[test]
fn what_is_made_of_it_carries_nothing_of_it() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", one_stage(&counted));
    let (image, child) = (counted.name("app:1"), counted.name("child:1"));
    project.built("one", &["--push", "-t", &image, INLINE]);
    project.write("Dockerfile", format!("FROM {image}\nRUN echo 3 > /3\n"));
    project.built("one", &["--push", "-t", &child]);
    assert_eq!(config(&child, &[])[KEY], Value::Null);
    // And with records it has those of its own steps.
    project.built("one", &["--push", "-t", &child, INLINE]);
    assert_eq!(config(&child, &[])[KEY].as_array().unwrap().len(), 1);
}

#[test]
fn every_platform_carries_its_own() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\nCOPY busybox /\n");
    let image = counted.name("app:1");
    let platforms = "--platform=linux/amd64,linux/arm64";
    let first = project.built("one", &["--push", "-t", &image, platforms, INLINE]);
    for architecture in ["amd64", "arm64"] {
        let config = config(&image, &["--override-arch", architecture]);
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config[KEY].as_array().unwrap().len(), 2, "{config:#}");
    }
    let second =
        project.built("two", &["--push", "-t", &counted.name("app:2"), platforms, &from(&image), INLINE]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
}

#[test]
fn an_image_of_a_given_time_carries_none_and_the_build_says_so() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", one_stage(&counted));
    let image = counted.name("app:1");
    let dated = [("SOURCE_DATE_EPOCH", "1735689600")];
    let said = project.built_in("one", &dated, &["--push", "-t", &image, INLINE]);
    let note = "`--cache-to type=inline` does nothing with SOURCE_DATE_EPOCH";
    assert_eq!(said.stderr.matches(note).count(), 1, "{}", said.stderr);
    assert_eq!(project.built_in("one", &dated, &[]).digest(), said.digest());
    let said = project.built("two", &[&from(&image)]);
    let sentence =
        "it is an image and no cache: it carries no records of rbuild's; the build goes on without it";
    assert_eq!(said.stderr.matches(sentence).count(), 1, "{}", said.stderr);
}

#[test]
fn an_image_is_never_written_as_a_cache() {
    let counted = Counted::start();
    let project = Project::new();
    project.write("Dockerfile", one_stage(&counted));
    let image = counted.name("app:1");
    let first = project.built("one", &["--push", "-t", &image, INLINE]);
    project.write("a", "changed\n");
    let to = format!("--cache-to=type=registry,ref={image}");
    for arguments in [vec![&*to], vec![&to, &from(&image)].into_iter().map(|a| &**a).collect()] {
        let said = project.built("two", &arguments);
        assert!(said.stderr.contains("was not written: it is an image and no cache"), "{}", said.stderr);
    }
    for words in [&["cache", "rm"][..], &["cache", "prune", "--max-size=1"]] {
        let said = project.rbuild("one", &[words, &[&*image]].concat());
        assert!(said.code == 1 && said.stderr.contains("it is an image and no cache"), "{}", said.stderr);
    }
    let digest = manifest(&image).to_string();
    project.write("a", "a file\n");
    assert_eq!(project.built("three", &[&from(&image)]).ran(), 0, "{digest}");
    assert_eq!(project.rbuild("one", &["cache", "inspect", &image]).code, 0);
    assert_ne!(first.digest(), "");
}

#[test]
fn steps_that_had_secrets_can_be_left_out() {
    let counted = Counted::start();
    let project = Project::new();
    let secret = project.path().join("secret");
    std::fs::write(&secret, "hidden").unwrap();
    let base = counted.name("busybox:latest");
    let steps = "RUN --mount=type=secret,id=s echo 1 > /1\nRUN echo 2 > /2\n";
    project.write("Dockerfile", format!("FROM {base}\n{steps}"));
    let (secret, image) = (format!("--secret=id=s,src={}", secret.display()), counted.name("app:1"));
    for (to, layers) in [(INLINE, &[1, 2][..]), ("--cache-to=type=inline,secrets=skip", &[2])] {
        project.built("one", &["--push", "-t", &image, &secret, to]);
        let carried = config(&image, &[])[KEY].clone();
        let carried = carried.as_array().unwrap().iter().map(|record| record["layer"].as_u64().unwrap());
        assert_eq!(carried.collect::<Vec<u64>>(), layers);
    }
}

#[test]
fn what_others_wrote_there_is_no_record() {
    let registry = busybox_registry();
    let project = Project::new();
    let image = TestImage::new("linux/amd64", Vec::new());
    for (tag, key, value, sentence) in [
        (
            "buildkit",
            "moby.buildkit.cache.v0",
            r#""e30=""#,
            "it carries BuildKit's records and none of rbuild's",
        ),
        ("word", KEY, r#""word""#, "it carries no records of rbuild's"),
        ("wrong", KEY, r#"[{"layer":7,"key":"ab","time":1}]"#, "it carries no records of rbuild's"),
    ] {
        let mut config: Value = serde_json::from_slice(&image.config_bytes()).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        let config = config.to_string();
        let digest = registry.push_blob("app", config.as_bytes());
        let mut manifest = image.manifest();
        (manifest.config.digest, manifest.config.size) = (digest, config.len() as u64);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        registry.push_manifest("app", tag, &rbuild::oci::MediaType::MANIFEST, &bytes);
        let said = project.built(tag, &[&from(&format!("{}/app:{tag}", registry.host()))]);
        assert_eq!(said.stderr.matches(sentence).count(), 1, "{}", said.stderr);
    }
}
