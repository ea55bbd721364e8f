//! What makes a step run again, and what does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::accounts::Account;
use crate::support::base::busybox_registry;
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;
use crate::support::skip;

/// A build of five steps that change files.
struct Project {
    world: World,
    registry: Registry,
}

impl Project {
    fn new() -> Self {
        let project = Self { world: World::new(), registry: busybox_registry() };
        project.world.file("src/app.py", "print(1)\n").file("run.sh", "#!/bin/sh\n");
        project.with(
            "RUN echo one >/one\n\
             COPY src /src/\n\
             RUN echo two >/two\n\
             COPY run.sh /\n\
             RUN echo three >/three\n",
        );
        project
    }

    /// Rewrites the Dockerfile.
    fn with(&self, steps: &str) {
        self.world.dockerfile(&format!("FROM {}/busybox\n{steps}", self.registry.host()));
    }

    #[track_caller]
    fn build(&self) -> Ran {
        self.world.build(["-t", "project"]).run()
    }

    /// Builds and compares what ran, by the words after the place.
    #[track_caller]
    fn reruns(&self, expected: &[&str]) -> Ran {
        let ran = self.build();
        let titles: Vec<&str> = ran.ran().iter().map(|t| t.split_once("] ").map_or(*t, |(_, t)| t)).collect();
        assert_eq!(titles, expected, "{}", ran.stderr);
        ran
    }
}

#[test]
fn a_changed_step_invalidates_all_above_it_and_says_why() {
    let project = Project::new();
    project.build();
    project.reruns(&[]);
    project.with(
        "RUN echo one >/one\n\
         COPY src /src/\n\
         RUN echo 2 >/two\n\
         COPY run.sh /\n\
         RUN echo three >/three\n",
    );
    let ran = project.reruns(&["RUN echo 2 >/two", "COPY run.sh /", "RUN echo three >/three"]);
    assert_eq!(ran.miss("RUN echo 2"), Some("the command changed"));
    assert_eq!(ran.miss("COPY run.sh"), Some("the layer below changed"));
    assert_eq!(ran.miss("RUN echo three"), Some("the layer below changed"));
}

#[test]
fn moved_indented_and_commented_lines_are_the_same_steps() {
    let project = Project::new();
    let first = project.build();
    project.with(
        "\n# A comment.\n\
         \x20  RUN echo one >/one\n\n\
         COPY   src    /src/\n\
         RUN \\\n  # another\n  echo two >/two\n\
         \tCOPY run.sh /\n\
         RUN echo three >/three\n# the end",
    );
    let second = project.reruns(&[]);
    assert_eq!(second.digest(), first.digest());
}

#[test]
fn a_touched_file_is_the_same_file() {
    let project = Project::new();
    let first = project.build();
    project.world.set_mtime("src/app.py", 1_000_000_000);
    project.world.set_mtime("src", 1_000_000_000);
    let second = project.reruns(&[]);
    assert_eq!(second.digest(), first.digest(), "the cached layer is used as it is");
}

#[test]
fn content_mode_and_name_of_a_file_count() {
    let above = ["COPY src /src/", "RUN echo two >/two", "COPY run.sh /", "RUN echo three >/three"];
    let project = Project::new();
    project.build();
    project.world.file("src/app.py", "print(2)\n");
    assert_eq!(project.reruns(&above).miss("COPY src"), Some("src/app.py changed"));
    project.world.set_mode("src/app.py", 0o755);
    assert_eq!(project.reruns(&above).miss("COPY src"), Some("mode of src/app.py 0644 → 0755"));
    fs::rename(project.world.context().join("src/app.py"), project.world.context().join("src/main.py"))
        .unwrap();
    let ran = project.reruns(&above);
    assert!(ran.miss("COPY src").unwrap().contains("added"), "{}", ran.stderr);
    project.world.file("src/new.py", "");
    assert_eq!(project.reruns(&above).miss("COPY src"), Some("src/new.py added"));
    project.world.file("not-copied", "x");
    project.reruns(&[]);
}

#[test]
fn going_back_finds_the_old_layers() {
    let project = Project::new();
    let first = project.build();
    project.world.file("src/app.py", "print(2)\n");
    project.build();
    project.world.file("src/app.py", "print(1)\n");
    assert_eq!(project.reruns(&[]).digest(), first.digest());
}

