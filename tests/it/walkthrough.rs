//! The commands of the documentation's consoles are run, page by page, as a reader would type them: in one shell for each page, in a
//! folder that has what the page speaks of, with a registry of the test's in place of those that the page names.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::base::busybox_registry;
use crate::support::program::World;
use crate::support::registry::Registry;

/// A page, and what is to be known of commands of it, each named by how it begins.
struct Page {
    path: &'static str,
    commands: &'static [(&'static str, &'static [Note])],
}

enum Note {
    /// Bash that makes what the command finds; it stands for the next one that begins so, too.
    After(&'static str),
    /// What the reader types where the test stands.
    Typed(&'static str),
    /// It fails, with this exit code.
    Fails(i32),
    /// It prints this.
    Says(&'static str),
    /// It is not run here.
    Not(&'static str),
}
use Note::{After, Fails, Not, Says, Typed};

/// What no page's commands can have here, and what runs them instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo ", "compiles, or measures"),
    ("benches/", "measures"),
    ("tests/run", "is what runs this"),
    ("RBUILD_BLESS=", "writes what tests expect"),
    ("RBUILD_TEST_SEED=", "is what runs this, for hours"),
    ("testdata/conformance/run.py", "`conformance` runs the cases"),
    ("packaging/dist/make", "`dist` makes releases"),
    ("sudo apt-get install uidmap", "changes the machine"),
    ("rbuild doctor | grep", "speaks of a machine that lacks something"),
    ("docker ", "`docker` and `packaging` have the daemon"),
    ("podman ", "`plain` has the containers"),
    ("rbuild --on reapi://", "`placing` has the engine"),
    ("rbuild --on kubernetes://", "`placing` has the cluster"),
    ("rbuild --cache-from type=reapi", "`shared_cache` has the server"),
];

/// In every page: names of the documentation, and what is there.
const NAMES: &[(&str, &str)] = &[
    ("h.example.org", "$REGISTRY"),
    ("registry.example.org", "$REGISTRY"),
    ("registry.example", "$REGISTRY"),
    ("localhost:5000", "$REGISTRY"),
    ("/var/lib/rbuild", "$RBUILD_ROOT"),
    ("/mnt/cache", "$PWD/../shared"),
    ("=/cache", "=$PWD/../shared"),
];

const SMALL: &str =
    "printf 'FROM %s/busybox\\nCOPY Dockerfile /\\nRUN echo made >/made\\n' $REGISTRY >Dockerfile";
const PUSHED: &str = "printf 'FROM %s/busybox\\nCOPY Dockerfile /\\n' $REGISTRY >Dockerfile; rbuild -t $REGISTRY/app:1 --push .; rbuild tag $REGISTRY/app:1 app; rbuild tag app app:1";
const KEYS: &str = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub";
const PODMAN: &str = "printf '[storage]\\ndriver = \"vfs\"\\nrunroot = \"%s/run\"\\ngraphroot = \"%s/graph\"\\n' $WORLD $WORLD >$CONTAINERS_STORAGE_CONF";

const PAGES: &[Page] = &[
    Page {
        path: "README.md",
        commands: &[
            ("rbuild -t ubuntu-with-vi .", &[After(SMALL)]),
            (
                "cargo run --release --",
                &[After("cp -r $REPOSITORY/examples ."), Typed("rbuild -t hello examples/hello")],
            ),
            ("alias rbuild", &[After("mkdir -p target/release; ln -s $(command -v rbuild) target/release/")]),
            ("testdata/fixtures/debian-base.sh", &[Not("`install_vim` has Debian's base, and installs it")]),
            (
                "rbuild -t ubuntu-with-vi examples/",
                &[Not("`install_vim` has Debian's base, and installs it")],
            ),
            (
                "rbuild .",
                &[
                    After(
                        "cp examples/hello/* .; printf 'FROM scratch\\nWORKDIR /\\nCOPY --chwon=33 index.html .\\n' >Dockerfile",
                    ),
                    Fails(1),
                    Says(" --> Dockerfile:3:6"),
                ],
            ),
        ],
    },
    Page {
        path: "docs/attestations.md",
        commands: &[
            ("rbuild -t registry.example/app:1", &[After(SMALL)]),
            ("rbuild attest ls", &[Says("https://slsa.dev/provenance/v1")]),
            ("rbuild attest verify docker:", &[Says("verified 3 documents; no signature was looked at")]),
            ("rbuild attest sign", &[After(KEYS)]),
            ("rbuild attest verify --key", &[Says("verified 3 documents; 2 statements signed with the key")]),
        ],
    },
    Page {
        path: "docs/cache.md",
        commands: &[
            (
                "chmod g+w run.sh",
                &[After(
                    "printf 'FROM %s/busybox\\nARG V\\nCOPY run.sh /\\nRUN true $V\\n' $REGISTRY >Dockerfile; echo >run.sh; chmod 644 run.sh; rbuild .",
                )],
            ),
            (
                "rbuild --progress=plain .",
                &[
                    Says("not cached: mode of run.sh 0644 → 0664"),
                    Says("not cached: the layer below changed"),
                ],
            ),
        ],
    },
    Page {
        path: "docs/bake.md",
        commands: &[
            (
                "rbuild bake ",
                &[
                    After(SMALL),
                    After(
                        "printf 'variable \"TAG\" {\\n default = \"v0\"\\n}\\ngroup \"default\" {\\n targets = [\"app\", \"test-a\"]\\n}\\ntarget \"app\" {\\n tags = [\"app:${TAG}\"]\\n}\\ntarget \"test-a\" {\\n inherits = [\"app\"]\\n tags = []\\n}\\n' >docker-bake.hcl; cp docker-bake.hcl one.hcl; printf 'services:\\n  app:\\n    build: .\\n' >compose.yaml",
                    ),
                ],
            ),
            ("rbuild bake --set", &[After("printf 'FROM scratch\\nCOPY Dockerfile /\\n' >Dockerfile")]),
            ("rbuild bake --print", &[Says("\"target\": {")]),
            ("rbuild bake --list", &[Says("test-a")]),
            ("rbuild bake https:", &[Not("`bake` has a repository on another machine")]),
        ],
    },
    Page {
        path: "docs/from-bake.md",
        commands: &[
            (
                "rbuild bake --print",
                &[After(
                    "printf 'FROM scratch\\nCOPY Dockerfile /\\n' >Dockerfile; printf 'target \"default\" {\\n tags = [\"%s/app\"]\\n}\\n' $REGISTRY >docker-bake.hcl",
                )],
            ),
            ("rbuild bake --load", &[Not("`docker` has the daemon")]),
        ],
    },
    Page { path: "docs/checks/README.md", commands: &[("rbuild --check .", &[After(SMALL)])] },
    Page {
        path: "docs/ci.md",
        commands: &[(
            "rbuild -t \"$IMAGE\" --push",
            &[After(SMALL), Typed("IMAGE=$REGISTRY/app; rbuild -t \"$IMAGE\" --push .")],
        )],
    },
    Page {
        path: "docs/cli.md",
        commands: &[
            (
                "rbuild --platform linux/amd64,linux/arm64",
                &[
                    After(
                        "printf 'FROM --platform=$BUILDPLATFORM %s/busybox AS build\\nARG TARGETARCH\\nRUN echo $TARGETARCH >/out\\nFROM scratch\\nCOPY --from=build /out /\\n' $REGISTRY >Dockerfile",
                    ),
                    Says("[linux/amd64->arm64"),
                ],
            ),
            (
                "sed -i s/Built/Made/ index.html",
                &[After("cp $REPOSITORY/examples/hello/* .; rbuild -t hello .")],
            ),
            ("rbuild --progress=plain -t hello .", &[Says("not cached: index.html changed")]),
            (
                "rbuild lock .",
                &[
                    After(
                        "cp $REPOSITORY/examples/hello/* .; sed -i s,scratch,$REGISTRY/busybox, Dockerfile",
                    ),
                    Says("  new "),
                ],
            ),
            ("cat rbuild.lock", &[Says("[images]")]),
            (
                "rbuild plan .",
                &[
                    After("cp $REPOSITORY/examples/hello/* .; rm rbuild.lock; rbuild .; echo >>index.html"),
                    Says("would run"),
                ],
            ),
            (
                "rbuild --check .",
                &[
                    After("printf 'FROM scratch\\nWORKDIR srv\\n' >Dockerfile"),
                    Says("Check complete, 1 warning found."),
                ],
            ),
            (
                "rbuild context .",
                &[
                    After("printf '*.log\\n!keep.log\\n' >.dockerignore; touch a.log keep.log"),
                    Says(".dockerignore line 2: `!keep.log`"),
                ],
            ),
            ("rbuild context --why", &[Says("`a.log` is left out; .dockerignore line 1: `*.log`")]),
            ("rbuild inspect -f", &[After(PUSHED)]),
            (
                "rbuild copy --all",
                &[Typed("rbuild copy --all docker://$REGISTRY/app:1 docker://$REGISTRY/copied:1")],
            ),
            ("rbuild save app | podman load", &[After(PODMAN)]),
            (
                "rbuild index create",
                &[Typed(
                    "rbuild index create $REGISTRY/app:1 $REGISTRY/app@$(jq -r '.\"containerimage.digest\"' m.json)",
                )],
            ),
        ],
    },
    Page {
        path: "docs/debugging.md",
        commands: &[
            (
                "rbuild -t app .",
                &[
                    After(
                        "printf 'FROM %s/busybox AS build\\nCOPY Dockerfile /\\nRUN mkdir /out && cp /bin/busybox /out/app\\nRUN exit 2\\n' $REGISTRY >Dockerfile",
                    ),
                    Fails(1),
                    Says("enters the step as it was left"),
                ],
            ),
            (
                "rbuild shell 4f2a1b",
                &[
                    Typed(
                        "echo 'ls /out' | rbuild shell $(grep -oh 'rbuild shell [0-9a-f]*' $OUT/* | head -1 | cut -d' ' -f3)",
                    ),
                    Says("app"),
                ],
            ),
            ("rbuild logs", &[Says("exit code: 2")]),
            ("rbuild logs last 6", &[Typed("rbuild logs last 5")]),
            (
                "echo 'ldd /out/app'",
                &[
                    After("sed -i /exit/d Dockerfile"),
                    Typed("echo 'ls /out/app' | rbuild shell --at build ."),
                ],
            ),
            (
                "rbuild shell --at 3",
                &[Typed(
                    "echo 'ls /Dockerfile' | rbuild shell --at 3 -v /bin/busybox:/busybox:ro --shell '/busybox sh' .",
                )],
            ),
            (
                "rbuild run --rm -it app bash",
                &[
                    After("rbuild -t app .; mkdir data"),
                    Typed("echo exit | script -qec 'rbuild run --rm -it app sh' /dev/null"),
                ],
            ),
            (
                "rbuild run -e MODE=test",
                &[
                    Typed(
                        "rbuild run -e MODE=test -w /tmp -u app -v ./data:/data:ro app sh -c 'echo $MODE $PWD'",
                    ),
                    Says("test /tmp"),
                ],
            ),
            (
                "tar c . | rbuild run",
                &[Typed("tar c . | rbuild run -i app cat | tar t"), Says("./Dockerfile")],
            ),
            (
                "rbuild run --name fixed",
                &[
                    Typed("echo 'echo x >/made' | rbuild run --name fixed -i app sh"),
                    Says("rbuild commit fixed NAME"),
                ],
            ),
            ("rbuild commit", &[Says("sha256:")]),
        ],
    },
    Page { path: "docs/docker.md", commands: &[("rbuild self install", &[Says("docker-buildx")])] },
    Page {
        path: "docs/dockerfile.md",
        commands: &[(
            "rbuild .",
            &[
                After("printf 'FROM scratch\\nRUM echo\\nCOPY --chwon=1 a /\\n' >Dockerfile"),
                Fails(1),
                Says("did you mean `RUN`?"),
                Says("did you mean `--chown`?"),
            ],
        )],
    },
    Page { path: "CONTRIBUTING.md", commands: &[] },
    Page { path: "tests/README.md", commands: &[] },
    Page { path: "docs/engines.md", commands: &[] },
    Page {
        path: "docs/explain.md",
        commands: &[
            (
                "rbuild explain",
                &[
                    After(
                        "printf 'FROM %s/busybox\\nCOPY . .\\nRUN cat app.js\\n' $REGISTRY >Dockerfile; echo 1 >app.js; rbuild -t app .; echo 2 >app.js; rbuild -t app .",
                    ),
                    Says("app.js changed"),
                ],
            ),
            (
                "rbuild -t app --max-size",
                &[
                    Typed(
                        "rbuild -t $REGISTRY/app --max-size 2kB --max-growth 5% --max-waste 20MB --min-efficiency 0.95 --push .",
                    ),
                    Fails(3),
                    Says("over budget"),
                ],
            ),
            ("echo $?", &[Says("3")]),
            (
                "rbuild check-image",
                &[
                    After("rbuild -t $REGISTRY/app:1 --push .; rbuild tag $REGISTRY/app:1 app:2"),
                    Says("kept"),
                ],
            ),
        ],
    },
    Page {
        path: "docs/from-buildah.md",
        commands: &[
            ("rbuild -t app --load=podman .", &[After(PODMAN), After(SMALL)]),
            (
                "rbuild --build-context base=",
                &[After(
                    "rbuild copy app containers-storage:localhost/base:latest; printf 'FROM base\\n' >Dockerfile",
                )],
            ),
        ],
    },
    Page {
        path: "docs/history.md",
        commands: &[
            ("rbuild history ls", &[After(SMALL), After("rbuild -t app .; rbuild -t app .")]),
            ("rbuild history --tree", &[Says("RUN echo made >/made")]),
        ],
    },
    Page {
        path: "docs/policy.md",
        commands: &[
            ("rbuild sign", &[After(PUSHED)]),
            ("rbuild verify-signature", &[Says("cosign container image signature")]),
        ],
    },
    Page {
        path: "docs/report.md",
        commands: &[
            ("rbuild report ", &[After(PUSHED)]),
            ("rbuild report --open app:1", &[Typed("BROWSER=true rbuild report --open app:1")]),
        ],
    },
    Page {
        path: "docs/reproducible.md",
        commands: &[("rbuild --reproducible", &[After(SMALL)]), ("rbuild reproduce", &[Says("identical")])],
    },
    Page { path: "docs/run.md", commands: &[] },
    Page {
        path: "docs/sbom.md",
        commands: &[("rbuild sbom app", &[After(PUSHED), After("rbuild -t app:2 .")])],
    },
    Page {
        path: "docs/shared-cache.md",
        commands: &[
            (
                "rbuild -t registry.example/app --push --cache-from registry.example/app:cache",
                &[After(SMALL)],
            ),
            ("rbuild cache rm", &[After("rbuild --cache-to type=local,dest=$PWD/../shared .")]),
            ("rbuild --cache-to   type=registry", &[After("ssh-keygen -q -t ed25519 -N '' -f cache-key")]),
        ],
    },
    Page {
        path: "docs/store.md",
        commands: &[
            ("skopeo inspect", &[After(SMALL), After("rbuild -t hello .")]),
            (
                "skopeo copy",
                &[Typed(
                    "skopeo copy --dest-tls-verify=false oci:$RBUILD_ROOT:docker.io/library/hello:latest docker://$REGISTRY/hello",
                )],
            ),
            (
                "umoci unpack",
                &[Typed(
                    "umoci unpack --rootless --image $RBUILD_ROOT:docker.io/library/hello:latest bundle",
                )],
            ),
        ],
    },
    Page {
        path: "packaging/README.md",
        commands: &[
            ("rbuild -f packaging/image/Dockerfile", &[Not("`packaging` makes the image")]),
            ("VERSION=1.2.3", &[Not("`dist` makes the images")]),
        ],
    },
];

/// The commands of a page, with the number of the line each begins at.
fn commands(page: &str) -> Vec<(usize, String)> {
    let (mut found, mut on, mut goes_on): (Vec<(usize, String)>, bool, bool) = Default::default();
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            (on, goes_on) = (line == "```console", false);
            continue;
        }
        let begins = on.then(|| line.strip_prefix("$ ")).flatten();
        match (begins, goes_on) {
            (Some(command), _) => found.push((number + 1, command.to_owned())),
            (None, true) => found.last_mut().unwrap().1 += &format!("\n{line}"),
            (None, false) => continue,
        }
        goes_on = line.ends_with('\\');
    }
    found
}

impl Page {
    /// What is known of each command: a note stands for the next command that begins so, and for no other.
    fn notes(&self, commands: &[(usize, String)]) -> Vec<&'static [Note]> {
        let mut left: Vec<_> = self.commands.iter().collect();
        let notes = commands.iter().map(|(_, command)| {
            match left.iter().position(|(begin, _)| command.starts_with(begin)) {
                Some(at) => left.remove(at).1,
                None => &[],
            }
        });
        let notes = notes.collect();
        let left: Vec<_> = left.iter().map(|(begin, _)| begin).collect();
        assert!(left.is_empty(), "{}: no command begins with {left:?}", self.path);
        notes
    }

