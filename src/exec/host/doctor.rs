//! What this machine offers to steps, each thing tried, with the line to type where something stands in the way.

use std::fs;
use std::path::Path;

use super::executor::Executor;
use super::user::Credentials;
use super::userns::{SingleIdReason, UsernsError, find_in_path};
use crate::exec::failure::ExecError;
use crate::exec::owners::numbers;
use crate::exec::privilege::Privilege;
use crate::exec::spec::{Network, RootSource, Security, Spec};
use crate::exec::step::caps;
use crate::exec::{plain, seccomp, sys};
use crate::oci::Platform;

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Works,
    /// Steps do without it, with what is said.
    Limited,
    /// It is in the way of this rung, or of all of them.
    Blocked,
    /// A better rung works, or it is another user's.
    Unused,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A few words.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found, in one sentence without a full stop.
    pub detail: String,
    /// What to type or to change, one way each.
    pub remedies: Vec<String>,
}

/// Everything that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Who a build would be. `None`: RUN cannot work.
    pub privilege: Option<Privilege>,
    /// The rungs from the top, then what all of them need, then the rest.
    pub findings: Vec<Finding>,
}

impl Executor {
    /// Tries everything; `directory` is a folder on the store's file system. Some milliseconds.
    pub fn examine(&self, directory: &Path) -> Examination {
        let container = container();
        let namespace = self.why_single().map(Option::<&_>::cloned).map_err(|error| error.to_string());
        let mut findings = vec![root()];
        findings.extend(self.namespaces(&namespace, container));
        let privilege = self.privilege().ok();
        findings.push(self.plain(directory, privilege));
        match privilege {
            None => {}
            Some(Privilege::Plain) => {
                let detail = "a copy of the base, handed on from step to step";
                findings.push(Finding::new(WRITABLE_ROOTS, State::Works, detail));
            }
            Some(Privilege::Root | Privilege::Ranges | Privilege::Single) => {
                findings.push(self.mounts(directory, container));
                findings.push(self.overlay(directory));
                findings.push(self.images(directory));
            }
        }
        findings.push(recorded_owners(privilege));
        findings.push(sockets(privilege));
        findings.push(user_mode_network());
        findings.extend(emulators());
        let blocks = |finding: &Finding| {
            let decides = [MOUNTS, RECORDED_OWNERS].contains(&finding.name)
                || finding.name == PLAIN && privilege == Some(Privilege::Plain);
            finding.state == State::Blocked && decides
        };
        let privilege = privilege.filter(|_| !findings.iter().any(blocks));
        Examination { privilege, findings }
    }

    fn namespaces(
        &self,
        found: &Result<Option<SingleIdReason>, String>,
        container: Option<Container>,
    ) -> [Finding; 2] {
        let (ranges, single) = ("ranges of ids", "one id");
        let is_plain = matches!(self.privilege(), Ok(Privilege::Plain));
        if !self.is_rootless() && !is_plain {
            return [ranges, single]
                .map(|name| Finding::new(name, State::Unused, "root needs no user namespace"));
        }
        match found {
            Ok(None) if is_plain => {
                let error = self.userns_error();
                let detail = error.map_or_else(|| "there is none".to_owned(), ToString::to_string);
                let remedies = || container.and_then(Container::let_namespaces).into_iter().collect();
                [ranges, single]
                    .map(|name| Finding::new(name, State::Unused, detail.clone()).with(remedies()))
            }
            Ok(None) => {
                let detail = "user namespaces, with all ids of an image";
                let other = Finding::new(single, State::Unused, "there are ranges");
                [Finding::new(ranges, State::Works, detail), other]
            }
            Ok(Some(reason)) => {
                let first = Finding::new(ranges, State::Blocked, reason.facts()).with(reason.remedies());
                let detail = "user namespaces; RUN records owners and writes them into the layers";
                [first, Finding::new(single, State::Works, detail)]
            }
            Err(text) => {
                let error = self.userns_error();
                let remedies = || error.map(|error| remedies(error, container)).unwrap_or_default();
                let one = |name| Finding::new(name, State::Blocked, text.clone()).with(remedies());
                [one(ranges), one(single)]
            }
        }
    }