#[test]
fn build_arguments_count_where_they_are_declared() {
    let project = Project::new();
    project.with("RUN echo before\nARG WHO\nRUN echo $WHO >/who\n");
    let build = |who: &str| project.world.build(["--build-arg", who, "-t", "project"]).run();
    build("WHO=a");
    let ran = build("WHO=b");
    assert_eq!(ran.outcome("RUN echo before"), "CACHED");
    assert_eq!(ran.miss("RUN echo b >"), Some("ARG WHO changed"));
    assert_eq!(build("WHO=a").outcome("RUN echo a >"), "CACHED");
}

#[test]
fn a_moved_base_runs_everything_again() {
    let project = Project::new();
    project.build();
    let mut other = crate::support::base::busybox();
    other.layers.push(crate::support::image::TestLayer::files(&[("etc/motd", "new\n")]));
    other.config.rootfs.diff_ids = other.layers.iter().map(|layer| layer.diff_id).collect();
    project.registry.push(&other, "busybox", "latest");
    let ran = project.build();
    assert_eq!(ran.ran().len(), 6, "{}", ran.stderr);
}

#[test]
fn no_cache_runs_every_step_again() {
    let project = Project::new();
    project.build();
    let ran = project.world.build(["--no-cache", "-t", "project"]).run();
    assert_eq!(ran.ran().len(), 5, "{}", ran.stderr);
    project.reruns(&[]);
}

#[test]
fn an_equal_result_of_a_rerun_step_keeps_its_children() {
    let project = Project::new();
    // WORKDIR and COPY take their times from the inputs, so that the layer of the changed step is the same.
    project.with("COPY src /src/\nRUN echo two >/two\n");
    let first = project.build();
    project.with("COPY ./src/ /src/\nRUN echo two >/two\n");
    let second = project.build();
    assert_eq!(second.outcome("RUN echo two"), "CACHED", "{}", second.stderr);
    let layers = |ran: &Ran| project.world.images().image(&ran.digest()).manifest.layers().clone();
    assert_eq!(layers(&second), layers(&first));
}

#[test]
fn a_stage_that_gives_the_same_files_does_not_rebuild_what_copies_from_it() {
    let project = Project::new();
    let stages = |command: &str| {
        project.world.dockerfile(&format!(
            "FROM {0}/busybox AS made\nRUN {command}\nFROM {0}/busybox\nCOPY --from=made /out /out\nRUN cat /out\n",
            project.registry.host()
        ));
    };
    stages("echo result >/out");
    project.build();
    stages("echo re''sult >/out");
    let ran = project.build();
    assert!(ran.outcome("RUN echo re''sult").starts_with("DONE"));
    assert_eq!(ran.outcome("COPY --from=made"), "CACHED", "{}", ran.stderr);
    assert_eq!(ran.outcome("RUN cat /out"), "CACHED", "{}", ran.stderr);
}

