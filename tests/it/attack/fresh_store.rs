//! Inputs that change, one kind after the other: after each, a build on the store that has seen them all must give the image
//! that a build on an empty store gives.
//!
//! In CI the empty store is asked after some of them, from one that chance chooses on; in the long form after each.
//!
//! A change is a script, run in the context; what it leaves is what the next one finds. Extra arguments of the builds are
//! the lines of `../arguments`. What is elsewhere is in folders beside the context: `../served` a server gives, and
//! `../base` is the text in the image `base` of a registry.

use std::fs;
use std::process::Command;

use crate::support::attack::{Chance, Tally, is_long};
use crate::support::http::{Reply, Server};
use crate::support::image::{TestImage, TestLayer};
use crate::support::is_root;
use crate::support::program::World;
use crate::support::registry::Registry;

/// In CI the empty store is asked after one of so many changes.
const ONE_IN: usize = 9;

/// Whether a change must give another image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Yes,
    No,
    /// Either is right; but both builds must agree.
    Perhaps,
}
use Counts::{No, Perhaps, Yes};

/// What it is, whether it counts, the script.
type Change = (&'static str, Counts, &'static str);

const FILES: &str = r#"
umask 022
mkdir -p tree/sub/deep tree/empty links ../named/m
echo aaaa > tree/a; echo bbbb > tree/b; echo c > tree/sub/c; echo d > tree/sub/deep/d; echo log > tree/x.log
printf '#!/bin/sh\n' > tree/run.sh; chmod 755 tree/run.sh
head -c 65536 /dev/zero | tr '\0' z > tree/big
echo one > one; echo two > two; echo three > three
ln -s ../tree/a links/l; ln -s nowhere links/broken; echo h > links/h1; ln links/h1 links/h2
echo n > ../named/n; echo o > ../named/m/o
mkdir -p ../packed; echo p > ../packed/p; pack
echo '*.log' > .dockerignore; echo '**/*.log' >> .dockerignore
echo --build-context=named=../named > ../arguments
cat > Dockerfile <<'END'
FROM scratch AS files
COPY tree /tree/
COPY --chmod=600 one /one
COPY --chown=5:6 two three /in/
ADD archive.tar /unpacked/
COPY links /links/

FROM scratch AS made
COPY tree/a /a

FROM scratch AS last
ARG WHAT=x
ENV IT=$WHAT
COPY --from=files / /
COPY --from=made /a /copied
COPY --from=named . /named/
COPY <<TEXT /here
text $WHAT
TEXT
LABEL l=$WHAT
WORKDIR /w
CMD ["x"]
END
"#;

