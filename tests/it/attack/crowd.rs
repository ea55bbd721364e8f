//! Sixteen builds at once, with prune, rmi and verify beside them: no wrong result, and no error.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{attempt, is_success};
use crate::support::attack::{Chance, Tally, rounds};
use crate::support::base::busybox_registry;
use crate::support::program::World;

/// What runs beside the builds, again and again.
const BESIDE: [&[&str]; 5] =
    [&["prune", "--all"], &["prune", "--keep-storage", "1mb"], &["verify"], &["images"], &["du"]];

#[test]
fn sixteen_builds_with_prune_rmi_and_verify() {
    let registry = busybox_registry();
    let world = World::new();
    let text = |number: usize| {
        format!(
            "FROM {}/busybox\nCOPY data /data\nRUN echo shared >/shared\nCOPY <<X /number\n{number}\nX\n\
             RUN cat /number /data/file >/result\n",
            registry.host()
        )
    };
    world.file("data/file", "data\n");
    for number in 0..16 {
        world.file(&format!("Dockerfile.{number}"), text(number));
    }
    let mut tally = Tally::of("sixteen builds at once");
    let done = AtomicBool::new(false);
    let beside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for words in BESIDE {
            let (world, done, beside) = (&world, &done, &beside);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let ran = attempt(world, words).run();
                    let is_busy = ran.stderr.contains("is in use by another rbuild");
                    assert!(
                        is_success(&ran, &format!("{words:?}")) || is_busy,
                        "{words:?}: {} {}",
                        ran.stdout,
                        ran.stderr
                    );
                    beside.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                }
            });
        }
        // When a build fails here, those beside it still have to end.
        let builds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds(1, 20) {
                one_round(&world, round, &mut tally);
            }
        }));
        done.store(true, Ordering::SeqCst);
        if let Err(panic) = builds {
            std::panic::resume_unwind(panic);
        }
    });
    (0..beside.into_inner()).for_each(|_| tally.count("runs beside them"));
}

fn one_round(world: &World, round: u32, tally: &mut Tally) {
    let outcomes: Vec<()> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..16_usize)
            .map(|number| {
                scope.spawn(move || {
                    let mut chance = Chance::of(&format!("crowd {round}.{number}"));
                    let (file, name) = (format!("Dockerfile.{number}"), format!("app:{number}"));
                    let told = format!("round {round}, build {number}");
                    let mut words = vec!["--progress=plain", "-t", &name, "-f", &file];
                    words.extend((chance.below(3) == 0).then_some("--no-cache"));
                    // The files go out of the build itself, as its name may be gone a moment later.
                    let out = world.path().join(format!("out-{round}-{number}"));
                    let out = out.to_str().unwrap().to_owned();
                    words.extend(["-o", &out, "."]);
                    let ran = attempt(world, &words).run();
                    assert!(is_success(&ran, &told), "{told}: {}", ran.stderr);
                    let result = std::fs::read(format!("{out}/result")).unwrap();
                    assert_eq!(result, format!("{number}\ndata\n").into_bytes(), "{told}");
                    std::fs::remove_dir_all(&out).unwrap();
                    if chance.below(2) == 0 {
                        let ran = attempt(world, &["rmi", &name]).run();
                        let is_gone = ran.stderr.contains("no image");
                        assert!(is_success(&ran, &told) || is_gone, "{told}: {}", ran.stderr);
                    }
                })
            })
            .collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    outcomes.iter().for_each(|()| tally.count("built right"));
}
