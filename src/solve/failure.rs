//! How a command failed, in words.

use std::path::{Path, PathBuf};

use super::full_disk::{self, binary};
use crate::exec::{ExecError, ExitReport, ExitStatus};
use crate::report::{Diagnostic, ResourceUsage};

/// `exit code: 2`, or what ended it, and which limit was in its way.
pub(super) fn ended(report: &ExitReport) -> String {
    match reached_limit(report) {
        Some(most) => {
            let ended = match report.status {
                ExitStatus::Signal(libc::SIGKILL) => format!("exit code: {}: killed", report.status.code()),
                ExitStatus::Signal(_) | ExitStatus::Code(_) => status(report),
            };
            format!("{ended}: the step reached its limit of {most} processes")
        }
        None => status(report),
    }
}

/// What the command used.
pub(super) fn usage(report: &ExitReport) -> ResourceUsage {
    let ExitReport { user_time, system_time, peak_memory_bytes, read_bytes, written_bytes, network, .. } =
        *report;
    ResourceUsage { user_time, system_time, peak_memory_bytes, read_bytes, written_bytes, network }
}

/// The limit of processes that was surely in the way of a command that failed.
fn reached_limit(report: &ExitReport) -> Option<u64> {
    let limit = report.process_limit.filter(|limit| limit.was_reached == Some(true))?;
    (report.status != ExitStatus::Code(0)).then_some(limit.most)
}

/// What programs print that could not start another one: the C library, busybox, dash, Java.
const NO_PROCESS: [&str; 4] =
    ["Resource temporarily unavailable", "can't fork", "Cannot fork", "unable to create native thread"];

/// What is to be done about the limit of processes, if that was in the way.
fn process_help(report: &ExitReport, output: Option<&str>) -> Option<String> {
    let limit = report.process_limit?;
    let way = "`--pids-limit N` sets another limit, `--pids-limit -1` none";
    let is_told = || output.is_some_and(|text| NO_PROCESS.iter().any(|words| text.contains(words)));
    match limit.was_reached {
        Some(true) => Some(way.to_owned()),
        None if is_told() => {
            Some(format!("perhaps the step reached its limit of {} processes; {way}", limit.most))
        }
        Some(false) | None => None,
    }
}

fn status(report: &ExitReport) -> String {
    let code = report.status.code();
    let signal = match report.status {
        ExitStatus::Signal(signal) => Some(signal),
        // A shell reports a signal that ended its command in this way.
        ExitStatus::Code(code) if report.out_of_memory && code == 128 + libc::SIGKILL => Some(libc::SIGKILL),
        ExitStatus::Code(_) => None,
    };
    match signal {
        None => format!("exit code: {code}"),
        Some(_) if report.out_of_memory => {
            let limit = report.memory_limit_bytes.map(|limit| format!(" (limit {})", binary(limit)));
            let (peak, limit) = (binary(report.peak_memory_bytes), limit.unwrap_or_default());
            format!("exit code: {code}: killed: out of memory, {peak}{limit}")
        }
        Some(signal) => format!("exit code: {code}: killed by {}", signal_name(signal)),
    }
}

/// Such as `SIGKILL`, and the number of one that has no name here.
fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 14] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL (an illegal instruction; was it built for another processor?)"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT (it gave up by itself)"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL (by somebody, or by the kernel for want of memory)"),
        (libc::SIGSEGV, "SIGSEGV (a crash)"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGXCPU, "SIGXCPU (the limit of processor time)"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    let name = NAMES.iter().find(|(number, _)| *number == signal);
    name.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// Why a command gave no layer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It did not succeed.
    #[error("process \"{command}\" did not complete successfully: {}", ended(report))]
    Failed {
        /// As the user wrote it.
        command: String,
        /// How it ended.
        report: Box<ExitReport>,
        /// Its last lines, if it printed any.
        output: Option<String>,
        /// Where all of its lines are, and how many, if `output` is not all.
        log: Option<(u64, PathBuf)>,
        /// Secrets that it may use, and that were not given.
        absent: Vec<String>,
    },
    /// It could not be started.
    #[error("{source}")]
    NotStarted {
        /// Why not.
        source: ExecError,
        /// Which platform it is for, if that is another than this machine's, and how it would be run.
        emulation: Option<String>,
    },
}

impl CommandError {
    /// Adds what is known, and ways to go on.
    pub(super) fn explain(&self, diagnostic: Diagnostic, store: &Path) -> Diagnostic {
        match self {
            Self::Failed { report, output, log, absent, .. } => {
                let diagnostic = explain_failed(diagnostic, report, output.as_deref(), log.as_ref(), store);
                absent.iter().map(|id| no_secret_help(id)).fold(diagnostic, Diagnostic::help)
            }
            Self::NotStarted { source, emulation } => {
                start_help(source, emulation.as_deref()).into_iter().fold(diagnostic, Diagnostic::help)
            }
        }
    }
}

