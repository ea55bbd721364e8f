//! `rbuild sbom`: against what syft finds, and against the schemas of the documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::http::{Reply, Server};
use crate::support::program::World;
use crate::support::tools;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sbom")
}

fn lines(path: &Path) -> BTreeSet<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// What `rbuild sbom --format=json` says of an image.
fn sbom(world: &World, args: &[&str]) -> Value {
    let ran = world.rbuild(["sbom", "--format=json"]).args(args).any_stdout().run();
    serde_json::from_str(&ran.stdout).unwrap()
}

/// As `testdata/sbom/record` writes them.
fn package_lines(sbom: &Value) -> BTreeSet<String> {
    let text = |value: &Value| match value.as_str().unwrap() {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    let line = |p: &Value| ["type", "name", "version", "purl"].map(|field| text(&p[field])).join(" ");
    sbom["packages"].as_array().unwrap().iter().map(line).collect()
}

/// Of what this root has syft 1.18.1 reads nothing in images, so there is nothing to count.
const UNREAD_BY_SYFT: &str = "dotnet";

/// Each difference stands in `differences.txt` with its reason, and nothing else does.
#[test]
fn finds_what_syft_finds() {
    let world = World::new();
    fs::write(world.path().join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let dockerfile = world.path().join("Dockerfile");
    let (mut found, mut expected, mut both) = (0, 0, 0);
    let mut differences = BTreeSet::new();
    for entry in fs::read_dir(testdata().join("roots")).unwrap() {
        let root = entry.unwrap().path();
        let name = root.file_name().unwrap().to_str().unwrap().to_owned();
        world.rbuild(["build", "-q", "-t", &name, "-f"]).arg(&dockerfile).arg(&root).any_stdout().run();
        let ours = package_lines(&sbom(&world, &[&name]));
        let syft = lines(&testdata().join("expected").join(format!("{name}.txt")));
        differences.extend(syft.difference(&ours).map(|line| format!("{name}: - {line}")));
        differences.extend(ours.difference(&syft).map(|line| format!("{name}: + {line}")));
        if name == UNREAD_BY_SYFT {
            assert!(syft.is_empty() && !ours.is_empty());
            continue;
        }
        (found, expected, both) =
            (found + ours.len(), expected + syft.len(), both + ours.intersection(&syft).count());
    }
    let explained = lines(&testdata().join("differences.txt"));
    let is_difference = |line: &&String| !line.is_empty() && !line.starts_with('#');
    let explained: Vec<String> = explained.iter().filter(is_difference).cloned().collect();
    tools::same_lines("differences", &differences.into_iter().collect::<Vec<_>>(), &explained);
    assert!(both * 100 >= expected * 98, "{both} of {expected}");
    assert!((found - both) * 100 <= expected * 2, "{} others", found - both);
}

const STATUS: &str = "Package: one\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\nMaintainer: Ann <ann@example.org>\n";
const TWO: &str = "\nPackage: two\nStatus: install ok installed\nArchitecture: amd64\nSource: pair (2.0-src)\nVersion: 2.0\n";

/// An image whose second step upgrades one package, adds another and a file of nobody's, and whose third removes one.
fn layered(world: &World) {
    world.file("1/etc/os-release", "ID=debian\nVERSION_ID=12\n");
    world.file("1/var/lib/dpkg/status", format!("{STATUS}{TWO}"));
    world.file("1/var/lib/dpkg/info/one.list", "/.\n/lib\n/lib/one\n");
    world.file("1/usr/lib/one", "one");
    world.file("1/usr/share/doc/one/copyright", "Format: x\nLicense: MIT\n");
    world.file("2/var/lib/dpkg/status", format!("{}{TWO}", STATUS.replace("1.0", "1.1")));
    world.file(
        "2/app/node_modules/left/package.json",
        r#"{"name":"left","version":"3.0.0","license":"WTFPL"}"#,
    );
    world.file("2/app/node_modules/left/index.js", "left");
    world.file("2/opt/tool", "of nobody");
    world.file("3/var/lib/dpkg/status", STATUS.replace("1.0", "1.1"));
    world.dockerfile("FROM scratch\nCOPY 1 /\nCOPY 2 /\nENV A=b\nCOPY 3 /\n");
    world.build(["-q", "-t", "layered"]).any_stdout().run();
}

#[test]
fn says_which_step_brought_what() {
    let world = World::new();
    layered(&world);
    world
        .rbuild(["sbom", "layered"])
        .stdout("NAME  VERSION  TYPE\nleft  3.0.0    npm\none   1.1      deb\n")
        .run();
    let by_step = "\
step 1, line 2: COPY 1 /
  +  one  1.0  deb
  +  two  2.0  deb
  ? 1 file of no package in /etc (24 B)
  ? 1 file of no package in /usr/lib (3 B)
  ? 1 file of no package in /usr/share/doc/one (23 B)
step 2, line 3: COPY 2 /
  ~  one   1.0 → 1.1  deb
  +  left  3.0.0      npm
  ? 1 file of no package in /opt (9 B)
step 4, line 5: COPY 3 /
  -  two  2.0  deb
";
    // Without a link from /lib to /usr/lib the list of `one` is about another file.
    world.rbuild(["sbom", "--by-step", "layered"]).stdout(by_step).run();
    let json = sbom(&world, &["--by-step", "layered"]);
    assert_eq!(json["packages"][0]["purl"], "pkg:deb/debian/one@1.1?arch=all&distro=debian-12");
    assert_eq!(json["packages"][0]["licences"][0], "MIT");
    assert_eq!((&json["packages"][0]["step"], &json["packages"][1]["step"]), (&2.into(), &2.into()));
    assert_eq!(json["steps"][1]["changed"][0]["from"], "1.0");
    assert_eq!(
        json["steps"][2]["removed"][0],
        "pkg:deb/debian/two@2.0?arch=amd64&distro=debian-12&upstream=pair%402.0-src"
    );
    assert_eq!(json["steps"][1]["unowned"][0]["path"], "/opt/tool");
}

#[test]
fn says_what_two_images_differ_by() {
    let world = World::new();
    layered(&world);
    world.dockerfile("FROM scratch\nCOPY 1 /\n");
    world.build(["-q", "-t", "old"]).any_stdout().run();
    let table = "~  one   1.0 → 1.1  deb\n-  two   2.0        deb\n+  left  3.0.0      npm\n";
    world.rbuild(["sbom", "diff", "old", "layered"]).stdout(table).run();
    let ran = world.rbuild(["sbom", "diff", "--format=json", "old", "layered"]).any_stdout().run();
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json[0]["change"], &json[0]["from"]), (&"changed".into(), &"1.0".into()));
    world.rbuild(["sbom", "diff", "old", "old"]).stdout("").run();
}