/// Of what COPY and ADD bring, and of what the Dockerfile says; no step runs.
const OF_FILES: &[Change] = &[
    ("nothing", No, ":"),
    ("a byte in place", Yes, "printf B | dd of=tree/a conv=notrunc status=none"),
    ("same size, the old time forged", Yes, "cp -p tree/a ../k; echo AAAA > tree/a; touch -r ../k tree/a"),
    ("appended", Yes, "echo more >> tree/b"),
    ("cut to nothing", Yes, ": > tree/b"),
    ("filled again", Yes, "echo bbbb > tree/b"),
    ("grown by a hole", Yes, "truncate -s 100000 tree/b"),
    ("cut back", Yes, "truncate -s 5 tree/b"),
    ("a hole punched", Yes, "fallocate --punch-hole --offset 4096 --length 4096 tree/big"),
    (
        "written through a mapping",
        Yes,
        "python3 -c 'import mmap; f = open(\"tree/big\", \"r+b\"); m = mmap.mmap(f.fileno(), 0); m[9] = 33; m.close()'",
    ),
    ("copied over in the kernel", Yes, "cp tree/sub/c tree/a"),
    (
        "another file renamed over it, its time forged",
        Yes,
        "printf 'C\\n' > ../k; touch -r tree/sub/c ../k; mv ../k tree/sub/c",
    ),
    ("two files swapped", Yes, "mv tree/a ../k; mv tree/sub/c tree/a; mv ../k tree/sub/c"),
    ("and swapped back", Yes, "mv tree/a ../k; mv tree/sub/c tree/a; mv ../k tree/sub/c"),
    ("written anew with the same bytes", No, "cp tree/a ../k; cat ../k > tree/a"),
    ("another inode with the same bytes", No, "cp tree/a ../k; mv ../k tree/a"),
    ("touched", No, "touch tree/a"),
    ("a time in the future", No, "touch -d @4000000000 tree/a"),
    ("a time long ago", No, "touch -d @0 tree/a"),
    ("a folder touched", No, "touch tree/sub tree"),
    ("a changed file whose time is long ago", Yes, "echo past > tree/a; touch -d @0 tree/a"),
    ("a changed file whose time is in the future", Yes, "echo next > tree/a; touch -d @4000000000 tree/a"),
    ("executable", Yes, "chmod 755 tree/a"),
    ("set-user-id", Yes, "chmod 4755 tree/a"),
    ("group may write", Yes, "chmod 664 tree/a"),
    ("mode and back", No, "chmod 600 tree/a; chmod 664 tree/a"),
    ("the mode of a folder", Yes, "chmod 700 tree/sub"),
    ("a sticky folder", Yes, "chmod 1777 tree/sub"),
    ("the mode of a file whose mode is given", No, "chmod 640 one"),
    ("content of a file whose mode is given", Yes, "echo 1 > one"),
    ("content of a file whose owner is given", Yes, "echo 2 > two"),
    ("a new file", Yes, "echo new > tree/new"),
    ("a new hidden file", Yes, "echo new > tree/.new"),
    ("a new empty file", Yes, ": > tree/sub/deep/none"),
    ("a new empty folder", Yes, "mkdir tree/sub/void"),
    ("an empty folder removed", Yes, "rmdir tree/empty"),
    ("a file removed", Yes, "rm tree/new"),
    ("a file renamed", Yes, "mv tree/.new tree/.old"),
    ("a file renamed by case", Yes, "mv tree/.old tree/.OLD"),
    ("a file moved to another folder", Yes, "mv tree/.OLD tree/sub/deep/"),
    ("a folder renamed", Yes, "mv tree/sub/deep tree/sub/deeper"),
    ("a folder exchanged for a copy", No, "cp -a tree/sub ../k; rm -r tree/sub; mv ../k tree/sub"),
    (
        "a file in a folder exchanged for a copy",
        Yes,
        "cp -a tree/sub ../k; echo C2 > ../k/c; rm -r tree/sub; mv ../k tree/sub",
    ),
    ("a name with a space", Yes, "echo s > 'tree/a b'"),
    ("a name with a newline", Yes, "echo s > 'tree/a\nb'"),
    ("a name that is no text", Yes, "echo s > \"tree/$(printf '\\377')\""),
    ("a long name", Yes, "echo s > tree/$(printf '%0250d' 7)"),
    ("a deep folder", Yes, "mkdir -p tree/1/2/3/4/5/6/7/8/9 && echo s > tree/1/2/3/4/5/6/7/8/9/f"),
    (
        "names that sort otherwise by byte",
        Yes,
        "mkdir tree/q; echo 1 > tree/q/x; echo 2 > tree/q-x; echo 3 > tree/q.x",
    ),
    ("many new files", Yes, "mkdir tree/many; for n in $(seq 2000); do echo $n > tree/many/$n; done"),
    ("one of many changed", Yes, "echo other > tree/many/1234"),
    ("one of many removed", Yes, "rm tree/many/77"),
    ("one of many renamed", Yes, "mv tree/many/78 tree/many/77"),
    ("many removed", Yes, "rm -r tree/many"),
    ("a file becomes a folder", Yes, "rm tree/q-x; mkdir tree/q-x"),
    ("a folder becomes a file", Yes, "rmdir tree/q-x; echo 2 > tree/q-x"),
    ("a file becomes a symlink", Yes, "rm tree/q-x; ln -s q.x tree/q-x"),
    ("a symlink becomes the file that it named", Yes, "rm tree/q-x; cp tree/q.x tree/q-x"),
    ("a folder becomes a symlink", Yes, "mv tree/q tree/r; ln -s r tree/q"),
    ("a symlink becomes a folder", Yes, "rm tree/q; cp -a tree/r tree/q"),
    ("a file becomes a pipe", Yes, "rm tree/q-x; mkfifo tree/q-x"),
    ("a pipe becomes a file", Yes, "rm tree/q-x; echo 2 > tree/q-x"),
    ("a socket", No, "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"tree/socket\")'"),
    ("another target of a symlink", Yes, "ln -sfn ../tree/b links/l"),
    (
        "a target of the same length, the old time forged",
        Yes,
        "cp -P -p links/l ../k; ln -sfn ../tree/q links/l; touch -h -r ../k links/l; rm ../k",
    ),
    ("a symlink touched", No, "touch -h -d @7 links/l"),
    ("an absolute target", Yes, "ln -sfn /etc/passwd links/broken"),
    (
        "what a symlink points at",
        No,
        "echo x > not-copied; ln -sfn ../not-copied links/l; ln -sfn ../tree/q links/l; echo y > not-copied",
    ),
    ("both names of a hard link written to", Yes, "echo H > links/h1"),
    ("a hard link broken", Perhaps, "cp links/h2 ../k; mv ../k links/h2"),
    ("a hard link made", Perhaps, "ln -f links/h1 links/h2"),
    ("another name for a file", Yes, "ln tree/a tree/a-too"),
    ("a file not selected", No, "echo x > beside"),
    ("an attribute of the user's", No, "python3 -c 'import os; os.setxattr(\"tree/a\", \"user.x\", b\"y\")'"),
    ("an ignored file", No, "echo more >> tree/x.log"),
    ("a rule more", Yes, "echo tree/b >> .dockerignore"),
    ("an exception", Yes, "echo '!tree/x.log' >> .dockerignore"),
    ("what the exception brings back", Yes, "echo other > tree/x.log"),
    ("a comment in the ignore file", No, "echo '# a word' >> .dockerignore"),
    ("rules that ignore nothing more", No, "echo nothing-of-the-kind >> .dockerignore"),
    ("the Dockerfile's own ignore file", Yes, "echo '**/*.x' > Dockerfile.dockerignore"),
    ("which goes again", Yes, "rm Dockerfile.dockerignore"),
    ("no ignore file", Yes, "rm .dockerignore"),
    ("another text in an archive", Yes, "echo q > ../packed/p; pack"),
    ("a file more in an archive", Yes, "echo r > ../packed/r; pack"),
    ("a mode in an archive", Yes, "chmod 700 ../packed/r; pack"),
    ("a symlink in an archive", Yes, "ln -s r ../packed/l; pack"),
    ("an archive packed", Perhaps, "gzip -n archive.tar; mv archive.tar.gz archive.tar"),
    ("no archive any more", Yes, "echo text > archive.tar"),
    ("a file of a named context", Yes, "echo N > ../named/n"),
    ("a file more in a named context", Yes, "echo N > ../named/new"),
    ("a mode in a named context", Yes, "chmod 600 ../named/new"),
    ("a file less in a named context", Yes, "rm ../named/m/o"),
    (
        "a named context that is elsewhere",
        No,
        "cp -a ../named ../named2; echo --build-context=named=../named2 > ../arguments",
    ),
    ("where it was has changed", No, "echo x > ../named/n"),
    ("where it is has changed", Yes, "echo y > ../named2/n"),
    ("a comment in the Dockerfile", No, "sed -i '1i # a word' Dockerfile"),
    ("spaces in the Dockerfile", No, "sed -i 's/^COPY tree/COPY   tree/' Dockerfile"),
    ("another mode given", Yes, "sed -i s/chmod=600/chmod=604/ Dockerfile"),
    ("another owner given", Yes, "sed -i s/chown=5:6/chown=5:7/ Dockerfile"),
    ("another place", Yes, "sed -i s,/in/,/inside/, Dockerfile"),
    (
        "another order",
        Yes,
        "sed -i 's/two three/three two/; s,COPY links /links/,COPY links /l/,' Dockerfile",
    ),
    ("files excluded", Yes, "sed -i 's,tree /tree/,--exclude=q* tree /tree/,' Dockerfile"),
    ("an excluded file", No, "echo x > tree/q.x"),
    ("another text in the Dockerfile", Yes, "sed -i 's/^text/TEXT/; s/^TEXT $WHAT/Text $WHAT/' Dockerfile"),
    ("another default of an argument", Yes, "sed -i s/WHAT=x/WHAT=y/ Dockerfile"),
    ("an argument given", Yes, "echo --build-arg=WHAT=z >> ../arguments"),
    ("an argument given otherwise", Yes, "sed -i s/WHAT=z/WHAT=zz/ ../arguments"),
    ("a variable more", Yes, "echo 'ENV MORE=1' >> Dockerfile"),
    ("a variable's value", Yes, "sed -i s/MORE=1/MORE=2/ Dockerfile"),
    ("a label", Yes, "echo 'LABEL more=1' >> Dockerfile"),
    ("a user", Yes, "echo 'USER 5:6' >> Dockerfile"),
    ("a folder for the user", Yes, "echo 'WORKDIR /w/x' >> Dockerfile"),
    ("an entry point", Yes, "echo 'ENTRYPOINT [\"/e\"]' >> Dockerfile"),
    ("a port", Yes, "echo 'EXPOSE 80' >> Dockerfile"),
    ("a volume", Yes, "echo 'VOLUME /v' >> Dockerfile"),
    ("a signal", Yes, "echo 'STOPSIGNAL 9' >> Dockerfile"),
    ("a check of health", Yes, "echo 'HEALTHCHECK CMD true' >> Dockerfile"),
    ("a shell", Yes, "echo 'SHELL [\"/s\"]' >> Dockerfile"),
    ("a trigger", Yes, "echo 'ONBUILD LABEL t=1' >> Dockerfile"),
    ("a stage that nobody uses", No, "sed -i '1i FROM scratch AS unused\\nCOPY one /unused' Dockerfile"),
    ("another target", Yes, "echo --target=files >> ../arguments"),
    ("a file of another stage", No, "echo x > ../named2/n"),
    ("and back", Yes, "sed -i /--target/d ../arguments"),
];

