#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use super::flags::{Becomes, FLAGS, Kind, named};
use super::*;
use crate::cli::Failure;
use crate::pipeline::ContextFrom;

/// The job of a line, its words parted by blanks; `DIR` is a folder with a Dockerfile.
fn job(line: &str) -> Result<Job, Failure> {
    let folder = tempfile::tempdir().unwrap();
    for file in ["Dockerfile", "cert", "key"] {
        std::fs::write(folder.path().join(file), "FROM scratch\n").unwrap();
    }
    let line = line.replace("DIR", folder.path().to_str().unwrap());
    Job::of(&Typed::read(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))?)
}

/// What is said about a line that is refused.
fn refused(line: &str) -> String {
    match job(line) {
        Ok(_) => panic!("`{line}` is taken"),
        Err(failure) => {
            let diagnostic = &failure.diagnostics[0];
            let help: Vec<_> = diagnostic.help.iter().map(String::as_str).collect();
            format!("{}; {}", diagnostic.message, help.join("; "))
        }
    }
}

/// The words that a line becomes beside the usual ones.
fn words(line: &str) -> Vec<String> {
    let usual = ["--pull=always", "--file=", "--no-cache", "--tag=localhost/x:1", "--push"];
    let words =
        job(&format!("-c DIR -d localhost/x:1 {line}")).unwrap_or_else(|e| panic!("{line}: {e:?}")).words;
    words.into_iter().filter(|word| !usual.iter().any(|usual| word.starts_with(usual))).collect()
}

/// Every option of the archived kaniko and of its successors, as their sources list them: a `!` behind those without a value.
const OPTIONS: &str = "annotation bucket build-arg cache! cache-copy-layers! cache-dir cache-repo cache-run-layers! cache-ttl \
    cleanup! compressed-caching! compression compression-level context context-sub-path credential-helpers custom-platform \
    customPlatform destination digest-file dockerfile dryrun! force! force-build-metadata! git ignore-path ignore-var-run! \
    image-download-retry image-format image-fs-extract-retry image-name-tag-with-digest-file image-name-with-digest-file \
    insecure! insecure-pull! insecure-registry kaniko-dir label log-format log-timestamp! materialize! no-push! no-push-cache! \
    oci-layout-path pre-cleanup! preserve-context! push-ignore-immutable-tag-errors! push-retry registry-certificate \
    registry-client-cert registry-map registry-mirror reproducible! secret single-snapshot! skip-default-registry-fallback! \
    skip-push-permission-check! skip-tls-verify! skip-tls-verify-pull! skip-tls-verify-registry skip-unused-stages! \
    snapshot-mode snapshotMode tar-path tarPath target use-new-run! verbosity whitelist-var-run!";

#[test]
fn every_option_of_kaniko_is_known() {
    let theirs: BTreeSet<&str> = OPTIONS.split_whitespace().collect();
    let ours: BTreeSet<String> = FLAGS
        .iter()
        .map(|flag| format!("{}{}", flag.name, if flag.kind == Kind::Switch { "!" } else { "" }))
        .collect();
    assert_eq!(ours.iter().map(String::as_str).collect::<BTreeSet<_>>(), theirs);
    let letters: String = FLAGS.iter().filter_map(|flag| flag.short).collect();
    assert_eq!(letters, "cfdvb");
}

