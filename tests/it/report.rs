//! `rbuild report`, and its page in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::base::busybox_registry;
use crate::support::program::World;
use crate::support::registry::Registry;

/// The largest page of a usual build.
const USUAL: u64 = 400_000;

/// What is in a page; what is told of the target that is shown first stands beside the rest.
fn data(page: &str) -> Value {
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let mut data: Value = serde_json::from_str(data).unwrap();
    let view = data["views"][data["shown"].as_u64().unwrap() as usize].clone();
    for (name, value) in view.as_object().unwrap() {
        data[name] = value.clone();
    }
    data
}

fn report(world: &World, words: &[&str]) -> (PathBuf, Value) {
    let file = world.path().join("page.html");
    world.rbuild(["report", "-o"]).arg(&file).args(words).run();
    let page = fs::read_to_string(&file).unwrap();
    (file, data(&page))
}

fn text(world: &World, words: &[&str]) -> String {
    world.rbuild(["report", "--text"]).args(words).any_stdout().run().stdout
}

/// What a browser sees of pages after everything in them was pressed.
fn look(pages: &[&Path]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/report/look.py");
    let ran = Command::new("python3").arg(script).args(pages).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let seen: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    for one in &seen {
        assert_eq!(one["faults"], json!([]), "{:#}", one["faults"]);
        assert_eq!(
            (&one["scripts"], &one["foreign"], &one["attacked"]),
            (&json!(2), &json!(0), &json!(false))
        );
    }
    seen
}

const SECRET: &str = "sesame-open-7431";
const VALUE: &str = "value-of-an-argument";

/// A build that was built before, with what one can find fault with: a changed file, a removed one, another owner.
fn built_twice(world: &World, registry: &Registry) {
    world.dockerfile(&format!(
        "FROM {host}/busybox AS build\nARG WHAT\nCOPY src /src\nRUN --mount=type=secret,id=word cat /run/secrets/word >/dev/null; \
         head -c 3000000 /dev/zero >/src/large; echo $WHAT\nRUN sleep 1\n\
         FROM {host}/busybox\nCOPY --from=build /src /app/src\nRUN rm /app/src/large\nRUN chown -R 7:7 /app\nMAINTAINER x\n",
        host = registry.host()
    ));
    world.file("src/a.py", "1").file("word", SECRET);
    let arg = format!("WHAT={VALUE}");
    let words = ["-t", "app:1", "--build-arg", &arg, "--secret", "id=word,src=word"];
    world.build(words).remarks().run();
    world.file("src/a.py", "22").file("src/b.py", "3");
    world.build(words).args(["--build-arg", "http_proxy=http://u:pass-word@h/"]).remarks().run();
}