#[test]
fn a_missing_or_damaged_layer_is_made_again() {
    let project = Project::new();
    let first = project.build();
    let image = project.world.images().image(&first.digest());
    let blob = |layer: usize| -> PathBuf {
        let digest = image.manifest.layers()[layer].digest().to_string();
        project.world.store().join("blobs").join(digest.replace(':', "/"))
    };
    fs::remove_file(blob(3)).unwrap();
    let ran = project.build();
    assert_eq!(ran.miss("RUN echo two"), Some("its layer is no longer in the store"));
    // The image that it made is complete.
    let again = project.world.images().image(&ran.digest());
    fs::set_permissions(blob(2), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(blob(2), "short").unwrap();
    let ran = project.build();
    assert_eq!(ran.miss("COPY src"), Some("its layer was damaged on disk"));
    assert_eq!(project.world.images().image(&ran.digest()).listing(), again.listing());
}

#[test]
fn the_readable_key_is_on_disk_for_its_owner_only() {
    let project = Project::new();
    project.build();
    let records = files(&project.world.store().join("rbuild/records"));
    assert!(!records.is_empty());
    for record in &records {
        let mode = record.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{}", record.display());
    }
    let preimages: Vec<String> = records
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "why"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(preimages.len(), 5);
    for part in ["echo one >/one", "app.py", "0644 0:0"] {
        assert!(preimages.iter().any(|text| text.contains(part)), "`{part}` in {preimages:#?}");
    }
}

#[test]
fn the_value_of_a_secret_is_nowhere() {
    let project = Project::new();
    let value = "hunter2-swordfish-0815";
    project.world.file("password", format!("{value}\n"));
    project.world.file(".dockerignore", "password\n");
    project.with("RUN --mount=type=secret,id=pw wc -c </run/secrets/pw >/length\n");
    let secret = |src: &str| format!("id=pw,src={src}");
    let ran = project.world.build(["--secret", &secret("password"), "-t", "project"]).run();
    assert!(!ran.stderr.contains(value), "{}", ran.stderr);
    let image = project.world.images().image(&ran.digest());
    assert_eq!(image.files()["length"].content, format!("{}\n", value.len() + 1).as_bytes());
    assert!(!image.files().values().any(|entry| contains(&entry.content, value)), "in a layer");
    for file in files(&project.world.store()) {
        assert!(!contains(&fs::read(&file).unwrap(), value), "in {}", file.display());
    }
    // Another value is no reason to run the step again.
    project.world.file("other", "another value\n");
    let ran = project.world.build(["--secret", &secret("other"), "-t", "project"]).run();
    assert!(ran.ran().is_empty(), "{}", ran.stderr);
    // And a failing step does not show it either.
    project.with("RUN --mount=type=secret,id=pw test -s /run/secrets/pw && exit 3\n");
    let ran = project.world.build(["--secret", &secret("password")]).status(1).run();
    assert!(!ran.stderr.contains(value), "{}", ran.stderr);
}

#[test]
fn two_builds_at_once_share_a_store() {
    let project = Project::new();
    let digests: Vec<String> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| project.build().digest())).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    for digest in &digests {
        project.world.images().image(digest);
    }
    project.reruns(&[]);
}

/// Builds with `flags` from `steps`, and gives the titles of what ran.
fn variant(project: &Project, steps: &str, flags: &[&str]) -> Vec<String> {
    project.with(steps);
    let flags = flags.iter().copied().chain(["-t", "project"]).collect::<Vec<_>>();
    project.world.build(flags).run().ran().iter().map(|title| (*title).to_owned()).collect()
}

/// Every variant runs its last instruction again, whatever was built before.
#[track_caller]
fn each_runs_again(instruction: &str, variants: &[(&str, &[&str])]) -> Project {
    let project = Project::new();
    for (steps, flags) in variants {
        let ran = variant(&project, steps, flags);
        let last = ran.last().is_some_and(|title| title.contains(instruction));
        assert!(last, "{steps:?} {flags:?} ran {ran:?}");
    }
    project
}