    /// Whether something about this machine makes it doubtful that steps start: rbuild is in a container, or something
    /// covers parts of `/proc`. Reads a few small files.
    pub fn may_be_barred(&self) -> bool {
        container().is_some() || self.is_rootless() && masked_below_proc().is_some()
    }

    /// Starts a step that does nothing, in a new folder of `directory`; once, and tells the same from then on. Some
    /// milliseconds.
    ///
    /// # Errors
    /// [`ExecError::Barred`]: what was refused, and why, as far as that can be seen.
    pub fn try_step(&self, directory: &Path) -> Result<(), ExecError> {
        // What a step is refused because of what it asks for is no matter of the machine.
        if self.refuse(Network::Host, Security::Sandbox).is_err() && self.privilege().is_ok() {
            return Ok(());
        }
        match self.tried.get_or_init(|| self.why_barred(directory)) {
            Some(why) => Err(ExecError::Barred(why.clone())),
            None => Ok(()),
        }
    }

    /// The least that would let steps start here, once it was found that none does: what to type or to change, one way each.
    /// Empty where nobody knows one.
    pub fn least_permission(&self) -> Vec<String> {
        let container = container();
        match self.userns_error() {
            Some(error) => {
                let is_other = !rustix::process::geteuid().is_root() && seccomp::can_ask();
                let root = container.filter(|_| is_other).and_then(Container::with_root);
                root.into_iter().chain(remedies(error, container)).collect()
            }
            None => {
                let is_barred = self.tried.get().is_some_and(Option::is_some);
                let open = |container: Container| container.let_steps_start(self.is_rootless());
                container.filter(|_| is_barred).and_then(open).into_iter().collect()
            }
        }
    }

    fn why_barred(&self, directory: &Path) -> Option<String> {
        let root = directory.join("step");
        // Where no folder can be made there is another error soon.
        fs::create_dir(&root).ok()?;
        match self.run(&trial(&root), |_, _| {}) {
            // Everything was ready for the program.
            Ok(_) | Err(ExecError::NotFound { .. } | ExecError::Cancelled) => None,
            Err(error) => {
                let rule = masked_below_proc().filter(|_| self.is_rootless()).map(|path| {
                    format!("; something is mounted on {path}, and then the kernel allows no other /proc")
                });
                Some(format!("{error}{}", rule.unwrap_or_default()))
            }
        }
    }

    /// What it takes without namespaces and mounts.
    fn plain(&self, directory: &Path, privilege: Option<Privilege>) -> Finding {
        match privilege {
            Some(Privilege::Root) => Finding::new(PLAIN, State::Unused, "this is root of the machine"),
            Some(Privilege::Ranges | Privilege::Single) => {
                Finding::new(PLAIN, State::Unused, "there are user namespaces")
            }
            Some(Privilege::Plain) => match self.why_barred(directory) {
                None => Finding::new(
                    PLAIN,
                    State::Works,
                    "root of a container without namespaces or mounts: a root by chroot, and seccomp answers for /proc",
                ),
                Some(why) => Finding::new(PLAIN, State::Blocked, why),
            },
            None if rustix::process::geteuid().is_root() => {
                let missing = plain::missing_rights();
                let detail = format!("root lacks {}", missing.join(", "));
                let added: Vec<_> = missing.iter().map(|name| format!("--cap-add {name}")).collect();
                let remedies = if missing.is_empty() { vec![] } else { vec![added.join(" ")] };
                Finding::new(PLAIN, State::Blocked, detail).with(remedies)
            }
            None => Finding::new(PLAIN, State::Blocked, "it takes root of the container")
                .with(container().and_then(Container::with_root).into_iter().collect()),
        }
    }

    /// What a step mounts, in the namespaces that it has.
    fn mounts(&self, directory: &Path, container: Option<Container>) -> Finding {
        match self.why_barred(directory) {
            None if self.shares_proc() => {
                let path = masked_below_proc().unwrap_or_else(|| "/proc".to_owned());
                let detail = format!(
                    "a step gets its own /dev and /sys; something is mounted on {path}, so it finds this machine's /proc, and \
                     sees which processes run there"
                );
                let unmask = container.and_then(|container| container.open(true, false, false));
                Finding::new(MOUNTS, State::Limited, detail).with(unmask.into_iter().collect())
            }
            None => Finding::new(MOUNTS, State::Works, "a step gets its own /proc, /dev and /sys"),
            Some(why) => {
                let rootless = self.is_rootless();
                let remedies = container.and_then(|container| container.let_steps_start(rootless));
                let remedies = remedies.into_iter().collect();
                Finding::new(MOUNTS, State::Blocked, why).with(remedies)
            }
        }
    }

