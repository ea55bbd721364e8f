//! Programs that speak to an engine.

use std::io::Read as _;
use std::process::{Command, Output, Stdio};
use std::thread;

use super::Error;
use super::archive::{Archive, Failure};
use crate::http::Environment;

/// The longest text of a program's that is quoted.
const QUOTED: usize = 2000;

/// Whether a program of this name is in the path.
pub(super) fn find(name: &str, environment: &Environment) -> Result<(), Error> {
    let folders = environment.get("PATH").map(std::env::split_paths).into_iter().flatten();
    match folders.map(|folder| folder.join(name)).any(|path| path.is_file()) {
        true => Ok(()),
        false => {
            Err(Error::NoProgram { program: name.to_owned(), source: std::io::ErrorKind::NotFound.into() })
        }
    }
}

/// Runs it, and gives what it printed.
pub(super) fn run(command: &mut Command, engine: &str, what: &'static str) -> Result<String, Error> {
    let output = output(command)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(refused(engine, what, &output.stderr)),
    }
}

/// Runs it to its end, however it ends.
pub(super) fn output(command: &mut Command) -> Result<Output, Error> {
    command.stdin(Stdio::null()).output().map_err(|source| no_program(command, source))
}

/// Runs it with an archive as its input.
pub(super) fn feed(
    command: &mut Command,
    archive: &Archive<'_>,
    hear: &dyn Fn(u64, u64),
    (engine, what): (&str, &'static str),
) -> Result<(), Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| no_program(command, source))?;
    let (input, told) = (child.stdin.take(), child.stderr.take());
    // Somebody reads what it says meanwhile, or it would wait for that.
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut told) = told {
            let _ = told.read_to_end(&mut text);
        }
        text
    });
    let sent = input.map_or(Ok(()), |mut input| archive.write(&mut input, hear));
    if let Err(Failure::Store(error)) = sent {
        // It gets an archive without an end, and must not take that for one.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error.into());
    }
    let status = child.wait().map_err(|source| no_program(command, source))?;
    let told = reader.join().unwrap_or_default();
    match (status.success(), sent) {
        (true, Ok(()) | Err(Failure::Store(_))) => Ok(()),
        (true, Err(Failure::Sink(source))) => Err(Error::Broken {
            engine: "containerd",
            place: command.get_program().to_string_lossy().into_owned(),
            source,
        }),
        (false, _) => Err(refused(engine, what, &told)),
    }
}

/// What it said last is why.
fn refused(engine: &str, what: &'static str, told: &[u8]) -> Error {
    let told = String::from_utf8_lossy(told);
    let lines: Vec<&str> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.iter().rev().find(|line| line.to_ascii_lowercase().contains("error")).or(lines.last());
    let reason: String = line.copied().unwrap_or("it did not say why").chars().take(QUOTED).collect();
    let reason = reason.trim_start_matches("Error: ").trim_start_matches("ctr: ").to_owned();
    Error::Refused { engine: engine.to_owned(), what, reason }
}

fn no_program(command: &Command, source: std::io::Error) -> Error {
    Error::NoProgram { program: command.get_program().to_string_lossy().into_owned(), source }
}