#[test]
fn a_build_is_shown_with_where_time_and_bytes_went() {
    let (world, registry) = (World::new(), busybox_registry());
    built_twice(&world, &registry);
    let (file, told) = report(&world, &[]);
    assert!(fs::metadata(&file).unwrap().len() < USUAL);
    let steps = told["record"]["steps"].as_array().unwrap();
    let step = |title: &str| {
        steps.iter().position(|step| step["title"].as_str().unwrap().starts_with(title)).unwrap()
    };
    // What changed, from what to what, and what it cost.
    let miss =
        told["misses"].as_array().unwrap().iter().find(|miss| miss["step"] == step("COPY src")).unwrap();
    assert_eq!((&miss["cause"], &miss["fields"][0][0]), (&Value::Null, &json!("src/a.py")));
    assert_ne!(miss["fields"][0][1], miss["fields"][0][2]);
    assert!(
        miss["then"].as_array().unwrap().contains(&json!(step("RUN sleep")))
            && miss["then_ms"].as_u64().unwrap() >= 1000
    );
    let critical = told["timeline"]["critical"].as_array().unwrap();
    let sleep = critical.iter().find(|link| link["step"] == step("RUN sleep")).unwrap();
    assert!(sleep["took_ms"].as_u64().unwrap() >= 1000 && sleep["saves_ms"].as_u64().unwrap() >= 1000);
    // Layers by instruction, and what of them nobody sees.
    let layers = told["image"]["layers"].as_array().unwrap();
    let layer = |title: &str| {
        layers.iter().position(|layer| layer["instruction"].as_str().unwrap().starts_with(title)).unwrap()
    };
    assert_eq!((&layers[0]["is_base"], &layers[0]["is_unique"]), (&json!(true), &json!(false)));
    let copied = &layers[layer("COPY --from=build")];
    assert_eq!((&copied["lines"], &copied["is_unique"]), (&json!([7, 7]), &json!(true)));
    assert_eq!(copied["tree"][0], "app/src");
    let hidden = &told["image"]["hidden"][0];
    assert_eq!(
        (&hidden["of"], &hidden["by"], &hidden["removed_bytes"]),
        (&json!(layer("COPY --from=build")), &json!(layer("RUN rm")), &json!(3_000_000))
    );
    assert_eq!(hidden["examples"], json!([["app/src/large", 3_000_000]]));
    assert!(told["image"]["efficiency"]["wasted_bytes"].as_u64().unwrap() >= 3_000_000);
    // Against the build before: two files, three bytes.
    let growth = &told["last"]["growth"];
    assert_eq!((&growth[0]["path"], growth.as_array().unwrap().len()), (&json!("app/src"), 1), "{growth:#}");
    assert_eq!((&growth[0]["before"], &growth[0]["after"]), (&json!(1), &json!(3)));
    assert_eq!(told["earlier"].as_array().unwrap().len(), 1);
    let kinds: Vec<_> = told["findings"].as_array().unwrap().iter().map(|one| one["kind"].clone()).collect();
    assert_eq!(kinds, ["time", "cache", "size", "waste"]);

    // The same in a terminal, of the build before, and of the image by its name.
    let shown = text(&world, &[]);
    for part in
        ["What stands out", "RUN sleep 1", "src/a.py changed", "3.0 MB  of COPY --from=build", "/app/src/"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!text(&world, &["^1"]).contains("Why steps ran again"));
    let (_, by_name) = report(&world, &["app:1"]);
    assert_eq!(
        (&by_name["record"]["id"], &by_name["image"]["names"]),
        (&told["record"]["id"], &json!(["app:1"]))
    );
    // Neither has what must not be seen.
    let page = fs::read_to_string(&file).unwrap();
    for hidden in [SECRET, VALUE, "pass-word"] {
        assert!(!page.contains(hidden) && !shown.contains(hidden), "{hidden}");
    }
}

/// The page of a build of two targets.
fn baked(world: &World, registry: &Registry) -> PathBuf {
    let host = registry.host();
    world.file(
        "baked/Dockerfile",
        format!(
            "FROM {host}/busybox AS base\nRUN head -c 3000000 /dev/urandom >/shared\nFROM {host}/busybox AS made\nRUN echo x >/made\n\
             FROM base AS one\nRUN rm /shared\nCOPY --from=made /made /\n\
             FROM base AS two\nRUN head -c 9000 /dev/zero >/own\nCOPY --from=made /made /\n"
        ),
    );
    let target = |name: &str| {
        format!(
            "target \"{name}\" {{\n context = \"baked\"\n target = \"{name}\"\n tags = [\"{name}:1\"]\n}}\n"
        )
    };
    let group = "group \"default\" { targets = [\"one\", \"two\"] }\n";
    world.file("docker-bake.hcl", format!("{group}{}{}", target("one"), target("two")));
    let (file, summary) = (world.path().join("baked.html"), world.path().join("summary.md"));
    let words = ["bake", "--progress=plain", "--report", file.to_str().unwrap()];
    let ran = world.rbuild(words).env("GITHUB_STEP_SUMMARY", &summary).remarks().run();
    assert!(ran.stderr.contains("\n  one: 3.0 MB removed in #"), "{}", ran.stderr);
    let summary = fs::read_to_string(&summary).unwrap();
    for part in ["### one, two\n\n2 images, ", "- `one`: `sha256:", "- one: 3.0 MB removed in \\#"] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    let told = data(&fs::read_to_string(&file).unwrap());
    let views = told["views"].as_array().unwrap();
    let names = views.iter().map(|view| view["image"]["names"][0].as_str().unwrap());
    assert!(names.map(|name| name.rsplit('/').next().unwrap()).eq(["one:1", "two:1"]), "{views:#?}");
    assert_eq!(
        (views[0]["image"]["hidden"][0]["removed_bytes"].as_u64(), &views[1]["image"]["hidden"]),
        (Some(3_000_000), &json!([]))
    );
    let (_, of_two) = report(world, &["two:1"]);
    assert_eq!((&of_two["shown"], &of_two["target"]), (&json!(1), &json!(1)));
    let shown = text(world, &["two:1"]);
    assert!(shown.contains("of target `two`") && shown.contains("\nThe image of target `one`\n"), "{shown}");
    file
}

