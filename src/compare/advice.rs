//! What makes images differ, and what to do about it.

use super::{Difference, Kind, Place};

/// What is to be done, as one sentence; `None` where nothing is known but that it differs.
pub fn advice(difference: &Difference) -> Option<&'static str> {
    match &difference.place {
        Place::Manifest | Place::Config => match difference.kind {
            Kind::Time => Some(TIMES),
            _ => None,
        },
        Place::Step(step) => of_file(difference).or_else(|| of_copy(&step.instruction, difference.kind)),
    }
}

const TIMES: &str = "`--reproducible` sets times to that of the commit, or set SOURCE_DATE_EPOCH";

fn of_file(difference: &Difference) -> Option<&'static str> {
    let path = difference.path.as_str();
    if path.starts_with(".git/") || path.contains("/.git/") {
        return Some("git keeps times and a log there: `.git` in .dockerignore");
    }
    match difference.kind {
        Kind::Content | Kind::OnlyInFirst | Kind::OnlyInSecond => {
            KNOWN.iter().find(|(pattern, _)| is_like(path, pattern)).map(|(_, advice)| *advice).or(
                match &difference.place {
                    Place::Step(step) if difference.kind != Kind::Content && !is_copy(&step.instruction) => {
                        Some("a program chose the name by time, process number or chance: remove the file in the same RUN, or give it a name")
                    }
                    _ => None,
                },
            )
        }
        Kind::Time => Some(TIMES),
        Kind::Order => Some("files were listed as the file system had them: both were not written by rbuild, or the archive is older"),
        Kind::Compression => Some("the layers hold the same: `-o …,compression=…,compression-level=…,force-compression=true` gives them one form"),
        Kind::Encoding => Some("the layers hold the same: different builders wrote them"),
        Kind::Mode => Some("`COPY --chmod=…`, or `umask 022` before the command that made it"),
        Kind::Owner => Some("`COPY --chown=…`, or `useradd --uid …`"),
        Kind::Type | Kind::Target | Kind::Attribute | Kind::Field => None,
    }
}

fn is_copy(instruction: &str) -> bool {
    ["COPY ", "ADD "].iter().any(|word| instruction.starts_with(word))
}

/// Of files that were taken and not made.
fn of_copy(instruction: &str, kind: Kind) -> Option<&'static str> {
    let differs = matches!(kind, Kind::Content | Kind::OnlyInFirst | Kind::OnlyInSecond);
    (is_copy(instruction) && differs).then_some("what was copied was not the same: the context, another stage, or what a URL gave; `rbuild context` lists what a context has")
}

/// Files that are known to differ from build to build. `*` stands for anything, at the beginning or the end.
const KNOWN: [(&str, &str); 27] = [
    (
        "*.pyc",
        "Python writes times into its byte code: `ENV PYTHONDONTWRITEBYTECODE=1`, or `SOURCE_DATE_EPOCH` with `--invalidation-mode checked-hash`",
    ),
    (
        "var/cache/ldconfig/aux-cache",
        "`rm /var/cache/ldconfig/aux-cache` in the same RUN: ldconfig keeps inode numbers there",
    ),
    ("var/lib/apt/lists*", "`rm -rf /var/lib/apt/lists/*` in the same RUN, or a cache mount there"),
    ("var/cache/apt*", "`apt-get clean` in the same RUN, or a cache mount there"),
    ("var/lib/dpkg/status-old", "`rm -f /var/lib/dpkg/*-old` in the same RUN"),
    (
        "var/lib/dpkg*",
        "packages were installed in another version or order: pin them, or use snapshot.debian.org",
    ),
    ("var/log*", "`rm -rf /var/log/*` in the same RUN: logs hold times"),
    ("etc/machine-id", "`rm -f /etc/machine-id` in the same RUN: it is random"),
    ("var/lib/dbus/machine-id", "`rm -f /var/lib/dbus/machine-id` in the same RUN: it is random"),
    ("etc/ssh/ssh_host_*", "`rm -f /etc/ssh/ssh_host_*` in the same RUN: a key in an image is everybody's"),
    ("etc/ssl/private*", "`rm` it in the same RUN: a key in an image is everybody's"),
    (
        "etc/shadow*",
        "the day of a password's change is in it: with SOURCE_DATE_EPOCH in its environment `useradd` writes that day",
    ),
    ("etc/passwd-", "`rm -f /etc/*-` in the same RUN: old versions of accounts"),
    ("etc/group-", "`rm -f /etc/*-` in the same RUN: old versions of accounts"),
    ("etc/ld.so.cache", "libraries differ, or were installed in another order"),
    ("etc/ssl/certs*", "the certificates that were current then: pin the version of ca-certificates"),
    ("*.a", "`ar` writes times: `ARFLAGS=rcD`, or binutils built with deterministic archives"),
    ("*.gz", "gzip writes the time: `gzip -n`"),
    (
        "*.jar",
        "archives hold times: Maven's `project.build.outputTimestamp`, Gradle's `preserveFileTimestamps = false`",
    ),
    ("*.whl", "wheels hold times: SOURCE_DATE_EPOCH in the environment of the build"),
    ("*.zip", "archives hold times: `zip -X` of files whose times are set"),
    (
        "*.tar",
        "archives hold times: `tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner`",
    ),
    ("root/.npm*", "npm keeps logs and a cache: a cache mount at /root/.npm"),
    ("root/.cache*", "caches of programs: a cache mount at /root/.cache"),
    ("tmp*", "`rm -rf /tmp/*` in the same RUN, or `RUN --mount=type=tmpfs,target=/tmp`"),
    ("*.log", "logs hold times: remove it in the same RUN"),
    ("*.rlib", "Rust's compiler writes paths: the same WORKDIR, and `--remap-path-prefix`"),
];

fn is_like(path: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => path.ends_with(end),
        (_, Some(start)) => path.starts_with(start),
        (None, None) => path == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn at(path: &str, kind: Kind) -> Option<&'static str> {
        let place = Place::Step(Step { layer: 1, instruction: String::new() });
        let (first, second) = (String::new(), String::new());
        advice(&Difference { place, path: path.to_owned(), kind, first, second, excerpt: None })
    }

    #[test]
    fn files_that_are_known_have_an_advice_of_their_own() {
        assert!(
            at("usr/lib/python3/x/__pycache__/a.pyc", Kind::Content)
                .is_some_and(|a| a.contains("PYTHONDONTWRITEBYTECODE"))
        );
        assert!(at("var/log/dpkg.log", Kind::Content).is_some_and(|a| a.contains("/var/log/*")));
        assert!(at("etc/machine-id", Kind::OnlyInFirst).is_some_and(|a| a.contains("random")));
        assert!(at("srv/a", Kind::Time).is_some_and(|a| a.contains("--reproducible")));
        assert_eq!(at("srv/a", Kind::Content), None);
        assert!(at("app/.git/index", Kind::Content).is_some_and(|a| a.contains(".dockerignore")));
        assert!(of_copy("COPY . /app", Kind::OnlyInFirst).is_some_and(|a| a.contains("rbuild context")));
        assert_eq!(of_copy("RUN make", Kind::OnlyInFirst), None);
    }
}
