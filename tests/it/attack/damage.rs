//! Damaged files of the store: the next build gives the right image or an error in words, and `verify` finds what is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{attempt, is_success, state};
use crate::support::accounts::Account;
use crate::support::attack::{Chance, Tally, rounds};
use crate::support::base::busybox_registry;
use crate::support::http::{Reply, Server};
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::skip;

const DAMAGES: [&str; 9] = [
    "truncated",
    "a flipped bit",
    "emptied",
    "removed",
    "a folder",
    "a link out of the store",
    "a fifo",
    "a huge file",
    "another version",
];

#[test]
fn the_next_build_is_right_or_says_what_is_wrong() {
    if !crate::support::is_root() {
        skip!("files of a rootless store belong to others");
    }
    let registry = busybox_registry();
    let world = World::new();
    let repositories = served_repository(&world);
    prepare(&world, &registry, &repositories);
    let whole = world.path().join("whole");
    copy(&world.store(), &whole);
    // A step that runs again gives its files other times, so it is the files that are compared.
    let listing = |digest: &str| world.images().image(digest).listing();
    let right = listing(&world.build(["-t", "app"]).run().digest());
    let outside = world.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "not rbuild's\n").unwrap();
    let untouched = state(&outside);

    let (mut chance, mut tally) = (Chance::of("damaged store files"), Tally::of("damaged store files"));
    let kinds = kinds(&whole);
    for round in 0..rounds(2, 24) {
        for (kind, files) in &kinds {
            let damage = match *chance.pick(&DAMAGES) {
                // git itself waits at a fifo in its repository.
                "a fifo" if kind == "git" => "a folder",
                damage => damage,
            };
            let file = chance.pick(files);
            let told = format!("round {round}: `{}` ({kind}): {damage}", file.display());
            fs::remove_dir_all(world.store()).unwrap();
            copy(&whole, &world.store());
            damaged(&world.store().join(file), damage, &outside, &mut chance);
            let looked = attempt(&world, &["verify", "--dry-run"]).run();
            let was_found = !is_success(&looked, &told);
            let ran = attempt(&world, &["--progress=plain", "-t", "app", "."]).run();
            let outcome = if is_success(&ran, &told) {
                // Every blob is read and compared with its name.
                assert_eq!(listing(&ran.digest()), right, "{told}");
                let image = world.images().image(&ran.digest());
                assert_eq!(image.files()["result"].content, b"data\n", "{told}");
                "built right"
            } else {
                "a clear error"
            };
            // What must be made anew is made of the right layers.
            let next = attempt(&world, &["--progress=plain", "--build-arg", "AGAIN=1", "."]).run();
            if is_success(&next, &told) {
                let image = world.images().image(&next.digest());
                assert_eq!(image.files()["result"].content, b"data\n", "{told}");
            }
            for words in [&["verify"][..], &["du"], &["prune"]] {
                is_success(&attempt(&world, words).run(), &format!("{told}: {words:?}"));
            }
            assert_eq!(state(&outside), untouched, "{told}");
            // What explains a record is beside it, with an ending; without it the record is as good.
            let matters = ["blobs", "tags", "records", "indexes"].contains(&kind.as_str())
                && file.extension().is_none_or(|e| e == "json");
            assert!(was_found || !matters || damage == "removed", "{told}: verify says nothing");
            tally.count(&format!("{outcome}{}", if was_found { ", found by verify" } else { "" }));
        }
    }
}

/// Files that may not be read: only root reads them all the same.
#[test]
fn what_cannot_be_read_is_said() {
    if !crate::support::is_root() {
        skip!("only root becomes another user");
    }
    let world = World::of(Account::without_ranges());
    world.file("data/file", "data\n").dockerfile("FROM scratch\nCOPY data /data\nCOPY data/file /result\n");
    world.build(["-t", "app"]).run();
    let store = world.store();
    let (mut chance, mut tally) = (Chance::of("unreadable store files"), Tally::of("unreadable store files"));
    for (kind, files) in kinds(&store) {
        let file = store.join(chance.pick(&files));
        let told = format!("`{}` ({kind})", file.display());
        let mode = |mode: &str| {
            assert!(Command::new("chmod").arg(mode).arg(&file).status().unwrap().success());
        };
        mode("000");
        let ran = world.build(["-t", "app"]).any_status().remarks().run();
        let right = is_success(&ran, &told);
        is_success(&world.rbuild(["verify"]).any_status().any_stdout().remarks().run(), &told);
        if file.exists() {
            mode("600");
        }
        tally.count(if right { "built right" } else { "a clear error" });
        let ran = world.build(["-t", "app"]).any_status().remarks().run();
        assert!(is_success(&ran, &told), "{told}: {}", ran.stderr);
        world.images().image(&ran.digest());
    }
}