/// What to say of an optional secret that a command may have missed.
fn no_secret_help(id: &str) -> String {
    format!("the secret `{id}` was not given: `--secret id={id},src=FILE` or `--secret id={id},env=NAME`")
}

fn explain_failed(
    mut diagnostic: Diagnostic,
    report: &ExitReport,
    output: Option<&str>,
    log: Option<&(u64, PathBuf)>,
    store: &Path,
) -> Diagnostic {
    if let Some(text) = output {
        diagnostic = diagnostic.note(match log {
            Some((lines, path)) => {
                format!("the end of its output; all {lines} lines are in {}:\n{text}", path.display())
            }
            None => format!("its last output:\n{text}"),
        });
    }
    if output.is_some_and(|text| text.contains(full_disk::NO_SPACE)) {
        diagnostic = full_disk::explain_command(diagnostic, store);
    }
    if let Some(help) = process_help(report, output) {
        diagnostic = diagnostic.help(help);
    }
    if report.status == ExitStatus::Code(127) {
        diagnostic = diagnostic
            .help("127 means that the shell did not find a command; is it installed in an earlier step?");
        if output.is_some_and(misses_a_path) {
            diagnostic = diagnostic.help(
                "a script that is there is not found, too, when the interpreter in its first line (`#!`) is not: \
                 perhaps the line ends in a carriage return, as on Windows, which counts",
            );
        }
    }
    if let (ExitStatus::Code(code @ 129..=192), false) = (report.status, report.out_of_memory) {
        let name = signal_name(code - 128);
        diagnostic = diagnostic.help(format!("{code} mostly means that a program was killed by {name}"));
    }
    diagnostic
}

/// Who finds out what the machine refuses, and why.
pub(super) const ASK_DOCTOR: &str = "`rbuild doctor` tries what this machine lets a RUN do, and prints what to type where something is in the way";

/// Whether a shell says of something that was named by its path that it is not there.
fn misses_a_path(output: &str) -> bool {
    let named = |line: &str| {
        let (before, _) =
            line.trim_end().rsplit_once(": not found").or_else(|| line.rsplit_once(": cannot execute"))?;
        before.rsplit(": ").next().map(|path| path.contains('/'))
    };
    output.lines().filter_map(named).any(|is_path| is_path)
}

fn start_help<'h>(error: &ExecError, emulation: Option<&'h str>) -> Option<&'h str> {
    match (error, emulation) {
        (ExecError::WrongFormat { .. } | ExecError::NotFound { .. }, Some(help)) => Some(help),
        (ExecError::WrongFormat { .. }, None) => Some("is the image for another platform than it says?"),
        (ExecError::NotFound { .. }, None) => Some(
            "the root file system of this stage does not have it, or not the interpreter in the first line of a \
                 script; a stage FROM scratch has no shell",
        ),
        (ExecError::Killed { signal: libc::SIGKILL, .. }, _) => Some(
            "more memory or swap helps, or fewer steps at once (`--jobs 1`), or a limit (`--memory`), which ends the step alone",
        ),
        _ if error.is_of_the_machine() => Some(ASK_DOCTOR),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: ExitStatus, out_of_memory: bool) -> ExitReport {
        let time = std::time::Duration::ZERO;
        ExitReport {
            status,
            user_time: time,
            system_time: time,
            peak_memory_bytes: 3_328_599_655,
            read_bytes: 0,
            written_bytes: 0,
            network: None,
            out_of_memory,
            special_owners: Vec::new(),
            put_back: Vec::new(),
            mapped: Vec::new(),
            unseen: false,
            memory_limit_bytes: None,
            process_limit: None,
        }
    }

    #[test]
    fn a_path_that_is_not_found_may_be_a_script() {
        let busybox = "/bin/sh: /s: not found";
        for told in [
            busybox,
            "/bin/sh: 1: ./run.sh: not found\r",
            "bash: line 1: /s: cannot execute: required file not found",
        ] {
            assert!(misses_a_path(told), "{told}");
        }
        for told in ["/bin/sh: 1: vim: not found", "/bin/sh: vim: not found", "done"] {
            assert!(!misses_a_path(told), "{told}");
        }
    }

    #[test]
    fn an_end_is_told_with_what_is_known_of_it() {
        let told = |status, memory| ended(&report(status, memory));
        assert_eq!(told(ExitStatus::Code(2), false), "exit code: 2");
        assert_eq!(told(ExitStatus::Code(137), false), "exit code: 137");
        assert_eq!(told(ExitStatus::Code(1), true), "exit code: 1");
        let memory = "exit code: 137: killed: out of memory, 3.1 GiB";
        assert_eq!(told(ExitStatus::Code(137), true), memory);
        assert_eq!(told(ExitStatus::Signal(9), true), memory);
        assert_eq!(told(ExitStatus::Signal(11), false), "exit code: 139: killed by SIGSEGV (a crash)");
        assert_eq!(told(ExitStatus::Signal(34), false), "exit code: 162: killed by signal 34");
    }
}