/// Each one means something, or is said to mean nothing, or is refused with a way to go on.
#[test]
fn no_option_is_dropped() {
    let usual = "-c DIR -d localhost/x:1";
    let plain = job(usual).unwrap();
    for flag in FLAGS {
        let value = match flag.name {
            "credential-helpers" => "env",
            "custom-platform" | "customPlatform" => "linux/arm64",
            "compression" => "zstd",
            "compression-level" | "image-download-retry" | "image-fs-extract-retry" | "push-retry" => "3",
            "image-format" => "docker",
            "log-format" => "json",
            "verbosity" => "error",
            "cache-ttl" => "6h",
            "context" => "tar://stdin",
            "dockerfile" => "DIR/cert",
            "git" => "branch=b",
            "ignore-path" => "/kaniko",
            "registry-certificate" => "localhost=DIR/cert",
            "registry-client-cert" => "localhost=DIR/cert,DIR/key",
            "registry-map" => "a.example=b.example",
            "cache-run-layers" => "false",
            "context-sub-path" => ".",
            _ if flag.kind == Kind::Switch => "true",
            _ => "x",
        };
        // What only counts beside something else.
        let beside = match flag.name {
            "cache-ttl" | "cache-repo" | "no-push-cache" => "--cache",
            "cache-run-layers" => "--cache --cache-repo=localhost/c",
            "git" => "--context=git://h/r",
            _ => "",
        };
        let line = format!("{usual} {beside} --{}={value}", flag.name);
        match flag.becomes {
            Becomes::Refused(help) => {
                assert!(refused(&line).ends_with(help), "{line}");
                if flag.kind == Kind::Switch {
                    job(&format!("{usual} --{}=false", flag.name)).unwrap();
                }
            }
            Becomes::Nothing(reason) => {
                let told = format!("`--{}` changes nothing: {reason}", flag.name);
                assert_eq!(job(&line).unwrap().notes, [told], "{line}");
            }
            Becomes::Meant(_) => {
                let (with, without) = (job(&line).unwrap(), job(&format!("{usual} {beside}")).unwrap());
                let seen = |job: &Job| {
                    format!(
                        "{:?}",
                        (
                            &job.words,
                            &job.context,
                            &job.flags,
                            &job.logins,
                            &job.files,
                            &job.is_dry,
                            &job.before
                        )
                    )
                };
                // Temporary folders differ.
                let cut = |text: String| {
                    let mut parts = text.split("/.tmp");
                    let first = parts.next().unwrap().to_owned();
                    parts.fold(first, |all, part| all + &part[6..])
                };
                let is_alike = cut(seen(&with)) == cut(seen(&without));
                // In the container of the job nothing is ignored, so this one asks for nothing.
                assert_eq!(is_alike, flag.name == "ignore-path", "{line}: {}", seen(&with));
                assert!(with.notes.is_empty(), "{line}: {:?}", with.notes);
            }
        }
    }
    assert!(plain.notes.is_empty(), "{:?}", plain.notes);
}

#[test]
fn words_are_read_as_pflag_reads_them() {
    for line in [
        "-d localhost/y:2",
        "-d=localhost/y:2",
        "-dlocalhost/y:2",
        "--destination localhost/y:2",
        "--destination=localhost/y:2",
    ] {
        assert_eq!(words(line), ["--tag=localhost/y:2"], "{line}");
    }
    let typed = |line: &str| Typed::read(line.split(' ').map(OsString::from)).unwrap();
    assert_eq!(typed("--cache=T --no-push=0 --force -- --cache=x").words, ["--cache=x"]);
    assert!(Typed::read(["--cache=perhaps".into()]).is_err());
    assert!(Typed::read(["--destination".into()]).is_err());
    assert!(refused("--dockerfle=x").contains("did you mean `--dockerfile`?"));
    assert!(refused("-z").contains("no option `-z`"));
    let told = job("-c DIR --no-push --cache=false true").unwrap().notes;
    assert_eq!(told, ["the word `true` means nothing, as with kaniko; a switch has its value behind `=`"]);
    assert!(named("cache").is_some_and(|flag| flag.kind == Kind::Switch));
}

#[test]
fn options_become_those_of_a_build() {
    for (line, expected) in [
        ("--target a,b --target c", "--target=a"),
        ("--build-arg A=b=c --build-arg RBUILD_NOT_SET", "--build-arg=A=b=c --build-arg=RBUILD_NOT_SET="),
        ("--label a=b --annotation c=d", "--label=a=b --annotation=c=d"),
        ("--secret id=a,env=B", "--secret=id=a,env=B"),
        ("--custom-platform linux/arm64", "--platform=linux/arm64"),
        ("--tar-path a,b.tar", "--output=type=docker,\"dest=a,b.tar\""),
        ("--tarPath=-", "--output=type=docker,dest=./-"),
        ("--oci-layout-path o", "--output=type=oci,tar=false,dest=o"),
        ("--compression zstd --compression-level=-1", "--output=type=image,compression=zstd"),
        ("--compression-level=9", "--output=type=image,compression-level=9"),
        ("--single-snapshot", "--squash"),
        ("--reproducible", "--output=type=image,rewrite-timestamp=true"),
        ("--image-format=docker", "--output=type=image,oci-mediatypes=false"),
        ("--verbosity debug", ""),
        ("--verbosity=error --log-format=json", "--progress=quiet"),
        ("--log-format=json", "--progress=json"),
        ("--log-format=text", "--progress=plain"),
        (
            "--cache",
            "--cache-from=type=registry,ref=localhost/x/cache:rbuild-cache \
             --cache-to=type=registry,ref=localhost/x/cache:rbuild-cache,max-age=1209600s",
        ),
        (
            "--cache=true --cache-repo h.example/c --cache-ttl 1h30m",
            "--cache-from=type=registry,ref=h.example/c:rbuild-cache \
             --cache-to=type=registry,ref=h.example/c:rbuild-cache,max-age=5400s",
        ),
        ("--cache --cache-repo oci:/c --no-push-cache", "--cache-from=type=local,src=/c"),
    ] {
        assert_eq!(words(line).join(" "), expected, "{line}");
    }
    // Without `--cache` every step runs again; with it, as rbuild builds.
    assert!(job("-c DIR --no-push").unwrap().words.contains(&"--no-cache".to_owned()));
    assert!(!job("-c DIR -d localhost/x --cache").unwrap().words.contains(&"--no-cache".to_owned()));
    let several = job("-c DIR --no-push --target a,b --target c").unwrap();
    assert_eq!(several.before, ["b", "c"]);
    assert!(job("-c DIR --no-push --reproducible").unwrap().is_timeless);
}