/// A store with a base, images, a cache mount, a kept session, and what else there is.
fn prepare(world: &World, registry: &Registry, repositories: &Server) {
    world.file("data/file", "data\n").file("data/other", "other\n");
    let text = format!(
        "FROM {}/busybox\nCOPY data /data\nADD http://{}/x.git /repository\n\
         RUN --mount=type=cache,target=/c echo one >/one; echo 1 >/c/1\n\
         ARG AGAIN\nRUN cat /data/file >/result\n",
        registry.host(),
        repositories.host()
    );
    world.file("Failing", format!("{text}RUN exit 3\n")).dockerfile(&text);
    world.build(["-t", "app"]).run();
    world.build(["-f", "Failing"]).status(1).run();
}

/// A repository `x.git`, as plain files over HTTP.
fn served_repository(world: &World) -> Server {
    let root = world.path().join("served");
    let script = "git init -q -b main \"$1/w\"; cd \"$1/w\"; echo f >f; git add f; \
                  git -c user.name=n -c user.email=e@localhost commit -qm one; \
                  git clone -q --bare . ../x.git; git -C ../x.git update-server-info";
    crate::support::tools::run("sh", ["-euc", script, "sh", root.to_str().unwrap()]);
    Server::start(move |request| {
        let path = request.path.split('?').next().unwrap().trim_start_matches('/');
        fs::read(root.join(path)).map_or_else(|_| Reply::new(404, ""), |bytes| Reply::new(200, bytes))
    })
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The files of a store by their kind: the first folder, or the name at the top. What is in unpacked layers and in cache
/// mounts belongs to steps, and its bytes are promised to nobody.
fn kinds(store: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(store.join(&folder)).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = folder.join(entry.file_name());
            let mut parts = path.iter().map(|part| part.to_str().unwrap());
            let first = parts.next().unwrap();
            let kind = if first == "rbuild" { parts.next().unwrap_or(first) } else { first };
            if entry.file_type().unwrap().is_dir() {
                if path.file_name().unwrap() != "fs" && path.file_name().unwrap() != "work" {
                    folders.push(path);
                }
            } else if !["lock", "index.lock", "door"].contains(&kind) {
                kinds.entry(kind.to_owned()).or_default().push(path);
            }
        }
    }
    kinds
}

fn damaged(file: &Path, damage: &str, outside: &Path, chance: &mut Chance) {
    let length = usize::try_from(fs::metadata(file).unwrap().len()).unwrap();
    let open = || fs::OpenOptions::new().write(true).read(true).open(file).unwrap();
    let again = |make: &dyn Fn()| {
        fs::remove_file(file).unwrap();
        make();
    };
    match damage {
        "truncated" => open().set_len((length / 2) as u64).unwrap(),
        "a flipped bit" if length > 0 => {
            let (at, mut byte, opened) = (chance.below(length) as u64, [0], open());
            opened.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << chance.below(8);
            opened.write_all_at(&byte, at).unwrap();
        }
        "emptied" | "a flipped bit" => open().set_len(0).unwrap(),
        "removed" => again(&|| ()),
        "a folder" => again(&|| {
            fs::create_dir(file).unwrap();
            fs::write(file.join("inside"), "x").unwrap();
        }),
        "a link out of the store" => again(&|| symlink(outside.join("file"), file).unwrap()),
        "a fifo" => again(&|| {
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
        "a huge file" => open().set_len(16 << 20).unwrap(),
        _ => fs::write(file, "999\n{\"version\":999}\n").unwrap(),
    }
}