#[test]
fn everything_that_run_is_told_counts() {
    let project = each_runs_again(
        "] RUN ",
        &[
            ("RUN true\n", &[]),
            ("RUN true \n# x\nRUN true\n", &[]),
            ("RUN [\"true\"]\n", &[]),
            ("RUN [\"true\", \"a\\u001fb\"]\n", &[]),
            ("RUN [\"true\", \"a\", \"b\"]\n", &[]),
            ("SHELL [\"/bin/sh\", \"-ec\"]\nRUN true\n", &[]),
            ("USER 1000\nRUN true\n", &[]),
            ("USER 1000:50\nRUN true\n", &[]),
            ("WORKDIR /tmp\nRUN true\n", &[]),
            ("ENV A=b\nRUN true\n", &[]),
            ("ENV A=c\nRUN true\n", &[]),
            ("ARG A=b\nRUN true\n", &[]),
            ("ARG A\nRUN true\n", &["--build-arg", "A=c"]),
            ("RUN --network=none true\n", &[]),
            ("RUN true\n", &["--add-host", "db:10.0.0.1"]),
            ("RUN true\n", &["--add-host", "db:10.0.0.2"]),
            ("RUN true\n", &["--shm-size", "1m"]),
            ("RUN true\n", &["--ulimit", "nofile=100:200"]),
            ("RUN true\n", &["--ulimit", "nofile=100:201"]),
            ("RUN true\n", &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=box"]),
            ("RUN --mount=type=tmpfs,target=/t true\n", &[]),
            ("RUN --mount=type=tmpfs,target=/t,size=4096 true\n", &[]),
            ("RUN --mount=type=cache,target=/t true\n", &[]),
            ("RUN --mount=type=cache,target=/t,id=i true\n", &[]),
            ("RUN --mount=type=cache,target=/t,id=i,sharing=locked true\n", &[]),
            ("RUN --mount=type=cache,target=/t,id=i,ro true\n", &[]),
            ("RUN --mount=type=cache,target=/t,id=i,mode=700 true\n", &[]),
            ("RUN --mount=type=secret,id=s true\n", &[]),
            ("RUN --mount=type=secret,id=s,mode=444 true\n", &[]),
            ("RUN --mount=type=secret,id=s,env=S true\n", &[]),
            ("RUN --mount=type=ssh true\n", &[]),
            ("RUN --mount=type=bind,target=/b true\n", &[]),
            ("RUN --mount=type=bind,target=/b,rw true\n", &[]),
            ("RUN --mount=type=bind,target=/b,source=src true\n", &[]),
            ("RUN cat <<EOF\none\nEOF\n", &[]),
            ("RUN cat <<EOF\ntwo\nEOF\n", &[]),
        ],
    );
    // What only bounds or reaches the step is no part of what it does.
    for flags in [
        ["--memory", "1g"],
        ["--cpus", "1"],
        ["--pids-limit", "500"],
        ["--dns", "10.0.0.9"],
        ["--build-arg", "HTTP_PROXY=http://10.0.0.9"],
    ] {
        assert_eq!(variant(&project, "RUN true\n", &flags), Vec::<String>::new(), "{flags:?}");
    }
}

#[test]
fn everything_that_copy_and_add_are_told_counts() {
    each_runs_again(
        "] COPY ",
        &[
            ("COPY run.sh /d/\n", &[]),
            ("COPY run.sh /e/\n", &[]),
            ("COPY run.sh src /d/\n", &[]),
            ("COPY --chown=1 run.sh /d/\n", &[]),
            ("COPY --chown=1:2 run.sh /d/\n", &[]),
            ("COPY --chmod=600 run.sh /d/\n", &[]),
            ("COPY --chmod=u+x run.sh /d/\n", &[]),
            ("COPY --link run.sh /d/\n", &[]),
            ("COPY --parents run.sh /d/\n", &[]),
            ("COPY --exclude=*.md run.sh /d/\n", &[]),
            ("COPY run.sh /d/\n", &["--build-arg", "SOURCE_DATE_EPOCH=7"]),
            ("COPY <<EOF /d/f\none\nEOF\n", &[]),
            ("COPY <<EOF /d/f\ntwo\nEOF\n", &[]),
        ],
    );
    each_runs_again("] ADD ", &[("ADD run.sh /d/\n", &[]), ("ADD --unpack=false run.sh /d/\n", &[])]);
    each_runs_again(
        "] WORKDIR ",
        &[
            ("WORKDIR /w\n", &[]),
            ("USER 7\nWORKDIR /w\n", &[]),
            ("WORKDIR /w\n", &["--build-arg", "SOURCE_DATE_EPOCH=7"]),
        ],
    );
}

#[test]
fn how_layers_are_written_counts() {
    let project = Project::new();
    let archive = project.world.path().join("out.tar");
    let build = |options: &str| {
        let output = format!("type=oci,dest={}{options}", archive.display());
        variant(&project, "COPY run.sh /d/\n", &["-o", &output])
    };
    for options in ["", ",compression=zstd", ",compression=zstd,compression-level=9", ",compression=estargz"]
    {
        assert!(build(options).iter().any(|title| title.contains("COPY")), "{options}");
        assert_eq!(build(options), Vec::<String>::new(), "{options}");
    }
}

#[test]
fn a_mount_of_a_part_counts_with_what_it_shows() {
    let project = Project::new();
    let build = |made: &str, mount: &str| {
        project.world.dockerfile(&format!(
            "FROM {0}/busybox AS made\nRUN mkdir /d && echo x >/d/f && {made}\n\
             FROM {0}/busybox\nRUN --mount={mount}from=made,source=/d,target=/d cat /d/f\n",
            project.registry.host()
        ));
        let ran = project.build();
        let miss = ran.miss("RUN --mount").map(str::to_owned);
        (ran.outcome("RUN --mount") == "CACHED", miss)
    };
    let changed = (false, Some("what is mounted at /d changed".to_owned()));
    let unseen = ["echo 2 >/other", "touch -d @7 /d/f", "ln /d/f /name", "ln -s /d /l"];
    let seen =
        ["echo y >/d/f", "chmod 700 /d", "chmod 600 /d/f", "chown 7 /d/f", "ln /d/f /d/g", "cp /d/f /d/g"];
    for (mount, unseen, seen) in [
        ("", &unseen[..], &seen[..]),
        ("rw,", &unseen[..1], &seen[..1]),
        ("type=cache,id=c,", &unseen[..1], &seen[..1]),
    ] {
        assert!(!build("echo 1 >/other", mount).0, "{mount}");
        for made in unseen {
            assert_eq!(build(made, mount), (true, None), "{mount} {made}");
        }
        for made in seen {
            assert_eq!(build(made, mount), changed, "{mount} {made}");
        }
    }
    // `plan` sees the same without building.
    let plan = |made: &str| {
        build(made, "");
        project.world.dockerfile(&format!(
            "FROM {0}/busybox AS made\nRUN mkdir /d && echo x >/d/f && {made}\n\
             FROM {0}/busybox\nRUN --mount=from=made,source=/d,target=/d cat /d/f\n",
            project.registry.host()
        ));
        project.world.rbuild(["plan", "."]).any_stdout().run().stdout
    };
    assert!(plan("echo 3 >/other").matches("cached").count() >= 2);
}

#[test]
fn a_link_on_the_way_to_what_is_mounted_is_followed() {
    let project = Project::new();
    let build = |content: &str| {
        project.world.dockerfile(&format!(
            "FROM {0}/busybox AS made\nRUN mkdir /d && echo {content} >/d/f && ln -s d /l\n\
             FROM {0}/busybox\nRUN --mount=from=made,source=/l,target=/m cat /m/f >/got\n",
            project.registry.host()
        ));
        let ran = project.build();
        project.world.images().image(&ran.digest()).files()["got"].content.clone()
    };
    assert_eq!(build("one"), b"one\n");
    assert_eq!(build("two"), b"two\n", "what the link leads to counts");
}

/// Links in the source of a bind lead inside the context, absolute ones from its root; in a named one as well.
#[test]
fn a_link_in_a_context_on_the_way_to_what_is_mounted_is_followed() {
    let project = Project::new();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, project.world.context().join(name)).unwrap();
    };
    project.world.file("other/f", "other").file("d/e/f", "one");
    for (target, name) in
        [("d/e", "l"), ("/l", "chain"), ("chain/f", "file"), ("../other/f", "d/up"), ("gone", "lost")]
    {
        link(target, name);
    }
    link("/f", "other/l");
    let build = |mount: &str, show: &str| {
        project.world.dockerfile(&format!(
            "FROM {}/busybox\nRUN --mount={mount},target=/m cat {show} >/got\n",
            project.registry.host()
        ));
        project.world.build(["-t", "x", "--build-context", "o=other"])
    };
    let got = |mount: &str, show: &str| {
        let ran = build(mount, show).run();
        project.world.images().image(&ran.digest()).files()["got"].content.clone()
    };
    assert_eq!(got("source=chain", "/m/f"), b"one");
    assert_eq!(got("source=file", "/m"), b"one");
    assert_eq!(got("source=chain/f", "/m"), b"one");
    assert_eq!(got("source=d/up", "/m"), b"other");
    assert_eq!(got("from=o,source=l", "/m"), b"other");
    assert_eq!(got("type=cache,id=c,from=o,source=/", "/m/f"), b"other");
    project.world.file("d/e/f", "two");
    assert_eq!(got("source=file", "/m"), b"two", "what the link leads to counts");
    let lost = build("source=lost", "/m").status(1).run();
    assert!(lost.stderr.contains("`/lost` not found in the build context"), "{}", lost.stderr);
    assert!(lost.stderr.contains("`lost` is a symlink to something that is not in"), "{}", lost.stderr);
    let lost = build("from=o,source=lost", "/m").status(1).run();
    assert!(lost.stderr.contains("`/lost` not found in the context `o`"), "{}", lost.stderr);
}