    /// Runs the page, and says how many commands ran, and which were not as they should be.
    fn walk(&self, repository: &Path, registry: &Registry) -> (usize, Vec<String>) {
        let commands = commands(&fs::read_to_string(repository.join(self.path)).unwrap());
        let notes = self.notes(&commands);
        let world = World::new();
        let mut script = "shopt -s expand_aliases\nran() { local code=$?; echo \"$1 $code\" >>$OUT/codes; return $code; }\n".to_owned();
        for ((line, command), notes) in commands.iter().zip(&notes) {
            if ELSEWHERE.iter().any(|(begin, _)| command.starts_with(begin)) && notes.is_empty() {
                continue;
            }
            let mut typed = NAMES.iter().fold(command.clone(), |typed, (name, is)| typed.replace(name, is));
            let mut is_run = true;
            for note in *notes {
                match note {
                    After(made) => {
                        let _ = writeln!(
                            script,
                            "(set -e; {made}) >$OUT/before-{line} 2>&1 </dev/null || {{ echo 'before {line}' >>$OUT/codes; exit; }}"
                        );
                    }
                    Typed(instead) => typed = (*instead).to_owned(),
                    Not(why) => {
                        println!("not run here: {command}: {why}");
                        is_run = false;
                    }
                    Fails(_) | Says(_) => {}
                }
            }
            if is_run {
                let _ = writeln!(script, "{{ {typed}\n}} >$OUT/{line} 2>&1 </dev/null\nran {line}");
            }
        }
        self.shell(&world, registry, repository, &script);
        let out = world.path().join("out");
        let codes = fs::read_to_string(out.join("codes")).unwrap_or_default();
        let (mut ran, mut failures) = (0, Vec::new());
        for ((line, command), notes) in commands.iter().zip(&notes) {
            let at = format!("{}:{line}: {command}", self.path);
            let said = |name: String| fs::read_to_string(out.join(name)).unwrap_or_default();
            if codes.contains(&format!("before {line}\n")) {
                failures.push(format!("before {at}\n{}", said(format!("before-{line}"))));
            }
            let begin = format!("{line} ");
            let Some(code) = codes.lines().find_map(|told| told.strip_prefix(&begin)) else { continue };
            ran += 1;
            let said = said(line.to_string());
            let wanted =
                notes.iter().find_map(|note| if let Fails(code) = note { Some(*code) } else { None });
            if code != wanted.unwrap_or(0).to_string() {
                failures.push(format!("exit code {code} of {at}\n{said}"));
            }
            let unsaid =
                notes.iter().filter_map(|note| if let Says(text) = note { Some(*text) } else { None });
            failures.extend(
                unsaid
                    .filter(|text| !said.contains(text))
                    .map(|text| format!("`{text}` is not said by {at}\n{said}")),
            );
        }
        (ran, failures)
    }