/// A program that a browser stands for: says which page it was given.
fn browser(world: &World, folder: &str, name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = world.path().join(folder).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Whole at once: the test waits for the name.
    let given = world.path().join("given");
    let given = given.display();
    fs::write(&path, format!("#!/bin/sh\necho {name} \"$#\" \"$1\" >{given}.new; mv {given}.new {given}\n"))
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_report_is_opened_in_the_browser_there_is() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    world.build(["-t", "x"]).run();
    let (given, page) = (world.path().join("given"), world.path().join("a page.html"));
    let own = browser(&world, "own", "my-browser");
    let usual = browser(&world, "bin", "xdg-open");
    let path =
        std::env::join_paths([usual.parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    for (program, name) in [(own.to_str().unwrap(), "my-browser"), ("", "xdg-open")] {
        let command = world.rbuild(["report", "--open", "x", "-o"]).arg(&page);
        command.env("BROWSER", program).env("PATH", &path).run();
        // It goes on by itself when rbuild has ended.
        while !given.exists() {
            std::thread::yield_now();
        }
        let told = fs::read_to_string(&given).unwrap();
        assert_eq!(told, format!("{name} 1 {}\n", page.display()));
        assert_eq!(data(&fs::read_to_string(&page).unwrap())["image"]["names"], json!(["x:latest"]));
        fs::remove_file(&given).unwrap();
    }
    let gone = world.path().join("gone");
    let command = world.rbuild(["report", "--open", "x", "-o"]).arg(&page).env("BROWSER", &gone);
    let failed = command.status(1).run().stderr;
    assert!(failed.contains("cannot start `") && failed.contains("any browser opens it"), "{failed}");
    world.rbuild(["report", "--open", "-o", "-"]).status(2).run();
}

/// A record that cannot be read is told as such, and hides no other.
#[test]
fn records_that_cannot_be_read_are_told() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    world.build(["-t", "x"]).run();
    let folder = world.store().join("rbuild/history");
    let newer = "{\"format\":\"rbuild.build-record\",\"version\":9}";
    for (text, reason) in
        [("{\"format\":\"rbuild.bui", "is damaged"), (newer, "was written by a newer rbuild (format 9")]
    {
        // The newest of all.
        fs::write(folder.join("9999999999999-abcdef012345.json"), text).unwrap();
        for words in
            [&["report", "abcdef012345"][..], &["report", "--text", "abcd"], &["explain", "abcdef012345"]]
        {
            let told = world.rbuild(words).status(1).run().stderr;
            assert!(told.contains(reason) && !told.contains("no image"), "{words:?}: {told}");
        }
        for words in [&["report", "--text"][..], &["explain"], &["history", "--tree"]] {
            let ran = world.rbuild(words).any_stdout().remarks().run();
            assert!(
                ran.stderr.contains("note: ") && ran.stderr.contains(reason),
                "{words:?}: {}",
                ran.stderr
            );
            assert!(
                ran.stdout.contains("COPY Dockerfile /") || ran.stdout.contains("build "),
                "{}",
                ran.stdout
            );
        }
    }
    // The beginning of two.
    fs::write(folder.join("9999999999998-abcdef012346.json"), newer).unwrap();
    let told = world.rbuild(["report", "abcd"]).status(1).run().stderr;
    assert!(told.contains("`abcd` may be several builds"), "{told}");
    let told = world.rbuild(["report", "nothing"]).status(1).run().stderr;
    assert!(told.contains("no image `nothing`") && told.contains("no build of that id"), "{told}");
    // Where none can be read, that is the error.
    world.rbuild(["history", "rm", "--all"]).any_stdout().run();
    fs::write(folder.join("9999999999999-abcdef012345.json"), newer).unwrap();
    let told = world.rbuild(["report"]).status(1).run().stderr;
    assert!(told.contains("newer rbuild") && told.contains("read it with that version"), "{told}");
}

#[test]
fn a_page_works_in_a_browser() {
    let (world, registry) = (World::new(), busybox_registry());
    built_twice(&world, &registry);
    let (file, told) = report(&world, &[]);
    let bake = World::new();
    let baked = baked(&bake, &registry);
    let seen = look(&[&file, &baked]);
    let (seen, baked) = (&seen[0], &seen[1]);
    assert!(baked["text"].as_str().unwrap().contains("Image of target"), "{baked}");
    // Beside its Dockerfile each target has what the steps cost that it was made by, those that both share too, and no other's.
    for (at, name, own, others) in [(0, "one", [6, 7], [9, 10]), (1, "two", [9, 10], [6, 7])] {
        let target = &baked["targets"][at];
        assert_eq!(target["name"], name);
        let lines: Vec<u64> =
            target["lines"].as_array().unwrap().iter().map(|line| line.as_u64().unwrap()).collect();
        assert!([2, 4].iter().chain(&own).all(|line| lines.contains(line)), "{name}: {lines:?}");
        assert!(!others.iter().any(|line| lines.contains(line)), "{name}: {lines:?}");
    }
    let parts = [
        "findings",
        "time",
        "cache",
        "dockerfile",
        "size",
        "waste",
        "compare",
        "materials",
        "warnings",
        "about",
    ];
    for part in parts {
        assert!(seen["parts"].as_array().unwrap().contains(&json!(part)), "{part} in {}", seen["parts"]);
    }
    assert!(seen["presses"].as_u64().unwrap() > 100 && seen["files"].as_u64().unwrap() >= 5, "{seen}");
    assert!(seen["text"].as_str().unwrap().contains("What makes the image big"));
    // The record comes out as it is.
    let saved: Value = serde_json::from_str(seen["saved"].as_str().unwrap()).unwrap();
    assert_eq!(saved, told["record"]);
}

#[test]
fn the_report_of_a_build_is_written_at_once_even_if_it_fails() {
    let (world, registry) = (World::new(), busybox_registry());
    world.dockerfile(&format!("FROM {}/busybox\nRUN echo begun; exit 3\n", registry.host()));
    let file = world.path().join("failed.html");
    // Also where no records are kept.
    let config = world.path().join("config.toml");
    fs::write(&config, "[history]\nrecords = false\n").unwrap();
    let words = ["--report", file.to_str().unwrap()];
    world.build(words).env("RBUILD_CONFIG", &config).status(1).run();
    let told = data(&fs::read_to_string(&file).unwrap());
    assert_eq!((&told["record"]["status"], &told["image"]), (&json!("failed"), &Value::Null));
    assert_eq!(told["findings"][0]["kind"], "failure");
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    world.build(words).run();
    let told = data(&fs::read_to_string(&file).unwrap());
    assert_eq!(
        (&told["record"]["status"], &told["image"]["layers"][0]["files"]),
        (&json!("completed"), &json!(1))
    );
    // Where it cannot be written the build has succeeded all the same, and nothing is left.
    world.build(["-t", "x", "--report", "no/such/folder.html"]).status(1).run();
    world.rbuild(["report", "--text", "x"]).any_stdout().run();
    let names = fs::read_dir(world.context()).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["Dockerfile"]);
}

