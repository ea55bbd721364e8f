//! rbuild's side: starts steps, passes on their output, stops them.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::attach::{self, Attach};
use super::cgroup::{Cgroup, Limits};
use super::doctor;
use super::memory::MemoryMount;
use super::output::{Output, Printed};
use super::pids::{Bound, Hold};
use super::program::{Program, Protected};
use super::userns::{SingleIdReason, Userns, UsernsError, find_in_path};
use super::worker::Worker;
use crate::exec::failure::{ExecError, Failure};
use crate::exec::owners::numbers;
use crate::exec::plain;
use crate::exec::privilege::Privilege;
use crate::exec::spec::{ExitReport, ExitStatus, Network, ProcessLimit, Security, Spec};
use crate::exec::step::{caps, image};
use crate::exec::wire::channel;
use crate::exec::wire::messages::{self, InitConfig, Outcome, RunRequest, Stdin};
use crate::exec::wire::zygote::Zygote;
use crate::report::Stream;
use crate::sync::lock;

/// How an [`Executor`] works.
#[derive(Debug, Clone)]
pub struct Config {
    /// The program that is started again for each step: rbuild itself. It must ask
    /// [`crate::exec::role_from_args`] first thing.
    pub program: PathBuf,
    /// What each step may use.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), limits: Limits::default() }
    }
}

/// Runs steps and jobs. Shared by threads; costs nothing until the first one runs.
#[derive(Debug)]
pub struct Executor {
    program: Program,
    limits: Limits,
    rootless: OnceLock<bool>,
    shares_proc: OnceLock<bool>,
    standing: OnceLock<Result<Standing, UsernsError>>,
    /// What became of a step that was only tried: why it could not start.
    pub(super) tried: OnceLock<Option<String>>,
    /// Started with the first step.
    zygote: Mutex<Option<Arc<Zygote>>>,
    /// Started with the first job.
    worker: Mutex<Option<Arc<Worker>>>,
    /// So many file systems in memory are mounted for steps.
    pub(super) memory_mounts: Arc<AtomicUsize>,
    /// So many steps are surely to come.
    expected: AtomicUsize,
    stop: Stop,
    next: AtomicU64,
    out_of_memory_events: AtomicU64,
}

/// Ends the running steps of an executor, from any thread. Cheap to clone; an executor that is made later minds it, too.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<Steps>>);

impl Stop {
    /// Ends all running steps, politely and then by force within two seconds, and refuses new ones. Does not
    /// wait.
    pub fn all(&self) {
        self.end(true);
    }

    /// Whether somebody wanted the end; after a failure steps are ended as well.
    pub fn is_wanted(&self) -> bool {
        self.steps().is_wanted
    }

    fn end(&self, is_wanted: bool) {
        let mut steps = self.steps();
        steps.cancelled = true;
        steps.is_wanted |= is_wanted;
        for socket in steps.running.values_mut() {
            let _ = socket.write_all(b"T");
        }
    }

    /// Lets commands run again after [`Stop::all`], when those that were to be ended are gone.
    pub fn resume(&self) {
        let mut steps = self.steps();
        (steps.cancelled, steps.is_wanted) = (false, false);
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        // The map is consistent after every statement.
        lock(&self.0)
    }
}

/// The running steps' sockets, by number.
#[derive(Debug, Default)]
struct Steps {
    running: HashMap<u64, UnixStream>,
    cancelled: bool,
    /// Whether somebody outside wants the end, not a failure.
    is_wanted: bool,
}

/// A step that was started.
struct Begun {
    socket: UnixStream,
    number: u64,
    /// How much memory it may use.
    memory_bytes: Option<u64>,
    /// Gone with this value.
    hold: Hold,
}

impl Executor {
    /// Does nothing yet.
    pub fn new(config: Config) -> Self {
        Self::stopped_by(config, Stop::default())
    }