    fn images(&self, directory: &Path) -> Finding {
        if self.is_rootless() {
            return Finding::new(IMAGES, State::Unused, "layers are unpacked: only root mounts images");
        }
        match self.try_images(directory) {
            Ok(how) => Finding::new(IMAGES, State::Works, format!("EROFS, mounted {how}")),
            Err(error) => Finding::new(IMAGES, State::Unused, format!("layers are unpacked ({error})")),
        }
    }

    fn overlay(&self, directory: &Path) -> Finding {
        let name = WRITABLE_ROOTS;
        let place = directory.parent().unwrap_or(directory).display();
        match self.try_overlay(directory) {
            Ok(()) => Finding::new(name, State::Works, format!("overlayfs, in {place}")),
            Err(error) => {
                let how = match self.try_overlay_in_memory(directory) {
                    Ok(room) => {
                        format!("what a RUN changes is kept in memory, {} MiB at most", room >> 20)
                    }
                    Err(error) => format!("every RUN copies its whole root ({error})"),
                };
                let detail = format!("{how}: overlayfs writes nothing in {place} ({error})");
                Finding::new(name, State::Limited, detail).with(vec![
                    "put the store on ext4, xfs, btrfs or tmpfs, in a container on a volume: --root DIR"
                        .into(),
                ])
            }
        }
    }
}

const IMAGES: &str = "layers as images";
const MOUNTS: &str = "mounts";
const PLAIN: &str = "plain container";
const WRITABLE_ROOTS: &str = "writable roots";
const RECORDED_OWNERS: &str = "recorded owners";

impl Finding {
    fn new(name: &'static str, state: State, detail: impl Into<String>) -> Self {
        Self { name, state, detail: detail.into(), remedies: Vec::new() }
    }

    fn with(self, remedies: Vec<String>) -> Self {
        Self { remedies, ..self }
    }
}

fn root() -> Finding {
    let name = "root";
    let uid = rustix::process::geteuid();
    if caps::is_privileged() {
        Finding::new(name, State::Works, "this is root, with CAP_SYS_ADMIN")
    } else if uid.is_root() {
        let detail = "this is root without CAP_SYS_ADMIN, or of a user namespace, as in a container";
        Finding::new(name, State::Unused, detail)
    } else {
        Finding::new(name, State::Unused, format!("this is user {}", uid.as_raw()))
    }
}

/// Who runs the container that this is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Docker,
    Podman,
    Kubernetes,
    /// Something with a filter of its own.
    Other,
}

fn container() -> Option<Container> {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Some(Container::Kubernetes)
    } else if Path::new("/run/.containerenv").exists() {
        Some(Container::Podman)
    } else if Path::new("/.dockerenv").exists() {
        Some(Container::Docker)
    } else {
        is_filtered().then_some(Container::Other)
    }
}

/// Whether a filter of system calls is on this process.
fn is_filtered() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|v| v.trim() == "2"))
    })
}

impl Container {
    /// What lets steps work without namespaces, for another user than root.
    fn with_root(self) -> Option<String> {
        let lacks = plain::rights_that_root_lacks();
        match self {
            Container::Docker | Container::Podman => {
                let added = lacks.iter().map(|name| format!(" --cap-add {name}"));
                Some(format!("--user 0{}", added.collect::<String>()))
            }
            Container::Kubernetes if lacks.is_empty() => Some("securityContext: {runAsUser: 0}".to_owned()),
            Container::Kubernetes => Some(format!(
                "securityContext: {{runAsUser: 0, capabilities: {{add: [{}]}}}}",
                lacks.join(", ")
            )),
            Container::Other => None,
        }
    }

    /// What lets steps have namespaces, for root of a container.
    fn let_namespaces(self) -> Option<String> {
        self.open(false, is_filtered(), false)
    }