/// With `--no-cache` the first step to use a cache finds it empty and the later ones what it left; so do builds after it. One
/// that somebody uses is left alone, and not waited for.
#[test]
fn without_the_cache_cache_mounts_start_empty() {
    let project = Project::new();
    let build = |sharing: &str, name: &str, flags: &[&str]| {
        project.world.dockerfile(&format!(
            "FROM {0}/busybox AS made\nRUN mkdir /s && touch /s/given\nFROM {0}/busybox\n\
             RUN --mount=type=cache,target=/c,sharing={sharing} touch /c/{name} && ls /c >/one\n\
             RUN --mount=type=cache,target=/c,sharing={sharing} touch /c/{name}2 && ls /c >/two\n\
             RUN --mount=type=cache,target=/c,sharing={sharing},from=made,source=/s touch /c/{name} && ls /c >/three\n",
            project.registry.host()
        ));
        let ran = project.world.build(["-t", "x"].iter().chain(flags)).run();
        let files = project.world.images().image(&ran.digest()).files();
        ["one", "two", "three"].map(|file| String::from_utf8(files[file].content.clone()).unwrap())
    };
    for sharing in ["shared", "private", "locked"] {
        let name = |text: &str| format!("{}{text}", &sharing[..1]);
        build(sharing, &name("a"), &["--no-cache"]);
        let (b, c) = (name("b"), name("c"));
        let mut third = [b.as_str(), "given"];
        third.sort_unstable();
        let fresh = [format!("{b}\n"), format!("{b}\n{b}2\n"), format!("{}\n", third.join("\n"))];
        assert_eq!(build(sharing, &b, &["--no-cache"]), fresh, "{sharing}");
        assert!(
            build(sharing, &c, &[])[0].contains(&b),
            "{sharing}: builds without the flag find what it left"
        );
    }
}

