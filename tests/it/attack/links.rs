//! Folders that are exchanged with links while they are read or written: nothing outside is read, written or removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{attempt, is_success, state};
use crate::support::attack::{Chance, Tally, rounds};
use crate::support::base::busybox_registry;
use crate::support::program::World;

/// What stands outside, and may come into no image.
const OUTSIDE: &[u8] = b"of the machine, not of the context\n";

/// Keeps exchanging two names until the work is done.
fn while_exchanging<T>(pairs: &[(std::path::PathBuf, std::path::PathBuf)], work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                for (one, other) in pairs {
                    let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
                }
                std::hint::spin_loop();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_context_whose_folders_become_links() {
    let (mut chance, mut tally) = (Chance::of("links in a context"), Tally::of("links in a context"));
    let world = World::new();
    let outside = world.path().join("outside");
    fs::create_dir_all(outside.join("deep/er")).unwrap();
    for place in ["file", "deep/file", "deep/er/file"] {
        fs::write(outside.join(place), OUTSIDE).unwrap();
    }
    for number in 0..40 {
        for folder in ["src", "src/deep", "src/deep/er"] {
            world.file(&format!("{folder}/{number}"), format!("{number}\n"));
        }
    }
    for folder in ["src", "src/deep", "src/deep/er"] {
        world.file(&format!("{folder}/file"), "of the context\n");
    }
    let context = world.context();
    symlink(&outside, context.join("link")).unwrap();
    symlink(outside.join("deep"), context.join("link-deep")).unwrap();
    symlink(outside.join("deep/er/file"), context.join("link-file")).unwrap();
    let pairs: Vec<_> = [("src", "link"), ("src/deep", "link-deep"), ("src/deep/er/file", "link-file")]
        .iter()
        .map(|(one, other)| (context.join(one), context.join(other)))
        .collect();
    let untouched = state(&outside);
    for round in 0..rounds(8, 400) {
        let dockerfile = *chance.pick(&[
            "FROM scratch\nCOPY src /src\n",
            "FROM scratch\nCOPY src/deep/er/file /f\nCOPY src/deep /deep\n",
            "FROM scratch\nCOPY --parents src/./deep /p/\n",
            "FROM scratch\nADD src/*/er/f* /glob/\n",
        ]);
        world.dockerfile(dockerfile);
        let told = format!("round {round}: {dockerfile}");
        // One pair: through a folder that is a link at that moment, the exchange itself would go outside.
        let one = std::slice::from_ref(chance.pick(&pairs));
        let ran = while_exchanging(one, || attempt(&world, &["--progress=plain", "--no-cache", "."]).run());
        let succeeded = is_success(&ran, &told);
        if succeeded {
            let files = world.images().image(&ran.digest()).files();
            for (path, entry) in files {
                assert_ne!(entry.content, OUTSIDE, "{told}: /{path}");
            }
        }
        assert_eq!(state(&outside), untouched, "{told}");
        // Where they began.
        if one[0].0.is_symlink() {
            renameat_with(CWD, &one[0].0, CWD, &one[0].1, RenameFlags::EXCHANGE).unwrap();
        }
        tally.count(if succeeded { "only files of the context" } else { "a clear error" });
    }
}

/// `-o DIR` where somebody else may write: root, in a folder of a user who exchanges what stands there for links.
#[test]
fn an_output_folder_whose_folders_become_links() {
    let (mut chance, mut tally) = (Chance::of("links in an output"), Tally::of("links in an output"));
    let world = World::new();
    let (outside, out) = (world.path().join("outside"), world.path().join("out"));
    fs::create_dir_all(outside.join("deep/er")).unwrap();
    for folder in ["src", "src/deep", "src/deep/er"] {
        for number in 0..40 {
            world.file(&format!("{folder}/{number}"), format!("{number}\n"));
        }
    }
    // The names are those of the image, so that nothing in the way would hide a mistake.
    for folder in ["", "deep", "deep/er"] {
        for number in 0..40 {
            fs::write(outside.join(folder).join(number.to_string()), OUTSIDE).unwrap();
        }
    }
    world.dockerfile("FROM scratch\nCOPY . /\n").file(".dockerignore", "Dockerfile\n.dockerignore\n");
    let untouched = state(&outside);
    for round in 0..rounds(30, 400) {
        let mode = *chance.pick(&["copy", "copy", "delete"]);
        let told = format!("round {round}, mode={mode}");
        let dest = format!("type=local,mode={mode},dest={}", out.display());
        let words = ["--progress=plain", "-o", &dest, "."];
        // Where it begins.
        let _ = fs::remove_dir_all(&out);
        world.rbuild(words).run();
        let (name, target) = *chance.pick(&[("src", ""), ("src/deep", "deep"), ("src/deep/er", "deep/er")]);
        symlink(outside.join(target), world.path().join("link")).unwrap();
        let pair = (out.join(name), world.path().join("link"));
        let ran = while_exchanging(std::slice::from_ref(&pair), || attempt(&world, &words).run());
        let succeeded = is_success(&ran, &told);
        assert_eq!(state(&outside), untouched, "{told}");
        for link in [&pair.0, &pair.1] {
            if link.is_symlink() {
                fs::remove_file(link).unwrap();
            } else {
                let _ = fs::remove_dir_all(link);
            }
        }
        tally.count(if succeeded { "nothing outside" } else { "a clear error" });
    }
}

/// Images whose links lead outside, and others whose files have the names of these links, one over the other.
#[test]
fn outputs_over_links_of_other_images() {
    let (mut chance, mut tally) = (Chance::of("outputs over links"), Tally::of("outputs over links"));
    let world = World::new();
    let (outside, out) = (world.path().join("outside"), world.path().join("out"));
    fs::create_dir_all(outside.join("deep")).unwrap();
    for place in ["file", "deep/file"] {
        fs::write(outside.join(place), OUTSIDE).unwrap();
    }
    let context = world.context();
    for number in 1..=5 {
        world.file(&format!("{number}/same"), "same\n");
        world.file(&format!("{number}/own{number}"), format!("{number}\n"));
    }
    symlink(&outside, context.join("1/l")).unwrap();
    symlink("../outside/deep", context.join("2/l")).unwrap();
    symlink(outside.join("file"), context.join("2/same-link")).unwrap();
    world.file("3/l/file", "three\n").file("3/l/deep/file", "three\n").file("3/same-link", "three\n");
    world.file("4/l", "four\n");
    world.file("5/l/x", "five\n");
    symlink("../../../../../outside", context.join("5/l/deep")).unwrap();
    let untouched = state(&outside);
    for round in 0..rounds(24, 300) {
        let number = 1 + chance.below(5);
        let mode = *chance.pick(&["copy", "copy", "delete"]);
        let told = format!("round {round}: image {number}, mode={mode}");
        world.dockerfile(&format!("FROM scratch\nCOPY {number} /\n"));
        let dest = format!("type=local,mode={mode},dest={}", out.display());
        let ran = attempt(&world, &["--progress=plain", "-o", &dest, "."]).run();
        assert!(is_success(&ran, &told), "{told}: {}", ran.stderr);
        assert_eq!(state(&outside), untouched, "{told}");
        let (written, wanted) = (state(&out), state(&context.join(number.to_string())));
        for (path, what) in wanted {
            let path = path.replace(&context.join(number.to_string()).display().to_string(), "");
            let found = written.get(&format!("{}{path}", out.display()));
            // Without the mode, which is that of the context, and the user's umask does not matter.
            let content = |what: &str| what.splitn(3, ' ').nth(2).map(str::to_owned);
            assert_eq!(found.and_then(|w| content(w)), content(&what), "{told}: {path}");
        }
        tally.count("nothing outside, and the image's files");
    }
}

/// Two steps share a cache mount: one exchanges a folder of it for links, the other mounts there.
#[test]
fn a_cache_mount_whose_folders_become_links() {
    let mut tally = Tally::of("links in a shared cache mount");
    let registry = busybox_registry();
    for world in crate::process_limits::worlds() {
        let outside = world.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), OUTSIDE).unwrap();
        let untouched = state(&outside);
        let outside_name = outside.to_str().unwrap();
        world.dockerfile(&format!(
            "FROM {}/busybox AS swap\nARG ROUND\n\
             RUN --mount=type=cache,id=x,target=/c mkdir -p /c/d; i=0; while [ $i -lt 300 ]; do i=$((i+1)); \
             mv /c/d /c/e; ln -s {outside_name} /c/d; ln -s / /c/r; rm /c/d /c/r; mv /c/e /c/d; done 2>/dev/null; true\n\
             FROM {}/busybox AS use\nARG ROUND\n\
             RUN --mount=type=cache,id=x,target=/c --mount=type=cache,id=y,target=/c/d/m --mount=type=tmpfs,target=/c/d/t \
             echo written >/c/d/m/file; echo written >/c/d/file; cat /c/d/* >/seen 2>/dev/null; true\n\
             RUN --mount=type=cache,id=x,target=/c --mount=type=bind,from=swap,source=/bin,target=/c/d/b ls /c/d/b >/listed\n\
             FROM scratch\nCOPY --from=use /seen /listed /\n",
            registry.host(),
            registry.host()
        ));
        for round in 0..rounds(2, 40) {
            let told = format!("round {round} of {}", world.account().uid);
            let number = format!("ROUND={round}");
            // Whoever the user is: what was mounted there, or why not.
            let ran = world.build(["--build-arg", &number]).any_status().remarks().run();
            let succeeded = is_success(&ran, &told);
            if succeeded {
                let files = world.images().image(&ran.digest()).files();
                let seen = &files["seen"].content;
                assert!(!seen.windows(OUTSIDE.len()).any(|window| window == OUTSIDE), "{told}");
            }
            assert_eq!(state(&outside), untouched, "{told}");
            tally.count(if succeeded { "nothing outside" } else { "a clear error" });
        }
    }
}