/// For root alone.
const OF_ROOT: &[Change] = &[
    ("the owner of a file", No, "chown 5:6 tree/b"),
    (
        "a capability",
        Yes,
        "python3 -c 'import os; os.setxattr(\"tree/b\", \"security.capability\", bytes.fromhex(\"0100000200040000000000000000000000000000\"))'",
    ),
    (
        "another capability",
        Yes,
        "python3 -c 'import os; os.setxattr(\"tree/b\", \"security.capability\", bytes.fromhex(\"0100000200200000000000000000000000000000\"))'",
    ),
    ("no capability", Yes, "python3 -c 'import os; os.removexattr(\"tree/b\", \"security.capability\")'"),
    ("a file that nobody may read", Yes, "chmod 0 tree/b"),
];

const STEPS: &str = r#"
umask 022
cp /bin/busybox busybox; mkdir tree; echo a > tree/a; echo b > b; echo hidden > ../secret
echo --secret=id=s,src=../secret > ../arguments
cat > Dockerfile <<'END'
FROM scratch AS base
COPY busybox /bin/busybox
SHELL ["/bin/busybox", "sh", "-c"]

FROM base AS other
COPY b /b
RUN busybox cp /b /made

FROM base
ARG A=1
ENV E=1
RUN --mount=type=bind,source=tree,target=/t busybox cat /t/* > /seen; busybox stat -c %a /t/* >> /seen
RUN --mount=type=bind,from=other,source=/,target=/o busybox cat /o/made > /of-a-stage
RUN --mount=type=secret,id=s busybox wc -l /run/secrets/s > /lines
RUN --mount=type=cache,id=x,target=/c echo $A >> /c/all; echo $A$E > /args
RUN <<TEXT
echo here > /here
TEXT
END
"#;

/// Of what a RUN reads.
const OF_STEPS: &[Change] = &[
    ("nothing", No, ":"),
    ("a file in a bind mount", Yes, "echo A > tree/a"),
    ("its time forged", Yes, "cp -p tree/a ../k; echo B > tree/a; touch -r ../k tree/a"),
    ("a mode in a bind mount", Yes, "chmod 755 tree/a"),
    ("a file more in a bind mount", Yes, "echo n > tree/n"),
    ("a file renamed in a bind mount", Perhaps, "mv tree/n tree/m"),
    ("a file beside a bind mount", No, "echo x > beside"),
    ("a file of a stage in a bind mount", Yes, "echo B > b"),
    ("the value of a secret", No, "echo others > ../secret"),
    ("a command", Yes, "sed -i 's/echo here/echo there/' Dockerfile"),
    ("an argument", Yes, "echo --build-arg=A=2 >> ../arguments"),
    ("an argument's default that is not used", No, "sed -i s/A=1/A=3/ Dockerfile"),
    ("a variable", Yes, "sed -i s/E=1/E=2/ Dockerfile"),
    (
        "what a cache mount holds",
        No,
        "found=$(find ../store -path '*/cachemounts/*' -name all); test -n \"$found\"; echo x >> \"$found\"",
    ),
    ("the id of a cache mount", Perhaps, "sed -i s/id=x/id=y/ Dockerfile"),
    ("the command's folder", Yes, "sed -i 's,^ENV E=2,ENV E=2\\nWORKDIR /w,' Dockerfile"),
    ("the command's user", Perhaps, "sed -i 's/^RUN <<TEXT/USER 0:5\\nRUN <<TEXT/' Dockerfile"),
    (
        "the network",
        Perhaps,
        "sed -i 's/^RUN --mount=type=secret/RUN --network=none --mount=type=secret/' Dockerfile",
    ),
    ("the base", Yes, "sed -i 's,^SHELL,COPY b /in-the-base\\nSHELL,' Dockerfile"),
];

const ELSEWHERE: &str = r#"
umask 022
mkdir ../served ../work; echo served > ../served/file; echo base > ../base; echo own > own; : > ../arguments
cd ../work; git init -q -b main .; echo a > a; mkdir sub; echo s > sub/s; commit; cd ../context
echo --build-context=repository=http://$SERVER/r.git#main:sub > ../arguments
cat > Dockerfile <<END
FROM $REGISTRY/base:1 AS base
COPY own /own
FROM scratch
COPY --from=base / /
COPY --from=$REGISTRY/base:1 /is /was
ADD http://$SERVER/file /file
ADD http://$SERVER/r.git#main /work/
COPY --from=repository . /sub/
END
"#;

/// Of what is on servers.
const OF_ELSEWHERE: &[Change] = &[
    ("nothing", No, ":"),
    ("the base", Yes, "echo BASE > ../base"),
    ("what a URL gives", Yes, "echo SERVED > ../served/file"),
    ("what another URL gives", No, "echo x > ../served/beside"),
    ("a file of a repository", Yes, "cd ../work; echo A > a; commit"),
    ("a file of its folder", Yes, "cd ../work; echo S > sub/s; commit"),
    ("a mode in a repository", Yes, "cd ../work; chmod 755 sub/s; commit"),
    ("a commit without a change", No, "cd ../work; commit"),
    ("another branch", No, "cd ../work; git checkout -q -b other; echo x > x; commit; git checkout -q main"),
    ("a branch that is set to another commit", Yes, "cd ../work; git reset -q --hard other; publish"),
    ("a branch that is set back", Yes, "cd ../work; git reset -q --hard main~3; publish"),
    ("the base set back", Yes, "echo base > ../base"),
    ("another branch named", Yes, "sed -i s/#main/#other/ Dockerfile ../arguments"),
];

/// What scripts may call.
const FUNCTIONS: &str = r#"
pack() { tar --sort=name --mtime=@5 --owner=0 --group=0 --numeric-owner -cf archive.tar -C ../packed .; }
publish() { rm -rf ../served/r.git; git clone -q --bare . ../served/r.git; git --git-dir=../served/r.git update-server-info; }
commit() { git add -A; git -c user.name=t -c user.email=t@example.com commit -q --allow-empty -m x; publish; }
"#;

/// Two stores: one that sees every build, and one that is empty at each.
struct Bench {
    world: World,
    elsewhere: Option<(Registry, Server)>,
}

impl Bench {
    fn new(set_up: &str) -> Self {
        let bench = Self { world: World::new(), elsewhere: None };
        bench.change(set_up);
        bench
    }

    fn with_servers(set_up: &str) -> Self {
        let world = World::new();
        let served = world.path().join("served");
        let server = Server::start(move |request| {
            let path = request.path.split('?').next().unwrap().trim_start_matches('/');
            fs::read(served.join(path)).map_or_else(|_| Reply::new(404, ""), |bytes| Reply::new(200, bytes))
        });
        let bench = Self { world, elsewhere: Some((Registry::start(), server)) };
        bench.change(set_up);
        bench
    }

    fn change(&self, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &format!("{FUNCTIONS}\n{script}")]).current_dir(self.world.context());
        if let Some((registry, server)) = &self.elsewhere {
            command.env("REGISTRY", registry.host()).env("SERVER", server.host());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        if let Some((registry, _)) = &self.elsewhere {
            let text = fs::read_to_string(self.world.path().join("base")).unwrap();
            let image = TestImage::new("linux/amd64", vec![TestLayer::files(&[("is", &text)])]);
            registry.push(&image, "base", "1");
        }
    }

    /// The digest that a build gives. Times of files are in no key, and here in no layer either: none is older than the epoch.
    fn build(&self) -> String {
        self.build_since("0")
    }

    fn build_since(&self, epoch: &str) -> String {
        let arguments = fs::read_to_string(self.world.path().join("arguments")).unwrap();
        let output = "type=oci,dest=../image,tar=false,compression=uncompressed,rewrite-timestamp=true";
        let build = self.world.build(["-o", output]).args(arguments.lines()).remarks();
        build.env("SOURCE_DATE_EPOCH", epoch).run().digest()
    }

    /// What `build` gives on an empty store.
    fn afresh(&self, build: impl FnOnce() -> String) -> String {
        let aside = self.world.path().join("store-aside");
        fs::rename(self.world.store(), &aside).unwrap();
        let digest = build();
        fs::remove_dir_all(self.world.store()).unwrap();
        fs::rename(aside, self.world.store()).unwrap();
        digest
    }

    fn attack<'c>(&self, tally: &mut Tally, changes: impl IntoIterator<Item = &'c Change>) {
        let mut chance = Chance::of("inputs changed");
        let mut before = self.build();
        let chosen = chance.below(ONE_IN);
        for (number, (name, counts, script)) in changes.into_iter().enumerate() {
            self.change(script);
            let now = self.build();
            match counts {
                Yes => assert_ne!(now, before, "{name}: does not count"),
                No => assert_eq!(now, before, "{name}: counts"),
                Perhaps => {}
            }
            if is_long() || number % ONE_IN == chosen {
                assert_eq!(
                    now,
                    self.afresh(|| self.build()),
                    "{name}: the store that has seen more gives another image"
                );
                tally.count("as from an empty store");
            } else {
                tally.count("changed as it should");
            }
            before = now;
        }
    }
}

#[test]
fn changed_files_give_what_an_empty_store_gives() {
    let mut tally = Tally::of("inputs changed: files and instructions");
    let bench = Bench::new(FILES);
    let of_root = OF_ROOT.iter().filter(|_| is_root());
    bench.attack(&mut tally, of_root.chain(OF_FILES));
}

#[test]
fn what_a_step_reads_gives_what_an_empty_store_gives() {
    let mut tally = Tally::of("inputs changed: what a step reads");
    Bench::new(STEPS).attack(&mut tally, OF_STEPS);
}

#[test]
fn what_is_elsewhere_gives_what_an_empty_store_gives() {
    let mut tally = Tally::of("inputs changed: what is elsewhere");
    Bench::with_servers(ELSEWHERE).attack(&mut tally, OF_ELSEWHERE);
}

/// As docs/cache.md says: a file's time is in no key, so a layer that is there keeps the times that it has. `rewrite-timestamp`
/// makes all equal only where no file is older than the epoch.
#[test]
fn times_before_the_epoch_are_those_of_the_first_build() {
    let bench = Bench::new(
        "echo a > a; touch -d @100 a; printf 'FROM scratch\nCOPY a /\n' > Dockerfile; : > ../arguments",
    );
    let build = |epoch| bench.build_since(epoch);
    let afresh = |epoch| bench.afresh(|| build(epoch));
    let (early, late) = (build("50"), build("1000"));
    bench.change("touch -d @200 a");
    assert_eq!((build("50"), build("1000")), (early.clone(), late.clone()));
    assert_eq!(afresh("50"), early, "an epoch before all files");
    assert_ne!(afresh("1000"), late, "the file's time stays where the epoch is later");
}