    /// Does nothing yet. `stop` ends its steps.
    pub fn stopped_by(config: Config, stop: Stop) -> Self {
        Self {
            program: Program(config.program),
            limits: config.limits,
            rootless: OnceLock::new(),
            shares_proc: OnceLock::new(),
            standing: OnceLock::new(),
            tried: OnceLock::new(),
            zygote: Mutex::default(),
            worker: Mutex::default(),
            memory_mounts: Arc::default(),
            expected: AtomicUsize::new(0),
            stop,
            next: AtomicU64::new(0),
            out_of_memory_events: AtomicU64::new(out_of_memory_events()),
        }
    }

    /// Whether steps run in a user namespace, because rbuild is not root (or root without CAP_SYS_ADMIN where namespaces
    /// can be had).
    pub fn is_rootless(&self) -> bool {
        *self.rootless.get_or_init(|| {
            // Only for root of a container is there anything to try.
            let is_plain = || plain::has_rights() && matches!(self.standing(), Ok(Standing::Plain(_)));
            !caps::is_privileged() && !is_plain()
        })
    }

    /// Whether steps in a user namespace find this machine's `/proc`, because parts of it are covered and the kernel then allows
    /// no other. With a single id what answers for owners must be able to find threads in it (Linux 6.9).
    pub(super) fn shares_proc(&self) -> bool {
        *self.shares_proc.get_or_init(|| {
            let privilege = self.privilege().ok().filter(|privilege| privilege.has_user_namespace());
            privilege.is_some_and(|privilege| privilege.has_other_ids() || numbers::can_be_translated())
                && doctor::masked_below_proc().is_some()
        })
    }

    /// What is to be said of the `/proc` that steps find, if it is not theirs alone.
    pub fn note_on_proc(&self) -> Option<String> {
        let path = doctor::masked_below_proc().filter(|_| self.shares_proc())?;
        Some(format!(
            "something is mounted on {path}, so RUN has this machine's /proc: it lists all processes, and a step's own by other \
             numbers than it knows (/proc/self is right, /proc/$$ is not)"
        ))
    }

    /// Who steps run as. Makes the user namespace, if there is to be one.
    pub fn privilege(&self) -> Result<Privilege, ExecError> {
        Ok(match self.standing()? {
            Standing::Root => Privilege::Root,
            Standing::InNamespace(userns) => userns.privilege,
            Standing::Plain(_) => Privilege::Plain,
        })
    }

    /// Why the user namespace has one id only, for [`Privilege::Single`]. Makes the namespace.
    pub fn why_single(&self) -> Result<Option<&SingleIdReason>, ExecError> {
        Ok(self.userns()?.and_then(|userns| userns.why_single.as_ref()))
    }

    /// Says that so many more steps will be run, probably: what the next one needs is made ready while one runs.
    pub fn expect(&self, steps: usize) {
        self.expected.fetch_add(steps, Ordering::Relaxed);
    }