#[test]
fn contexts_are_kanikos() {
    let from = |line: &str| {
        let job = job(&format!("--no-push {line}")).unwrap_or_else(|e| panic!("{line}: {e:?}"));
        match job.context {
            ContextFrom::Directory(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
            ContextFrom::Stdin => "stdin".to_owned(),
            ContextFrom::Archive(path) => format!("archive {}", path.display()),
            ContextFrom::Git(url) => format!("git {url}"),
            ContextFrom::Url(url) => format!("url {url}"),
        }
    };
    for (line, expected) in [
        ("-c tar://stdin", "stdin"),
        ("-c tar:///a/b.tar.gz", "archive /a/b.tar.gz"),
        ("-c https://h/c.tar.gz", "url https://h/c.tar.gz"),
        (
            "-c https://a.blob.core.windows.net/c/x.tar.gz?sv=1",
            "url https://a.blob.core.windows.net/c/x.tar.gz?sv=1",
        ),
        ("-c git://h/a.git", "git https://h/a.git?submodules=false"),
        ("-c git://h/a.git#refs/heads/b", "git https://h/a.git?submodules=false#refs/heads/b"),
        ("-c git://h/a.git#refs/heads/b#0123", "git https://h/a.git?submodules=false#0123"),
        (
            "-c git://h/a.git --git branch=v1,recurse-submodules=true --context-sub-path /s/",
            "git https://h/a.git#v1:s",
        ),
        ("-c git://h/a.git --context-sub-path s", "git https://h/a.git?submodules=false#:s"),
    ] {
        assert_eq!(from(line), expected, "{line}");
    }
    for (line, way) in [
        ("-c s3://b/c.tar.gz", "`aws s3 cp s3://b/c.tar.gz - | executor --context=tar://stdin …`"),
        ("-c gs://b/c.tar.gz", "`gsutil cat gs://b/c.tar.gz | executor --context=tar://stdin …`"),
        ("-c https://a.blob.core.windows.net/c/x.tar.gz", "az storage blob download"),
        ("-c tar://stdin --context-sub-path a", "unpack it"),
        ("-c ftp://h/x", "there are dir://, tar://, git:// and https://"),
        ("-c git://h/a --git insecure-skip-tls=true", "http.sslCAInfo"),
        ("-c git://h/a --git colour=red", "there are branch"),
        ("-c DIR -f nowhere", "there is no `nowhere`"),
    ] {
        let said = refused(&format!("--no-push {line}"));
        assert!(said.contains(way), "{line}: {said}");
    }
}

#[test]
fn what_cannot_be_is_said() {
    for (line, expected) in [
        ("", "neither `--destination` nor `--no-push`"),
        ("--no-push --cache", "--cache-repo=REGISTRY/REPOSITORY"),
        ("--no-push --image-name-with-digest-file=f", "name it with `--destination`"),
        ("-d localhost/x --digest-file=https://h/x", "curl -T FILE URL"),
        (
            "-d a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "cannot have a digest",
        ),
        ("-d localhost/x --ignore-path=/root/.cache", "RUN --mount=type=cache,target=/root/.cache"),
        ("-d localhost/x --credential-helpers=ecr", "docker-credential-ecr-login"),
        ("-d localhost/x --credential-helpers=none", "there are env and gitlab"),
        ("-d localhost/x --cache --cache-ttl=soon", "such as 6h"),
        ("-d localhost/x --cache --cache-repo=localhost/c:1", "without a tag"),
        ("-d localhost/x --compression=xz", "gzip or zstd"),
        ("-d localhost/x --registry-certificate=localhost=/not/there", "`/not/there`: No such file"),
        ("-d localhost/x --registry-client-cert=localhost=DIR/cert", "REGISTRY=CERTIFICATE,KEY"),
        ("-d localhost/x --registry-map=a", "REGISTRY=…"),
        ("-d localhost/x --verbosity=loud", "trace, debug, info"),
    ] {
        let said = refused(&format!("-c DIR {line}"));
        assert!(said.contains(expected), "{line}: {said}");
    }
}