    fn shell(&self, world: &World, registry: &Registry, repository: &Path, script: &str) {
        let bin = world.path().join("bin");
        for folder in ["bin", "out"] {
            fs::create_dir(world.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(world.program(), bin.join("rbuild")).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(world.context()).env_clear().env("PATH", path);
        command
            .env("HOME", world.path().join("home"))
            .env("RBUILD_ROOT", world.store())
            .env("LC_ALL", "C.UTF-8");
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("TERM", "dumb");
        command.env("CONTAINERS_STORAGE_CONF", world.path().join("storage.conf"));
        command.env("REGISTRY", registry.host()).env("REPOSITORY", repository).env("WORLD", world.path());
        command.env("OUT", world.path().join("out"));
        assert!(command.output().unwrap().status.code().is_some(), "{}: the shell was killed", self.path);
    }
}

/// Every page with commands is listed.
#[test]
fn no_page_is_left_out() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in crate::documentation::pages() {
        let name = page.strip_prefix(repository).unwrap().to_str().unwrap();
        let commands = commands(&fs::read_to_string(&page).unwrap());
        let is_listed = PAGES.iter().any(|page| page.path == name);
        assert!(commands.is_empty() || is_listed, "the commands of {name} are run by nobody");
    }
}

#[test]
fn every_command_runs() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let registry = busybox_registry();
    let walks: Vec<_> = PAGES.iter().map(|page| page.walk(repository, &registry)).collect();
    let failures: Vec<_> = walks.iter().flat_map(|(_, failures)| failures).map(String::as_str).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let ran: usize = walks.iter().map(|(ran, _)| ran).sum();
    assert!(ran > 75, "only {ran} commands were run");
}