    /// What takes away, all at once, what is in the way of steps here.
    fn let_steps_start(self, rootless: bool) -> Option<String> {
        // Only a user namespace needs to see the whole of /proc where that of the container will not do, and only root without
        // capabilities cannot have one.
        let is_masked = rootless && masked_below_proc().is_some() && !numbers::can_be_translated();
        self.open(is_masked, is_filtered(), rootless && caps::is_bare_root())
    }

    /// What shows the whole of /proc, which a /proc of one's own asks for, lets system calls through, and makes the user one who
    /// can be mapped. One without the others is of no use where all are in the way, so they are one remedy.
    fn open(self, is_masked: bool, is_filtered: bool, is_bare_root: bool) -> Option<String> {
        let unfilter = "--security-opt seccomp=unconfined";
        let [unmask, unfilter, become_user, between] = match self {
            Container::Kubernetes => {
                ["procMount: Unmasked", "seccompProfile: {type: Unconfined}", "runAsUser: 1000", ", "]
            }
            Container::Podman => ["--security-opt unmask=ALL", unfilter, "--user 1000", " "],
            Container::Docker => ["--security-opt systempaths=unconfined", unfilter, "--user 1000", " "],
            Container::Other => [
                "with nothing mounted over parts of /proc",
                "with its seccomp filter off",
                "as another user than root",
                " and ",
            ],
        };
        let wanted = [(is_masked, unmask), (is_filtered, unfilter), (is_bare_root, become_user)];
        let wanted: Vec<_> = wanted.iter().filter(|(wanted, _)| *wanted).map(|(_, text)| *text).collect();
        let text = wanted.join(between);
        (!text.is_empty()).then(|| match self {
            Container::Kubernetes => format!("securityContext: {{{text}}}"),
            Container::Docker | Container::Podman => text,
            Container::Other => format!("start the container {text}"),
        })
    }
}

fn remedies(error: &UsernsError, container: Option<Container>) -> Vec<String> {
    let line = |text: &str| vec![text.to_owned()];
    match error {
        UsernsError::SwitchedOff => line("sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        UsernsError::LimitIsZero => line("sudo sysctl -w user.max_user_namespaces=15000"),
        UsernsError::AppArmor => {
            let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/rbuild".into());
            let program = program.display();
            vec![
                format!(
                    "echo 'abi <abi/4.0>, profile rbuild {program} flags=(unconfined) {{ userns, }}' | \
                     sudo tee /etc/apparmor.d/rbuild && sudo apparmor_parser -r /etc/apparmor.d/rbuild"
                ),
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned(),
            ]
        }
        UsernsError::Refused { .. }
        | UsernsError::NoPidNamespace { .. }
        | UsernsError::BareRoot
        | UsernsError::Mapping { .. } => {
            container.and_then(|container| container.let_steps_start(true)).into_iter().collect()
        }
    }
}

impl SingleIdReason {
    /// The reason without the line to type, which stands below it.
    fn facts(&self) -> String {
        match self {
            SingleIdReason::NoRange(lack) => lack.text(),
            SingleIdReason::NoTools | SingleIdReason::Broken(_) => self.to_string(),
        }
    }

    /// What to type, one way each.
    fn remedies(&self) -> Vec<String> {
        match self {
            SingleIdReason::NoTools => vec!["sudo apt-get install uidmap".into()],
            SingleIdReason::NoRange(lack) => lack.remedy().into_iter().collect(),
            SingleIdReason::Broken(_) => {
                vec!["sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap".into()]
            }
        }
    }
}

fn recorded_owners(privilege: Option<Privilege>) -> Finding {
    let state = if privilege == Some(Privilege::Single) { State::Blocked } else { State::Unused };
    if !seccomp::can_ask() {
        let detail = "the kernel has no seccomp notifications (Linux 5.9): one id is not enough";
        return Finding::new(RECORDED_OWNERS, state, detail);
    }
    match seccomp::try_to_listen() {
        Ok(()) => {
            Finding::new(RECORDED_OWNERS, State::Works, "seccomp passes calls on, for users with one id")
        }
        Err(error) => {
            let why = seccomp::why_nobody_listens(&error).map_or_else(|| error.to_string(), str::to_owned);
            let detail = format!("seccomp cannot pass calls on to rbuild: {why}; one id is not enough");
            Finding::new(RECORDED_OWNERS, state, detail)
        }
    }
}

fn sockets(privilege: Option<Privilege>) -> Finding {
    let name = "abstract sockets";
    if sys::landlock::has_scopes() {
        return Finding::new(
            name,
            State::Works,
            "those of this machine are closed off to steps on its network",
        );
    }
    let detail = "steps on this machine's network reach its abstract unix sockets: \
                  the kernel has no Landlock scopes (Linux 6.12)";
    let remedy = match privilege {
        Some(Privilege::Plain) => "start the container with a network of its own",
        None | Some(Privilege::Root | Privilege::Ranges | Privilege::Single) => "rbuild --network none …",
    };
    Finding::new(name, State::Limited, detail).with(vec![remedy.into()])
}

/// What `--network pasta` needs.
fn user_mode_network() -> Finding {
    let name = "network of its own";
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    match (find_in_path("pasta"), tun) {
        (None, _) => Finding::new(name, State::Unused, "`--network pasta` needs `pasta`")
            .with(vec!["sudo apt-get install passt".into()]),
        (Some(_), Err(error)) => {
            let detail = format!("`--network pasta` needs /dev/net/tun, which cannot be opened: {error}");
            Finding::new(name, State::Limited, detail).with(vec!["sudo chmod 666 /dev/net/tun".into()])
        }
        (Some(_), Ok(_)) => Finding::new(name, State::Works, "with `--network pasta`"),
    }
}

/// Programs of other architectures that the kernel can run.
fn emulators() -> Option<Finding> {
    let name = "other architectures";
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc");
    let mut known: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("qemu-").map(str::to_owned))
        .collect();
    known.sort();
    if known.is_empty() {
        let detail = "no emulator is registered with binfmt_misc; RUN of another --platform fails";
        return Some(
            Finding::new(name, State::Limited, detail)
                .with(vec!["sudo apt-get install qemu-user-static binfmt-support".into()]),
        );
    }
    Some(Finding::new(name, State::Works, known.join(", ")))
}