/// A cache starts as what its stage has, the directory's mode and owner included; with `uid` and without a source it is an
/// empty one of its own.
#[test]
fn a_cache_starts_as_its_source_is() {
    let mut accounts = vec![Account::mine(), Account::without_ranges()];
    match Account::with_ranges() {
        Ok(account) => accounts.push(account),
        Err(reason) => skip!("{reason}"),
    }
    for account in accounts {
        cache_starts_as_its_source_is(account);
    }
}

fn cache_starts_as_its_source_is(account: Account) {
    let project = Project { world: World::of(account), registry: busybox_registry() };
    project.world.dockerfile(&format!(
        "FROM {0}/busybox AS made\nRUN mkdir -m 750 /s && chown 7:8 /s && echo made >/s/f\n\
         FROM {0}/busybox\n\
         RUN --mount=type=cache,id=c,from=made,source=/s,target=/c,uid=9 stat -c '%a %u %g' /c >/one && ls /c >>/one\n\
         RUN --mount=type=cache,id=c,from=made,target=/c,uid=9,mode=711 stat -c '%a %u %g' /c >/two && ls /c >>/two\n\
         RUN --mount=type=cache,id=c,target=/c stat -c '%a %u %g' /c >/three && touch /c/mine\n\
         RUN --mount=type=cache,id=c,target=/c,mode=755 ls /c >/four\n\
         RUN --mount=type=cache,id=c,target=/c ls /c >/five\n",
        project.registry.host()
    ));
    let ran = project.build();
    let image = project.world.images().image(&ran.digest());
    let files = image.files();
    let text = |name: &str| String::from_utf8(files[name].content.clone()).unwrap();
    assert_eq!(text("one"), "750 7 8\nf\n");
    assert_eq!(text("two"), "711 9 0\n");
    assert_eq!(text("three"), "755 0 0\n");
    assert_eq!(text("four"), "", "the same mode, but asked for: a cache of its own");
    assert_eq!(text("five"), "mine\n");
}

/// All regular files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