#[test]
fn what_builds_say_is_no_markup() {
    let world = World::new();
    let hostile = "</script><img src=x onerror=attacked=1><script>attacked=1</script>";
    let name = "\u{1b}[31m\u{202e}<img src=x onerror=attacked=1>";
    world.file(&format!("files/{name}"), vec![b'x'; 5000]);
    world.dockerfile(&format!(
        "FROM scratch\nARG {0}=1\nCOPY files /\nLABEL a=\"{hostile}\"\nENV B=\"{hostile}\u{202e}\u{9b}31m\"\nMAINTAINER {hostile}\n",
        "A"
    ));
    world.build(["-t", "h:1", "--build-arg", &format!("A={hostile}"), "--record-build-args"]).remarks().run();
    world.file(&format!("files/{name}"), vec![b'y'; 6000]);
    world
        .build(["-t", "h:1", "--build-arg", &format!("A={hostile}2"), "--record-build-args"])
        .remarks()
        .run();
    let (file, told) = report(&world, &[]);
    let page = fs::read_to_string(&file).unwrap();
    assert!(!page.contains("<img") && !page.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{page}");
    assert!(told.to_string().contains("onerror=attacked=1"), "{told}");
    assert!(!text(&world, &[]).contains(['\u{1b}', '\u{202e}', '\u{9b}']));
    let seen = &look(&[&file])[0];
    let shown = seen["text"].as_str().unwrap();
    assert!(shown.contains("\\u{202e}") && !shown.contains('\u{202e}'), "{shown}");
}

/// The record of the last build, changed, in its place.
fn change(world: &World, change: impl FnOnce(&mut Value)) {
    let folder = world.store().join("rbuild/history");
    let mut records = world.records();
    change(&mut records.last_mut().unwrap().1);
    // Each gets a file of its own.
    let _ = fs::remove_file(folder.join("recent"));
    for (name, record) in records {
        fs::write(folder.join(format!("{name}.json")), record.to_string()).unwrap();
    }
}

#[test]
fn records_may_say_anything() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\nCOPY Dockerfile /b\n");
    world.build([""; 0]).run();
    // Clocks that jump, steps that need what is not there and each other, lines and places beyond the file.
    change(&world, |record| {
        record["started_ms"] = json!(u64::MAX);
        record["took_ms"] = json!(7);
        for (at, step) in record["steps"].as_array_mut().unwrap().iter_mut().enumerate() {
            let (start, end) = ([0, u64::MAX, 50, 9][at % 4], [5, 3, u64::MAX, 10][at % 4]);
            (step["started_ms"], step["ended_ms"], step["took_ms"]) =
                (json!(start), json!(end), json!(u64::MAX));
            (step["needs"], step["lines"]) = (json!([0, 1, 2, 3, 99]), json!([900, 2]));
            (step["target"], step["missed"]) = (json!(40), json!("x changed"));
            (step["outcome"], step["waited"]) =
                (json!("ran"), json!({"slot_ms": u64::MAX, "lock_ms": 1, "transfer_ms": 2}));
        }
        let place = json!({"file": "Dockerfile", "line": 800, "column": 9, "end_line": 3, "end_column": 1});
        record["warnings"] = json!([{"text": "w", "place": place}]);
        record["unknown"] = json!({"later": true});
    });
    let (strange, _) = report(&world, &[]);
    assert!(text(&world, &[]).lines().count() > 3);
    look(&[&strange]);
    // A build that was killed says what was asked for.
    change(&world, |record| {
        (record["steps"], record["took_ms"], record["status"]) = (json!([]), Value::Null, json!("running"));
        record["started_ms"] = json!(1_800_000_000_000_u64);
    });
    let history = world.store().join("rbuild/history");
    let whole = fs::read_dir(&history).unwrap().next().unwrap().unwrap().path();
    fs::rename(&whole, whole.with_extension("begun")).unwrap();
    let (killed, told) = report(&world, &[]);
    assert_eq!(told["record"]["status"], "killed");
    look(&[&killed]);
    // One of a newer rbuild, and one that was cut off, are refused, and the page that is there stays.
    let before = fs::read(&killed).unwrap();
    let begun = whole.with_extension("begun");
    for (content, expected) in [
        (r#"{"format":"rbuild.build-record","version":99}"#, "newer rbuild"),
        (r#"{"format":"rbuild.build-record","ver"#, "is damaged"),
    ] {
        fs::write(&begun, content).unwrap();
        let ran = world.rbuild(["report", "-o"]).arg(&killed).status(1).run();
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert_eq!(fs::read(&killed).unwrap(), before);
    }
    fs::remove_file(&begun).unwrap();
    for word in ["no-such", "^7", "abcdef"] {
        let ran = world.rbuild(["report", word]).status(1).run();
        assert!(ran.stderr.contains(word) || ran.stderr.contains("there are only"), "{}", ran.stderr);
    }
}

/// An image as docker writes it, of these layers, without a history.
fn archive(path: &Path, layers: &[Vec<u8>]) {
    let mut out = tar::Builder::new(fs::File::create(path).unwrap());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, bytes).unwrap();
    };
    let digest = |bytes: &[u8]| rbuild::oci::Digest::of(bytes).to_string();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let names: Vec<String> = (0..layers.len()).map(|at| format!("layer{at}.tar")).collect();
    put("config.json", config.to_string().as_bytes());
    names.iter().zip(layers).for_each(|(name, layer)| put(name, layer));
    let manifest = json!([{"Config": "config.json", "RepoTags": ["foreign:1"], "Layers": names}]);
    put("manifest.json", manifest.to_string().as_bytes());
    out.finish().unwrap();
}