/// Debian's package `python3-jsonschema` holds a document to a schema.
fn holds(schema: &str, document: &str) {
    const SCRIPT: &str = "
import json, pathlib, sys, jsonschema
# Version 4.10 cannot word one of its own errors, also where others make up for it.
jsonschema._validators.extras_msg = lambda extras: (', '.join(map(repr, extras)), 'were')
folder, schema, document = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
load = lambda name: json.loads((folder / name).read_text())
schema = load(schema)
store = {other['$id']: other for other in map(load, ['jsf-0.82.schema.json', 'spdx.schema.json'])}
resolver = jsonschema.RefResolver.from_schema(schema, store=store)
errors = list(jsonschema.Draft7Validator(schema, resolver=resolver).iter_errors(json.loads(pathlib.Path(document).read_text())))
print([f'{list(error.path)}: {error.message[:300]}' for error in errors[:5]])
";
    let folder = testdata().join("schema").display().to_string();
    assert_eq!(
        tools::run("/usr/bin/python3", ["-c", SCRIPT, &folder, schema, document]),
        "[]\n",
        "{document}"
    );
}

#[test]
fn documents_hold_to_their_schemas_and_are_always_the_same() {
    let world = World::new();
    layered(&world);
    fs::write(world.path().join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let dockerfile = world.path().join("Dockerfile");
    for root in ["alpine", "debian", "java", "python", "programs"] {
        let folder = testdata().join("roots").join(root);
        world.rbuild(["build", "-q", "-t", root, "-f"]).arg(&dockerfile).arg(&folder).any_stdout().run();
    }
    for image in ["layered", "alpine", "debian", "java", "python", "programs"] {
        for (format, schema) in [("spdx", "spdx-2.3.schema.json"), ("cyclonedx", "bom-1.6.schema.json")] {
            for more in [&[][..], &["--by-step"]] {
                let path = world.path().join("document").display().to_string();
                let words = ["sbom", "--format", format, "-o", &path, image];
                world.rbuild(words).args(more).run();
                holds(schema, &path);
                let first = fs::read(&path).unwrap();
                world.rbuild(words).args(more).run();
                assert!(fs::read(&path).unwrap() == first, "{image} {format}");
            }
        }
    }
    let ran = world.rbuild(["sbom", "--format=spdx", "--by-step", "layered"]).any_stdout().run();
    let spdx: Value = serde_json::from_str(&ran.stdout).unwrap();
    let of =
        |name: &str| spdx["packages"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone();
    assert_eq!(of("one")["comment"], "changed from 1.0 by step 2 (line 3): COPY 2 /");
    assert_eq!(of("one")["licenseDeclared"], "MIT");
    assert!(of("layer 3")["comment"].as_str().unwrap().contains("removed: pkg:deb/debian/two@2.0"));
}

/// What is known of a layer is enough: the layer itself is not read again.
#[test]
fn a_layer_is_read_once() {
    let world = World::new();
    layered(&world);
    let before = world.rbuild(["sbom", "--by-step", "layered"]).any_stdout().run().stdout;
    let image =
        world.images().image(world.rbuild(["images", "-q", "--no-trunc"]).any_stdout().run().stdout.trim());
    for layer in image.manifest.layers() {
        fs::remove_file(world.store().join("blobs/sha256").join(layer.digest().digest())).unwrap();
    }
    world.rbuild(["sbom", "--by-step", "layered"]).stdout(before).run();
    let known = world.store().join("rbuild/inventories");
    fs::remove_dir_all(&known).unwrap();
    let failed = world.rbuild(["sbom", "layered"]).status(1).run();
    assert!(failed.stderr.contains("is not in the local store"), "{}", failed.stderr);
    assert!(failed.stderr.contains("`rbuild pull layered` brings its layers here"), "{}", failed.stderr);
}

/// Of a layer that was written here only pieces are read, and they say what the whole does.
#[test]
fn pieces_of_a_layer_say_what_the_whole_does() {
    let world = World::new();
    let mut noise = 1_u32;
    let mut random = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    for folder in ["a", "m", "z"] {
        let bytes: Vec<u8> = std::iter::repeat_with(&mut random).take(2 << 20).collect();
        world.file(&format!("root/{folder}/data"), bytes);
        let text = format!(r#"{{"name":"of-{folder}","version":"1.0.0"}}"#);
        world.file(&format!("root/{folder}/node_modules/x/package.json"), text);
    }
    for program in ["docker", "uv"] {
        let mut bytes = fs::read(testdata().join("roots/programs/usr/bin").join(program)).unwrap();
        // Larger than a segment, as programs are.
        bytes.extend(std::iter::repeat_with(&mut random).take(2 << 20));
        world.file(&format!("root/bin/{program}.so"), bytes);
    }
    world.dockerfile("FROM scratch\nCOPY root /\n");
    world.build(["-q", "-t", "large"]).any_stdout().run();
    let told = sbom(&world, &["large"]);
    let packages = package_lines(&told);
    assert!(
        packages.len() > 100 && packages.iter().any(|line| line.starts_with("npm of-z ")),
        "{packages:?}"
    );
    for folder in ["inventories", "segments"] {
        fs::remove_dir_all(world.store().join("rbuild").join(folder)).unwrap();
    }
    assert_eq!(sbom(&world, &["large"]), told);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_told() {
    let world = World::new();
    let rpm = fs::read(testdata().join("roots/rpm-sqlite/usr/lib/sysimage/rpm/rpmdb.sqlite")).unwrap();
    world.file("root/usr/lib/sysimage/rpm/rpmdb.sqlite", &rpm[..rpm.len() / 2]);
    world.file("root/a/package.json", r#"{"name":"a","version":"1","#);
    world.file("root/b/package.json", r#"{"name":"b","version":"1"}"#);
    world.file("root/c.jar", "PK\u{3}\u{4} and no more");
    world.dockerfile("FROM scratch\nCOPY root /\n");
    world.build(["-q", "-t", "damaged"]).any_stdout().run();
    let ran =
        world.rbuild(["sbom", "damaged"]).stdout("NAME  VERSION  TYPE\nb     1        npm\n").remarks().run();
    for part in ["/usr/lib/sysimage/rpm/rpmdb.sqlite` may", "`/a/package.json` may", "`/c.jar` may"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

/// Whatever a package says of itself, and whichever document it is.
#[test]
fn no_url_in_a_document_has_a_password() {
    let world = World::new();
    let licence = "see https://me:hunter22@example.org/licence";
    world.file("package.json", format!(r#"{{"name":"left","version":"1","license":"{licence}"}}"#));
    world.dockerfile("FROM scratch\nCOPY package.json /a/\n");
    world.build(["-q", "-t", "told", "--sbom"]).any_stdout().run();
    let hidden = "see https://xxxxx:xxxxx@example.org/licence";
    for format in ["spdx", "cyclonedx", "json"] {
        let text = world.rbuild(["sbom", "--format", format, "told"]).any_stdout().run().stdout;
        assert!(text.contains(hidden) && !text.contains("hunter22"), "{text}");
    }
    let text = world.rbuild(["attest", "get", "told"]).any_stdout().run().stdout;
    assert!(text.contains(hidden) && !text.contains("hunter22"), "{text}");
}

/// A machine that has nothing of the stages, because all came from a cache, attests the same.
#[test]
fn an_attested_sbom_is_the_same_from_a_cache() {
    let world = World::new();
    world.file("package.json", r#"{"name":"left","version":"3.0.0"}"#);
    world.dockerfile(
        "FROM scratch AS build\nCOPY package.json /x/package.json\nFROM scratch\nCOPY --from=build /x /app\n",
    );
    let folder = world.path().join("cache").display().to_string();
    let attested = |option: &str| {
        world
            .build(["-q", "-t", "copied", "--sbom"])
            .arg(format!("--{option}={folder}"))
            .any_stdout()
            .remarks()
            .run();
        world.rbuild(["attest", "get", "copied"]).any_stdout().run().stdout
    };
    let first = attested("cache-to=type=local,dest");
    std::fs::rename(world.store(), world.path().join("before")).unwrap();
    let second = attested("cache-from=type=local,src");
    assert!(first == second && first.contains("stage build"), "{first}\n{second}");
}

/// A package that was copied is told with the stage and the instruction that brought it there.
#[test]
fn says_where_copied_packages_come_from() {
    let world = World::new();
    let server = Server::start(|_| Reply::new(200, "of a server"));
    let url = format!("http://{}", server.host());
    world.file("package.json", r#"{"name":"left","version":"3.0.0"}"#);
    world.file("other.json", r#"{"name":"tool","version":"1.0.0"}"#);
    world.dockerfile(&format!(
        "FROM scratch AS low\nCOPY other.json /t/node_modules/tool/package.json\n\
         FROM low AS build\nENV A=b\nCOPY package.json /x/node_modules/left/package.json\n\
         FROM scratch\nCOPY --from=build /x /app\nADD {url}/file.txt /\nCOPY package.json /a\n"
    ));
    let context = world.context();
    let git = "git init -q . && git add . && git -c user.name=a -c user.email=a@example.org commit -q -m one && \
               git remote add origin https://example.org/app.git && git rev-parse HEAD";
    let commit = tools::run("/bin/sh", ["-ec", &format!("cd {} && {git}", context.display())]);
    let commit = commit.trim();
    world.build(["-q", "-t", "copied", "--sbom"]).any_stdout().run();

    let told = world.rbuild(["sbom", "--by-step", "copied"]).any_stdout().run().stdout;
    let copied = "step 1, line 7: COPY /x /app\n  <  stage `build` (2 packages)\n  \
                  +  left  3.0.0  npm  from stage `build`, line 5\n";
    assert!(told.starts_with(copied), "{told}");
    let digest = format!("  <  {url}/file.txt (sha256:");
    assert!(told.contains(&digest), "{told}");
    let from = format!("  <  the context: https://example.org/app.git, commit {commit}\n");
    assert!(told.contains(&from), "{told}");
    assert!(!told.contains("tool"), "{told}");
    let told = world.rbuild(["sbom", "--by-step", "--stages", "copied"]).any_stdout().run().stdout;
    assert!(told.ends_with(
        "stage `build`, step 2, line 2: COPY other.json /t/node_modules/tool/package.json\n  +  tool  1.0.0  npm\n\
         stage `build`, step 3, line 5: COPY package.json /x/node_modules/left/package.json\n  +  left  3.0.0  npm\n"
    ), "{told}");

    let json = sbom(&world, &["--by-step", "copied"]);
    let copied = &json["packages"][0]["copied"];
    assert_eq!((&copied["stage"], &copied["step"]["line"]), (&"build".into(), &5.into()));
    assert_eq!(copied["path"], "/x/node_modules/left/package.json");
    assert_eq!((&json["sources"][0]["kind"], &json["steps"][0]["sources"][0]), (&"stage".into(), &0.into()));

    for (more, tools) in [(&[][..], 0), (&["--by-step"][..], 0), (&["--by-step", "--stages"], 1)] {
        let path = world.path().join("document").display().to_string();
        world.rbuild(["sbom", "--format=spdx", "-o", &path, "copied"]).args(more).run();
        holds("spdx-2.3.schema.json", &path);
        let text = fs::read_to_string(&path).unwrap();
        let spdx: Value = serde_json::from_str(&text).unwrap();
        let all = |kind: &str| -> Vec<(String, String)> {
            let all = spdx["relationships"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            all.filter(|found| found["relationshipType"] == kind)
                .map(|found| (text(&found["spdxElementId"]), text(&found["relatedSpdxElement"])))
                .collect()
        };
        assert_eq!(all("BUILD_TOOL_OF"), [("SPDXRef-Source-1".to_owned(), "SPDXRef-Image".to_owned())]);
        assert_eq!(all("GENERATED_FROM").len(), 3);
        assert_eq!(all("COPY_OF").len(), tools, "{more:?}");
        let packages = spdx["packages"].as_array().unwrap();
        let of = |name: &str| packages.iter().rfind(|package| package["name"] == name).cloned();
        assert_eq!(of("tool").is_some(), tools == 1, "a scanner would take it for one of the image");
        let context = of("context").unwrap();
        let place = format!("git+https://example.org/app.git@{commit}");
        assert_eq!((&context["downloadLocation"], &context["versionInfo"]), (&place.into(), &commit.into()));
        let file = of("file.txt").unwrap();
        assert_eq!(file["downloadLocation"], format!("{url}/file.txt"));
        assert!(file["checksums"][0]["checksumValue"].is_string());
        if !more.is_empty() {
            let told = of("left").unwrap()["comment"].as_str().unwrap().to_owned();
            assert!(
                told.ends_with(
                    "; copied from stage `build`, where step 3 (line 5): \
                 COPY package.json /x/node_modules/left/package.json brought it"
                ),
                "{told}"
            );
        }
    }
    // What is kept beside the image names the stage, too, and does not look into it.
    let spdx = world.rbuild(["attest", "get", "copied"]).any_stdout().run().stdout;
    assert!(spdx.contains("BUILD_TOOL_OF") && !spdx.contains("; copied from"), "{spdx}");
    for (more, tools) in [(&[][..], false), (&["--by-step"][..], false), (&["--by-step", "--stages"], true)] {
        let path = world.path().join("document").display().to_string();
        world.rbuild(["sbom", "--format=cyclonedx", "-o", &path, "copied"]).args(more).run();
        holds("bom-1.6.schema.json", &path);
        let document: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert!(document["components"].as_array().unwrap().iter().all(|found| found["name"] != "tool"));
        let ancestors = document["metadata"]["component"]["pedigree"]["ancestors"].as_array().unwrap();
        let of = |name: &str| ancestors.iter().find(|found| found["name"] == name).unwrap();
        let stage = of("stage build");
        assert_eq!(stage["components"].to_string().contains("\"tool\""), tools, "{stage}");
        let file = of(&format!("{url}/file.txt"));
        assert_eq!((&file["type"], &file["hashes"][0]["alg"]), (&"file".into(), &"SHA-256".into()));
        assert_eq!(file["externalReferences"][0]["type"], "distribution");
        let context = of("context");
        assert_eq!(context["pedigree"]["commits"][0]["uid"], commit);
        assert_eq!(context["externalReferences"][0]["url"], "https://example.org/app.git");
        if !more.is_empty() {
            let taken = stage["properties"].to_string();
            assert!(taken.contains("rbuild:taken-by") && taken.contains("COPY /x /app"), "{taken}");
            let left =
                document["components"].as_array().unwrap().iter().find(|found| found["name"] == "left");
            let copied = &left.unwrap()["properties"].to_string();
            assert!(
                copied.contains(&format!("\"rbuild:copied-from\",\"value\":{}", stage["bom-ref"])),
                "{copied}"
            );
        }
    }
    // The record is what knows it. Without it the documents say something else, and are called otherwise.
    let names = || {
        [("spdx", "documentNamespace"), ("cyclonedx", "serialNumber")].map(|(format, name)| {
            let ran = world.rbuild(["sbom", "--format", format, "copied"]).any_stdout().run();
            serde_json::from_str::<Value>(&ran.stdout).unwrap()[name].as_str().unwrap().to_owned()
        })
    };
    let before = names();
    assert_eq!(names(), before);
    world.rbuild(["history", "rm", "--all"]).any_stdout().run();
    let told = world.rbuild(["sbom", "--by-step", "copied"]).any_stdout().run().stdout;
    assert!(told.starts_with("step 1, line 7: COPY /x /app\n  +  left  3.0.0  npm\n"), "{told}");
    let after = names();
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
}