    /// One of the steps that were expected begins, or need not be run.
    pub fn expect_one_less(&self) {
        let less = |expected: usize| expected.checked_sub(1);
        let _ = self.expected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Runs one step and returns how its command ended; each line of its output goes to `on_line`, without
    /// its newline, in the order read. When this returns, the step's processes and mounts are gone.
    pub fn run(
        &self,
        spec: &Spec,
        mut on_line: impl FnMut(Stream, Printed<'_>),
    ) -> Result<ExitReport, ExecError> {
        let (stdout, stdout_writer) = io::pipe().map_err(ExecError::Spawn)?;
        let (stderr, stderr_writer) = io::pipe().map_err(ExecError::Spawn)?;
        let files = vec![stdout_writer.into(), stderr_writer.into()];
        let step = self.begin(spec, Stdin::Nothing, files)?;
        let answer = Output::new(stdout, stderr).follow(&step.socket, &mut on_line);
        self.end(spec, step, answer)
    }

    /// Runs one command for somebody who sees its output on rbuild's own standard output, unchanged, and may type to
    /// it. When this returns, its processes and mounts are gone. Nothing else should use rbuild's terminal meanwhile.
    pub fn attach(&self, spec: &Spec, attach: Attach) -> Result<ExitReport, ExecError> {
        let attach::Ends { stdin, files, relay } = attach::Ends::open(attach).map_err(ExecError::Spawn)?;
        let step = self.begin(spec, stdin, files)?;
        let answer = relay.follow(&step.socket);
        self.end(spec, step, answer)
    }

    /// Starts the processes around a step, or takes those that are ready. `files` go with the request.
    fn begin(&self, spec: &Spec, stdin: Stdin, files: Vec<OwnedFd>) -> Result<Begun, ExecError> {
        let privilege = self.privilege()?;
        let limits = spec.limits.as_ref().unwrap_or(&self.limits);
        if privilege == Privilege::Plain {
            self.refuse(spec.network, spec.security)?;
            if limits.wants_group() {
                plain::refuse_limits()?;
            }
            plain::refuse_mounts(spec)?;
        }
        let shares_proc = self.shares_proc();
        if shares_proc && spec.security == Security::Insecure {
            return Err(ExecError::NotHere {
                what: "more rights (`--security=insecure`) among processes of others, which /proc shows".to_owned(),
                help: "start the container without masks over /proc, as docker's `--security-opt systempaths=unconfined` does"
                    .to_owned(),
            });
        }
        let hold = Hold::prepare(limits, privilege, shares_proc)?;
        let config = init_config(spec, privilege, &hold, shares_proc)?;
        let images = image::mounted_in(spec);
        let opened: Vec<OwnedFd> =
            images.iter().map(|path| image::reopen(path)).collect::<io::Result<_>>()?;
        let request = serde_json::to_vec(&RunRequest { spec: spec.clone(), stdin, images })?;
        let zygote = self.zygote()?;
        let sees_memory = self.memory_mounts.load(Ordering::Relaxed) > 0;
        let socket = match &hold.group {
            Some(group) => zygote.held_init(&config, |init| group.add(init).map_err(ExecError::from))?,
            None if sees_memory => zygote.fresh_init(&config).map_err(ExecError::Spawn)?,
            None => zygote.init(&config).map_err(ExecError::Spawn)?,
        };
        // A failure to send shows below, as an init without a report.
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let _ = channel::send_with(&socket, &request, &borrowed);
        for some in opened.chunks(channel::MOST_FILES) {
            let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            let _ = channel::send_with(&socket, &[], &some);
        }
        drop((files, opened));
        let number = self.register(&socket).map_err(ExecError::Spawn)?;
        let is_one_like_another = !config.is_held && !sees_memory;
        // Where processes are counted by their users, those of a prewarmed init would count.
        let is_counted = matches!(config.bound, Bound::Users { .. });
        // Without namespaces nothing can be made ready.
        let is_plain = privilege == Privilege::Plain;
        if self.expected.load(Ordering::Relaxed) > 0 && is_one_like_another && !is_counted && !is_plain {
            zygote.prewarm(&config);
        }
        Ok(Begun { socket, number, memory_bytes: limits.memory_bytes, hold })
    }

    pub(super) fn zygote(&self) -> Result<Arc<Zygote>, ExecError> {
        let userns = self.userns()?;
        let mut zygote = lock(&self.zygote);
        if let Some(zygote) = &*zygote {
            return Ok(Arc::clone(zygote));
        }
        let privilege = self.privilege()?;
        let mounted = userns.and_then(Userns::take_program);
        let started = Protected::of(&self.program, mounted)
            .and_then(|program| Zygote::start(program, privilege, userns.map(|userns| userns.file.as_fd())));
        Ok(Arc::clone(zygote.insert(Arc::new(started.map_err(ExecError::Spawn)?))))
    }

    /// Waits for them to be gone; `answer` is the outcome.
    fn end(
        &self,
        spec: &Spec,
        Begun { socket, number, memory_bytes, hold }: Begun,
        answer: io::Result<Option<Vec<u8>>>,
    ) -> Result<ExitReport, ExecError> {
        drop(socket);
        if self.unregister(number) {
            return Err(ExecError::Cancelled);
        }
        let Some(answer) = answer.map_err(ExecError::Spawn)? else { return Err(ExecError::Vanished) };
        match messages::decode(&answer)? {
            Outcome::Exited(report) => {
                let group = hold.group.as_ref().zip(memory_bytes);
                Ok(with_process_limit(self.with_memory_events(report, group), &hold))
            }
            Outcome::Failed(Failure::Killed { signal }) => {
                let limited = hold.group.as_ref().is_some_and(|group| group.memory().kills > 0);
                let out_of_memory = signal == libc::SIGKILL && (limited || self.memory_ran_out());
                Err(ExecError::Killed { signal, out_of_memory })
            }
            Outcome::Failed(failure) => Err(ExecError::new(failure, spec)),
        }
    }

    /// Runs a job as root of the user namespace (or simply as root), in another process.
    pub fn run_job(&self, job: &str, input: &[u8]) -> Result<Vec<u8>, ExecError> {
        self.run_job_in(None, job, input)
    }

    /// Runs a job as root of the user namespace, among the mounts of steps: it sees what they see at the place where `memory` is mounted.
    pub fn run_job_among(&self, memory: &MemoryMount, job: &str, input: &[u8]) -> Result<Vec<u8>, ExecError> {
        self.run_job_in(Some(memory.namespace()), job, input)
    }

    fn run_job_in(
        &self,
        mounts: Option<BorrowedFd<'_>>,
        job: &str,
        input: &[u8],
    ) -> Result<Vec<u8>, ExecError> {
        let worker = self.worker(self.userns()?)?;
        let answer = worker.run(job, input, mounts).map_err(ExecError::Spawn)?;
        let Some(answer) = answer else {
            // The next job gets another.
            let mut current = lock(&self.worker);
            current.take_if(|current| Arc::ptr_eq(current, &worker));
            return Err(ExecError::WorkerVanished);
        };
        answer.map_err(ExecError::Job)
    }

    fn worker(&self, userns: Option<&Userns>) -> Result<Arc<Worker>, ExecError> {
        let mut worker = lock(&self.worker);
        if let Some(worker) = &*worker {
            return Ok(Arc::clone(worker));
        }
        let privilege = self.privilege()?;
        let started = Worker::start(&self.program, privilege, userns.map(|userns| userns.file.as_fd()));
        Ok(Arc::clone(worker.insert(Arc::new(started.map_err(ExecError::Spawn)?))))
    }

    /// Ends all running steps, politely and then by force within two seconds, and refuses new ones. Does not
    /// wait: each [`Self::run`] returns [`ExecError::Cancelled`] when its step is gone.
    pub fn cancel_all(&self) {
        self.stop.end(false);
    }

    /// Lets commands run again after [`Self::cancel_all`], unless a [`Stop`] wants the end; whether they may.
    pub fn resume(&self) -> bool {
        let mut steps = self.stop.steps();
        steps.cancelled = steps.is_wanted;
        !steps.cancelled
    }

    /// Whether [`Self::cancel_all`], or a [`Stop`], told this executor to run nothing more.
    pub fn is_cancelled(&self) -> bool {
        self.stop.steps().cancelled
    }

    /// Why there is no user namespace, if one was wanted.
    pub(super) fn userns_error(&self) -> Option<&UsernsError> {
        match self.standing.get()? {
            Ok(Standing::Plain(why)) => Some(why),
            Ok(Standing::Root | Standing::InNamespace(_)) => None,
            Err(error) => Some(error),
        }
    }

    /// Refuses what a step cannot have here, before anything is made ready for it.
    pub fn refuse(&self, network: Network, security: Security) -> Result<(), ExecError> {
        match self.privilege()? {
            Privilege::Plain => {
                plain::refuse_surroundings(network, security)?;
                if self.limits.wants_group() { plain::refuse_limits() } else { Ok(()) }
            }
            Privilege::Root | Privilege::Ranges | Privilege::Single => Ok(()),
        }
    }

    fn userns(&self) -> Result<Option<&Userns>, ExecError> {
        Ok(match self.standing()? {
            Standing::InNamespace(userns) => Some(userns),
            Standing::Root | Standing::Plain(_) => None,
        })
    }

    fn standing(&self) -> Result<&Standing, ExecError> {
        let found = self.standing.get_or_init(|| Standing::find(&self.program));
        found.as_ref().map_err(|error| error.clone().into())
    }

    fn register(&self, socket: &UnixStream) -> io::Result<u64> {
        let mut socket = socket.try_clone()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut steps = self.stop.steps();
        if steps.cancelled {
            let _ = socket.write_all(b"T");
        }
        steps.running.insert(number, socket);
        Ok(number)
    }

    /// Tells whether steps were cancelled meanwhile.
    fn unregister(&self, number: u64) -> bool {
        let mut steps = self.stop.steps();
        steps.running.remove(&number);
        steps.cancelled
    }

    /// The kernel counts what it killed for want of memory; a killed step after a new event was one.
    fn with_memory_events(&self, mut report: ExitReport, group: Option<(&Cgroup, u64)>) -> ExitReport {
        let used = group.map(|(group, limit)| (group.memory(), limit));
        if let Some((used, limit)) = used.filter(|(used, _)| used.kills > 0) {
            report.out_of_memory = true;
            report.peak_memory_bytes = used.peak_bytes.max(report.peak_memory_bytes);
            report.memory_limit_bytes = Some(limit);
            return report;
        }
        if matches!(report.status, ExitStatus::Signal(libc::SIGKILL) | ExitStatus::Code(137)) {
            report.out_of_memory = self.memory_ran_out();
        }
        report
    }

    /// Whether the kernel has killed something for want of memory since this was asked last.
    fn memory_ran_out(&self) -> bool {
        let now = out_of_memory_events();
        self.out_of_memory_events.swap(now, Ordering::Relaxed) < now
    }
}

/// What steps stand on.
#[derive(Debug)]
enum Standing {
    Root,
    InNamespace(Userns),
    /// Why there is no user namespace.
    Plain(UsernsError),
}

impl Standing {
    fn find(program: &Program) -> Result<Self, UsernsError> {
        if caps::is_privileged() {
            return Ok(Self::Root);
        }
        match Userns::create(program) {
            Err(error) if plain::has_rights() => {
                // Steps are among the same processes, as the same user. A kernel that cannot is no reason to fail.
                let _ = plain::hide_memory();
                Ok(Self::Plain(error))
            }
            made => made.map(Self::InNamespace),
        }
    }
}

/// What the processes around `spec` need to know of it beforehand.
fn init_config(
    spec: &Spec,
    privilege: Privilege,
    hold: &Hold,
    shares_proc: bool,
) -> Result<InitConfig, ExecError> {
    let pasta = match spec.network {
        Network::Pasta => Some(find_in_path("pasta").ok_or(ExecError::NoPasta)?),
        Network::Host | Network::None => None,
    };
    Ok(InitConfig {
        privilege,
        network: spec.network,
        security: spec.security,
        shm_size_bytes: spec.shm_size_bytes,
        bound: hold.bound,
        pasta,
        shares_proc,
        is_held: hold.group.is_some(),
    })
}

fn with_process_limit(report: ExitReport, hold: &Hold) -> ExitReport {
    let refused = || hold.group.as_ref().is_some_and(Cgroup::refused_a_process);
    // The init only knows of what it was refused itself.
    let seen = report.process_limit.and_then(|limit| limit.was_reached);
    let limit = |most| ProcessLimit { most, was_reached: seen.or_else(|| hold.is_told.then(refused)) };
    ExitReport { process_limit: hold.most.map(limit), ..report }
}

fn out_of_memory_events() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|n| n.trim().parse().ok())
        .unwrap_or(0)
}
