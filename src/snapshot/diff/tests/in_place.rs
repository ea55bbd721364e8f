//! Roots that are changed in place, by chance: their layers give what is in them.

use super::*;
use crate::snapshot::listing::{Listing, Tracked};
use crate::snapshot::{CopyJob, commit_on, undo_changes};

/// Numbers by chance that are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}

fn exchange(root: &Path, one: &Path, other: &Path) {
    let aside = root.join("aside");
    if one != other {
        fs::rename(one, &aside).unwrap();
        fs::rename(other, one).unwrap();
        fs::rename(&aside, other).unwrap();
    }
}

/// Does something to the root that a step could do, mostly so that it is hard to see. Gives whether directories that are watched tell of all
/// that follows from it.
fn change(root: &Path, chance: &mut Chance) -> bool {
    let walk = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
    let all: Vec<PathBuf> = walk.into_iter().map(|found| found.unwrap().into_path()).collect();
    let is_dir = |path: &PathBuf| fs::symlink_metadata(path).unwrap().is_dir();
    let (mut folders, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_dir);
    let some_folder = folders.clone();
    folders.push(root.to_owned());
    let files: Vec<_> =
        others.iter().filter(|path| fs::symlink_metadata(path).unwrap().is_file()).cloned().collect();
    let fresh = chance.one(&folders).join(format!("n{}", chance.below(6)));
    let what = chance.below(13);
    if files.len() < 3 || some_folder.len() < 3 || what == 0 {
        if !fresh.exists() && fs::symlink_metadata(&fresh).is_err() {
            fs::write(&fresh, format!("{}", chance.below(100))).unwrap();
        }
        return true;
    }
    let (file, other) = (chance.one(&files), chance.one(&files));
    let (folder, another) = (chance.one(&some_folder), chance.one(&some_folder));
    let is_free = fs::symlink_metadata(&fresh).is_err();
    match what {
        1 | 2 => {
            // The same size, and the time it had.
            let time = fs::metadata(file).unwrap().modified().unwrap();
            let bytes = fs::read(file).unwrap();
            fs::write(file, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
            fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
        }
        3 => fs::remove_file(chance.one(&others)).unwrap(),
        4 if chance.below(3) == 0 => fs::remove_dir_all(folder).unwrap(),
        4 if is_free => fs::create_dir(&fresh).unwrap(),
        5 if is_free && !fresh.starts_with(folder) => fs::rename(folder, &fresh).unwrap(),
        6 if is_free => fs::rename(file, &fresh).unwrap(),
        7 if is_free => fs::hard_link(file, &fresh).unwrap(),
        8 if !folder.starts_with(another) && !another.starts_with(folder) => {
            exchange(root, folder, another);
        }
        9 => exchange(root, file, other),
        10 => {
            // A link that leads out of the root stands for a folder.
            fs::remove_dir_all(folder).unwrap();
            std::os::unix::fs::symlink("/usr", folder).unwrap();
        }
        11 => {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700 + chance.below(8) as u32)).unwrap();
        }
        12 => std::os::unix::fs::lchown(file, Some(chance.below(3) as u32), None).unwrap(),
        _ => {}
    }
    what != 7
}

/// Without the numbers of links: what was touched and is the same is left out, also when its other names are not.
fn without_links(root: &Path) -> Vec<String> {
    let without = |line: String| {
        let fields = line.split(' ').enumerate().filter(|(at, _)| *at != 4);
        fields.map(|(_, field)| field).collect::<Vec<_>>().join(" ")
    };
    tree_listing(root).into_iter().map(without).collect()
}

#[test]
fn its_layers_give_what_is_in_it() {
    let mut tried = 0;
    for seed in 1..=16 {
        let is_watched = seed % 2 == 0;
        let Some(mut base) = sample() else { return };
        let snapshot = base.run(OverlayKind::Copy, "");
        let root = snapshot.dirs().merged.clone();
        let mut tracked = Tracked::new(Listing::of(&root).unwrap(), base.lowers.len());
        if is_watched {
            tracked = tracked.watched(&root);
        }
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for round in 0..10 {
            tracked.before.settle(base.dir.path()).unwrap();
            let changes = chance.below(5);
            for _ in 0..changes {
                tracked.unseen |= !change(&root, &mut chance);
            }
            let blob = base.dir.path().join("step");
            let whole = snapshot.diff_job(vec![], Owners::OnDisk(IdMap::default()));
            let job = CommitJob {
                diff: DiffJob { tracked: Some(tracked.clone()), ..whole },
                parents: Vec::new(),
                compression: Compression::None,
                blob: blob.clone(),
                index: base.dir.path().join("step.index"),
                watch: None,
            };
            let committed = commit_on(&job, &base.view).unwrap();
            drop(job);
            assert!(changes > 0 || committed.entries == 0, "seed {seed}, round {round}");
            base.push(&blob, committed.diff_id);
            let copy = base.dir.path().join("copy");
            fs::create_dir(&copy).unwrap();
            copy_tree(&CopyJob {
                lowers: base.lowers.clone(),
                target: copy.clone(),
                ..snapshot.copy_job().unwrap()
            })
            .unwrap();
            assert_eq!(without_links(&copy), without_links(&root), "seed {seed}, round {round}");
            fs::remove_dir_all(&copy).unwrap();
            tracked = tracked.go_on().unwrap();
            tried += changes;
        }
    }
    assert!(tried > 100, "{tried}");
}