fn layer(files: impl IntoIterator<Item = (String, usize)>) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    for (path, size) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(size as u64);
        header.set_mode(0o644);
        layer.append_data(&mut header, path, vec![b'x'; size].as_slice()).unwrap();
    }
    layer.into_inner().unwrap()
}

#[test]
fn an_image_that_was_built_elsewhere_is_shown() {
    let world = World::new();
    let file = world.path().join("foreign.tar");
    let of = |files: &[(&str, usize)]| layer(files.iter().map(|(path, size)| ((*path).to_owned(), *size)));
    archive(&file, &[of(&[("usr/lib/a", 9000), ("etc/b", 10)]), of(&[("usr/lib/.wh.a", 0), ("etc/b", 20)])]);
    world.rbuild(["load", "-i"]).arg(&file).any_stdout().run();
    let (page, told) = report(&world, &["foreign:1"]);
    assert_eq!((&told["record"], &told["title"]), (&Value::Null, &json!("foreign:1")));
    let image = &told["image"];
    assert_eq!(
        (&image["layers"][0]["is_base"], &image["layers"][0]["instruction"]),
        (&Value::Null, &json!(""))
    );
    assert_eq!((&image["bytes"], &image["visible_bytes"]), (&json!(9030), &json!(20)));
    assert_eq!(image["efficiency"]["wasted_bytes"], 9030);
    let seen = &look(&[&page])[0];
    assert_eq!(seen["saved"], Value::Null);
    // Layers that are not here are said to be so.
    let digest = image["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    fs::remove_file(world.store().join("blobs/sha256").join(digest)).unwrap();
    fs::remove_dir_all(world.store().join("rbuild/indexes")).unwrap();
    let (page, told) = report(&world, &["foreign:1"]);
    assert!(
        told["image"]["layers"][0]["absent"].as_str().unwrap().contains("not in the local store"),
        "{told}"
    );
    assert!(told["image"]["no_packages"].is_string());
    look(&[&page]);
}

#[test]
fn a_page_of_300_steps_and_200_000_files_opens_in_less_than_a_second() {
    let world = World::new();
    let file = world.path().join("large.tar");
    let files = |layer: usize| {
        (0..50_000).map(move |at| (format!("srv/{layer}/{}/{}/file-{at}", at % 90, at % 700), at % 400))
    };
    let layers: Vec<Vec<u8>> = (0..4).map(|at| layer(files(at))).collect();
    archive(&file, &layers);
    world.rbuild(["load", "-i"]).arg(&file).any_stdout().run();
    fs::remove_file(&file).unwrap();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    world.build([""; 0]).run();
    let (_, told) = report(&world, &["foreign:1"]);
    let step = |number: u64| {
        json!({
            "number": number, "target": 1, "place": format!("[stage-{} {number}/300]", number % 9), "title": format!("RUN step-{number} --with='some words'"),
            "needs": if number > 9 { json!([number - 9]) } else { json!([]) }, "outcome": if number.is_multiple_of(3) { "cached" } else { "ran" },
            "missed": if number % 5 == 1 { json!("src/a.py changed") } else { Value::Null },
            "started_ms": number / 9 * 1000, "ended_ms": number / 9 * 1000 + 990, "took_ms": 900, "waited": {"slot_ms": 50, "lock_ms": 0, "transfer_ms": 0},
            "lines": [number, number], "key": format!("{number:064x}"), "usage": {"user_ms": 5, "system_ms": 1, "peak_memory": 1000, "read": 0, "written": 0},
            "layer": {"digest": format!("sha256:{number:064x}"), "diff_id": format!("sha256:{number:064x}"), "size": 10},
        })
    };
    let manifest = told["image"]["digest"].as_str().unwrap().to_owned();
    let blob =
        fs::read(world.store().join("blobs/sha256").join(manifest.trim_start_matches("sha256:"))).unwrap();
    let media_type = serde_json::from_slice::<Value>(&blob).unwrap()["mediaType"].clone();
    change(&world, |record| {
        record["steps"] = (1..=300).map(step).collect();
        let made = &mut record["targets"][0]["made"];
        (made["digest"], made["size"], made["media_type"]) = (json!(manifest), json!(blob.len()), media_type);
        record["took_ms"] = json!(34_000);
        record["targets"][0]["dockerfile"]["text"] =
            json!((1..=300).map(|n| format!("RUN step-{n}\n")).collect::<String>());
    });
    let (page, told) = report(&world, &[]);
    assert_eq!(told["image"]["visible_files"], 200_000);
    let seen = &look(&[&page])[0];
    assert!(seen["bytes"].as_u64().unwrap() < 2 * USUAL, "{}", seen["bytes"]);
    assert!(seen["opened_ms"].as_f64().unwrap() < 1000.0, "{}", seen["opened_ms"]);
    assert!(seen["rows"].as_u64().unwrap() >= 200, "{}", seen["rows"]);
}