/// A step in an empty root, of a program that is not there: everything is made ready for it.
fn trial(directory: &Path) -> Spec {
    Spec {
        root: RootSource::Plain { dir: directory.to_owned() },
        args: vec!["/nothing".into()],
        env: Vec::new(),
        cwd: "/".into(),
        credentials: Credentials { uid: 0, gid: 0, groups: vec![0], home: "/".into() },
        hostname: "doctor".into(),
        network: Network::Host,
        security: Security::Sandbox,
        hidden: Vec::new(),
        mounts: Vec::new(),
        hosts: String::new(),
        resolv_conf: String::new(),
        shm_size_bytes: 0,
        ulimits: Vec::new(),
        owned_paths: Vec::new(),
        platform: Platform::host(),
        limits: None,
    }
}

/// The first mount below /proc.
pub(super) fn masked_below_proc() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below = points.filter_map(|point| point.strip_prefix("/proc/"));
    below.find(|rest| *rest != "sys/fs/binfmt_misc").map(|rest| format!("/proc/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_goes_all_at_once() {
        let both = |container: Container| container.open(true, true, false).unwrap();
        assert_eq!(both(Container::Podman), "--security-opt unmask=ALL --security-opt seccomp=unconfined");
        assert_eq!(
            both(Container::Docker),
            "--security-opt systempaths=unconfined --security-opt seccomp=unconfined"
        );
        assert_eq!(
            both(Container::Kubernetes),
            "securityContext: {procMount: Unmasked, seccompProfile: {type: Unconfined}}"
        );
        assert_eq!(
            both(Container::Other),
            "start the container with nothing mounted over parts of /proc and with its seccomp filter off"
        );
        // What was given already is not asked for again.
        let filter = Some("--security-opt seccomp=unconfined".to_owned());
        assert_eq!(Container::Podman.open(false, true, false), filter);
        assert_eq!(Container::Podman.open(false, false, false), None);
        let root = |container: Container| container.open(false, false, true).unwrap();
        assert_eq!(root(Container::Docker), "--user 1000");
        assert_eq!(root(Container::Kubernetes), "securityContext: {runAsUser: 1000}");
        assert_eq!(root(Container::Other), "start the container as another user than root");
    }
}