/// Where the kernel tells what is touched nothing else is looked at, unless something was done of which it does not tell.
#[test]
fn what_is_not_told_of_is_looked_for_where_it_may_be() {
    let Some(base) = sample() else { return };
    let snapshot = base.run(OverlayKind::Copy, "");
    let root = snapshot.dirs().merged.clone();
    fs::create_dir(root.join("one")).unwrap();
    fs::create_dir(root.join("other")).unwrap();
    let entries = |unseen: bool| {
        fs::write(root.join("one/file"), "file").unwrap();
        let mut tracked = Tracked::new(Listing::of(&root).unwrap(), base.lowers.len()).watched(&root);
        tracked.before.settle(base.dir.path()).unwrap();
        tracked.unseen = unseen;
        // The last name of the file is elsewhere.
        fs::hard_link(root.join("one/file"), root.join("other/name")).unwrap();
        fs::write(root.join("other/name"), "changed").unwrap();
        fs::remove_file(root.join("other/name")).unwrap();
        let whole = snapshot.diff_job(vec![], Owners::OnDisk(IdMap::default()));
        let found = diff(&DiffJob { tracked: Some(tracked), ..whole }, &base.view).unwrap();
        found.iter().any(|entry| entry.path == b"one/file")
    };
    assert!(!entries(false), "it is not watched, or looked at all the same");
    assert!(entries(true));
}

/// What a root looks like when its changes were undone is what a new copy looks like.
#[test]
fn changes_are_undone_or_it_is_said_that_they_are_not() {
    let mut undone = 0;
    for seed in 1..=40 {
        let Some(base) = sample() else { return };
        let snapshot = base.run(OverlayKind::Copy, "");
        let root = snapshot.dirs().merged.clone();
        let before = Listing::of(&root).unwrap();
        before.settle(base.dir.path()).unwrap();
        let expected = tree_listing(&root);
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for _ in 0..=chance.below(6) {
            change(&root, &mut chance);
        }
        let target = base.dir.path().join("parts");
        fs::create_dir(&target).unwrap();
        let job = CopyJob { target, ..snapshot.copy_job().unwrap() };
        if undo_changes(&root, &before, &job).unwrap() {
            undone += 1;
            assert_eq!(tree_listing(&root), expected, "seed {seed}");
        }
    }
    assert!(undone > 10, "{undone} of 40");
}

/// Trees that are put upon a root one by one, some by moving, make what they make at once.
#[test]
fn trees_can_be_put_upon_a_root() {
    let Some(mut base) = sample() else { return };
    base.add(vec![
        dir("etc"),
        entry("etc/conf.d", EntryKind::Whiteout, 0),
        entry("usr/lib", EntryKind::OpaqueWhiteout, 0),
        file("usr/lib/new", "new"),
        dir("etc/hosts"),
        file("etc/hosts/inside", "inside"),
        file("lib", "no link any more"),
    ]);
    let whole = base.run(OverlayKind::Copy, "");
    let piecewise = base.dir.path().join("piecewise");
    fs::create_dir(&piecewise).unwrap();
    let job = whole.copy_job().unwrap();
    for (at, lower) in base.lowers.iter().rev().enumerate() {
        let moved = at != 1;
        let job = CopyJob {
            lowers: vec![lower.clone()],
            target: piecewise.clone(),
            onto: at > 0,
            moved,
            ..job.clone()
        };
        copy_tree(&job).unwrap();
    }
    assert_eq!(tree_listing(&piecewise), tree_listing(&whole.dirs().merged));
}

/// A file system in a file, mounted as long as the value lives; `None` where there is none that makes files that share data.
struct SharingData(tempfile::TempDir);

impl SharingData {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mounted")).unwrap();
        let image = dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let script = "mkfs.xfs -q image && mount -o loop image mounted";
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then_some(Self(dir))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }
}

impl Drop for SharingData {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Where it cannot, they are copied: all other tests are of that, if they are not on such a file system.
#[test]
fn files_share_data_where_the_file_system_can() {
    let Some(mounted) = SharingData::mount() else {
        println!("no file system that shares data can be mounted here");
        return;
    };
    let (from, to) = (mounted.path().join("from"), mounted.path().join("to"));
    fs::create_dir_all(from.join("folder")).unwrap();
    fs::create_dir(&to).unwrap();
    let content = vec![7; 64 << 20];
    fs::write(from.join("folder/large"), &content).unwrap();
    fs::write(from.join("small"), "small").unwrap();
    let free = || {
        rustix::fs::sync();
        let stat = rustix::fs::statvfs(mounted.path()).unwrap();
        stat.f_bfree * stat.f_frsize
    };
    let before = free();
    let job = CopyJob {
        lowers: vec![from.clone()],
        target: to.clone(),
        onto: false,
        mark: OpaqueMark::User,
        linked: false,
        moved: false,
        on_threads: true,
    };
    copy_tree(&job).unwrap();
    assert!(before - free() < 8 << 20, "{} bytes were copied", before - free());
    assert_eq!(tree_listing(&to), tree_listing(&from));
    fs::write(to.join("folder/large"), "changed").unwrap();
    assert_eq!(fs::read(from.join("folder/large")).unwrap(), content);
}
