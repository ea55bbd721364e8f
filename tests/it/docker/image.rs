//! What the image is with options of docker's, and what a build says of it.

use std::fs;

use serde_json::Value;

use crate::support::program::World;
use crate::support::registry::Registry;

fn world() -> World {
    let world = World::new();
    world.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n");
    world
}

fn json(world: &World, words: &[&str]) -> Value {
    serde_json::from_str(&world.rbuild(words.iter()).any_stdout().run().stdout).unwrap()
}

/// A blob of the store as JSON.
fn blob(world: &World, digest: &str) -> Value {
    let path = world.store().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn annotations_go_where_their_level_says() {
    let world = world();
    let levels = [
        "plain=1",
        "index,manifest[linux/amd64]:some=2",
        "manifest-descriptor[linux/arm64]:entry=3",
        "index-descriptor:outer=4",
        "org.opencontainers.image.url=https://example.org/a:b",
    ];
    let layout = world.path().join("layout");
    let output =
        format!("type=oci,dest={},tar=false,annotation-manifest[linux/arm64].own=5", layout.display());
    let words = levels.iter().flat_map(|level| ["--annotation", level]);
    let ran = world.build(words).args(["--platform=linux/amd64,linux/arm64", "-t", "a", "-o", &output]).run();
    let index = blob(&world, &ran.digest());
    assert_eq!(index["annotations"], serde_json::json!({"some": "2"}));
    let url = "https://example.org/a:b";
    let manifest =
        |at: usize| blob(&world, index["manifests"][at]["digest"].as_str().unwrap())["annotations"].clone();
    let amd64 = serde_json::json!({"org.opencontainers.image.url": url, "plain": "1", "some": "2"});
    let arm64 = serde_json::json!({"org.opencontainers.image.url": url, "own": "5", "plain": "1"});
    assert_eq!((manifest(0), manifest(1)), (amd64, arm64));
    assert!(index["manifests"][0].get("annotations").is_none());
    assert_eq!(index["manifests"][1]["annotations"], serde_json::json!({"entry": "3"}));
    let outer: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(outer["manifests"][0]["annotations"]["outer"], "4");
}

#[test]
fn annotations_that_nothing_gets_are_told() {
    let world = world();
    let words =
        ["--annotation=index:a=1", "--annotation=manifest[linux/riscv64]:b=2", "--annotation=manifest:c=3"];
    let ran = world.build(words).remarks().run();
    assert!(
        ran.stderr.contains("`index:a` is left out: an image of one platform has no index"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("`manifest[linux/riscv64]:b` is left out"), "{}", ran.stderr);
    assert_eq!(blob(&world, &ran.digest())["annotations"], serde_json::json!({"c": "3"}));
    let ran = world.build(["--annotation=indx:a=1"]).status(2).run();
    assert!(ran.stderr.contains("there is no level `indx`"), "{}", ran.stderr);
}

#[test]
fn the_id_is_what_the_place_knows_the_image_by() {
    let world = world();
    let digest = world.build([""; 0]).run().digest();
    world.rbuild(["-q", "--iidfile=id", "."]).stdout(format!("{digest}\n")).run();
    let config = blob(&world, &digest)["config"]["digest"].as_str().unwrap().to_owned();
    let archive = format!("type=docker,dest={}", world.path().join("x.tar").display());
    world.rbuild(["-q", "--iidfile=id", "-o", &archive, "."]).stdout(format!("{config}\n")).run();
    assert_eq!(fs::read_to_string(world.context().join("id")).unwrap(), config);
    // Both find it.
    let by = |id: &str| json(&world, &["inspect", id])[0]["Id"].as_str().unwrap().to_owned();
    assert_eq!(
        (by(&config), by(&config[7..20]), by(&digest)),
        (digest.clone(), digest.clone(), digest.clone())
    );
    world.rbuild(["tag", &config, "named:1"]).any_stdout().run();
    assert_eq!(by(&config), digest);
    // The file of a build that fails is not that of the one before.
    world.dockerfile("FROM scratch\nCOPY nothing /\n");
    world.rbuild(["-q", "--iidfile=id", "."]).status(1).run();
    assert!(!world.context().join("id").exists());
}

#[test]
fn metadata_has_the_keys_of_buildx() {
    let world = world();
    world.dockerfile("FROM scratch AS Base\nCOPY Dockerfile /\n");
    let ran = world.build(["-t", "a", "-t", "localhost:5000/b:1", "--metadata-file=m"]).remarks().run();
    let metadata =
        || -> Value { serde_json::from_slice(&fs::read(world.context().join("m")).unwrap()).unwrap() };
    let one = metadata();
    let manifest = blob(&world, &ran.digest());
    assert_eq!(one["containerimage.digest"], ran.digest());
    assert_eq!(one["containerimage.config.digest"], manifest["config"]["digest"]);
    let descriptor = &one["containerimage.descriptor"];
    assert_eq!(
        (&descriptor["digest"], &descriptor["mediaType"]),
        (&one["containerimage.digest"], &manifest["mediaType"])
    );
    assert_eq!(one["image.name"], "docker.io/library/a:latest,localhost:5000/b:1");
    assert!(one.get("buildx.build.warnings").is_none(), "{one}");
    let words = ["--platform=linux/amd64,linux/arm64", "--metadata-file=m"];
    let ran = world.build(words).env("BUILDX_METADATA_WARNINGS", "1").remarks().run();
    let several = metadata();
    assert_eq!(several["containerimage.digest"], ran.digest());
    assert!(several.get("containerimage.config.digest").is_none(), "{several}");
    let warning = &several["buildx.build.warnings"][0];
    assert_eq!(decoded(&warning["short"]), "StageNameCasing: Stage name 'Base' should be lowercase (line 1)");
    assert_eq!(warning["range"][0]["start"]["line"], 1);
    assert_eq!(decoded(&warning["sourceInfo"]["data"]), "FROM scratch AS Base\nCOPY Dockerfile /\n");
    assert_eq!(warning["sourceInfo"]["filename"], "Dockerfile");
    // What is no file is written to, not replaced; and a folder that is not there is told.
    let ran = world.build(["--metadata-file=/dev/stdout"]).any_stdout().remarks().run();
    assert!(ran.stdout.contains("containerimage.digest"), "{}", ran.stdout);
    let ran = world.build(["--metadata-file=nowhere/m"]).status(1).remarks().run();
    assert!(ran.stderr.contains("cannot write `nowhere/m`"), "{}", ran.stderr);
}

fn decoded(value: &Value) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn dockers_media_types() {
    let world = world();
    let ran = world.build(["-t", "a", "-o", "type=image,oci-mediatypes=false"]).run();
    let manifest = blob(&world, &ran.digest());
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let words = ["--platform=linux/amd64,linux/arm64", "-o", "type=image,oci-mediatypes=false"];
    let index = blob(&world, &world.build(words).run().digest());
    assert_eq!(index["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(index["manifests"][0]["mediaType"], manifest["mediaType"]);
    // As with BuildKit, annotations and zstd have no place there.
    for words in [
        ["--annotation=a=b", "-o", "type=image,oci-mediatypes=false"],
        ["-t=b", "-o", "type=image,compression=zstd,oci-mediatypes=false"],
    ] {
        let ran = world.build(words).remarks().run();
        assert!(ran.stderr.contains("the image has OCI's media types nevertheless"), "{}", ran.stderr);
        assert_eq!(blob(&world, &ran.digest())["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    }
}

#[test]
fn an_image_is_pushed_by_its_digest() {
    let registry = Registry::start();
    let world = world();
    let name = format!("{}/team/app", registry.host());
    let output = "type=image,push-by-digest=true,name-canonical=true,push=true";
    let ran = world.build(["-t", &name, "-o", output, "--metadata-file=m"]).run();
    let digest = ran.digest();
    let get = |what: &str| {
        let url = format!("http://{}/v2/team/app/{what}", registry.host());
        let accept = "application/vnd.oci.image.manifest.v1+json";
        ureq::get(url).header("accept", accept).call().map(|answer| answer.status().as_u16())
    };
    assert_eq!(get(&format!("manifests/{digest}")).unwrap(), 200);
    assert!(get("manifests/latest").is_err());
    world.rbuild(["images"]).any_stdout().run();
    assert_eq!(world.rbuild(["images", "-q"]).any_stdout().run().stdout, "");
    // Names of the output count as well, and `--push` is about it.
    let named = format!("type=image,push-by-digest=true,name={name}");
    assert_eq!(world.build(["--push", "-o", &named]).run().digest(), digest);
    for words in
        [["-t", &format!("{name}:1"), "-o", output], ["-t", "x", "-o", &format!("{named}:1,push=true")]]
    {
        let ran = world.build(words).status(2).run();
        assert!(ran.stderr.contains("has no tag"), "{}", ran.stderr);
    }
    let ran = world.build(["-o", output]).status(2).run();
    assert!(ran.stderr.contains("an image without a name cannot be pushed"), "{}", ran.stderr);
}

#[test]
fn an_image_that_is_not_stored_has_no_name_here() {
    let registry = Registry::start();
    let world = world();
    let name = format!("{}/team/app:1", registry.host());
    let ran = world
        .build(["-t", &name, "-o", "type=registry,store=false,unpack=false,registry.insecure=true"])
        .run();
    assert!(ran.stderr.contains("push "), "{}", ran.stderr);
    assert_eq!(world.rbuild(["images", "-q"]).any_stdout().run().stdout, "");
    let ran = world.build(["-t", "a", "-o", "type=image,unpack=true,dangling-name-prefix=x"]).remarks().run();
    let notes = ran.stderr.lines().filter(|line| line.starts_with("note: ")).count();
    assert!(notes == 2 && ran.stderr.contains("there is no containerd"), "{}", ran.stderr);
}

#[test]
fn rawjson_is_buildkits_stream() {
    let world = world();
    let ran = world.rbuild(["--progress=rawjson", "-t", "a", "."]).run();
    let mut vertexes = std::collections::BTreeMap::new();
    for line in ran.stderr.lines() {
        let status: Value = serde_json::from_str(line).expect(line);
        let known = ["vertexes", "statuses", "logs", "warnings"];
        assert!(status.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{line}");
        for vertex in status["vertexes"].as_array().into_iter().flatten() {
            vertexes.insert(vertex["digest"].as_str().unwrap().to_owned(), vertex.clone());
        }
    }
    let copy = vertexes.values().find(|v| v["name"].as_str().unwrap().contains("COPY Dockerfile")).unwrap();
    assert!(copy["started"].is_string() && copy["completed"].is_string(), "{copy}");
    assert!(
        copy["inputs"].as_array().unwrap().iter().all(|input| vertexes.contains_key(input.as_str().unwrap()))
    );
    assert!(vertexes.values().all(|vertex| vertex["completed"].is_string()), "{vertexes:?}");
    // Why it failed is told in words, as buildx does and compose expects.
    world.dockerfile("FROM scratch\nCOPY nothing /\n");
    let ran = world.rbuild(["--progress=rawjson", "."]).status(1).run();
    let (json, text): (Vec<&str>, Vec<&str>) = ran.stderr.lines().partition(|line| line.starts_with('{'));
    assert!(json.iter().any(|line| line.contains("\"error\"")), "{}", ran.stderr);
    assert!(text[0].starts_with("error: ") && text[0].contains("nothing"), "{text:?}");
}
