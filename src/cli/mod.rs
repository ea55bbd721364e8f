//! Arguments to requests, events and errors to text; one file per subcommand.
//!
//! What is printed is printed here. Beside it only exec touches a terminal, when it passes one on to a shell, and export,
//! which writes archives to standard output.

mod args;
mod call;
mod command;
mod docker_words;
#[cfg(test)]
mod documented;
mod error;
mod face;
mod interrupt;
mod kaniko;
mod local;
mod options;
mod show;
mod whole_file;

use std::process::ExitCode;

use face::Face;

pub use error::Failure;

/// Runs the command line of this process and gives its exit code: 0 done, 1 the build failed,
/// 2 wrong usage, 3 a budget is broken, 75 a registry or the network failed, 130 and 143 ended by Ctrl-C and SIGTERM, 255 a bug of
/// rbuild's own.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(error::report_panic));
    let words: Vec<_> = std::env::args_os().collect();
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => error::report(&failure),
    }
}

fn run(words: Vec<std::ffi::OsString>) -> Result<(), Failure> {
    if face::is_executor(&words) {
        return kaniko::run(words).map_err(as_others);
    }
    match face::plugin_of(&words) {
        None => run_as(Face::Own, words),
        Some(name) => face::run(name, &words, |words| run_as(Face::Docker, words)).map_err(as_others),
    }
}

/// docker and kaniko have one exit code for whatever fails.
fn as_others(failure: Failure) -> Failure {
    failure.or_status(1)
}

fn run_as(face: Face, words: Vec<std::ffi::OsString>) -> Result<(), Failure> {
    if let Some((word, help)) =
        args::unknown_word(&words).and_then(|word| Some((word, docker_words::command(word)?)))
    {
        return Err(Failure::dockers_command(word, help));
    }
    let meant = args::misspelt_command(&words);
    let mut cli = match args::parse(words) {
        Ok(cli) => cli,
        Err(shown) if shown.use_stderr() && meant.is_some() => return Err(Failure::no_such_command(meant)),
        Err(shown) => return error::usage(&shown),
    };
    if meant.is_some() {
        return Err(Failure::no_such_command(meant));
    }
    cli.global.face = face;
    match cli.command {
        args::Command::Build(build) => command::build::run(&cli.global, &build),
        args::Command::Bake(bake) => command::bake::run(&cli.global, &bake),
        args::Command::Lock(lock) => command::lock::run(&cli.global, &lock),
        args::Command::Sign(sign) => command::sign::sign(&sign),
        args::Command::VerifySignature(verify) => command::sign::verify(&verify),
        args::Command::Report(report) => command::report::run(&cli.global, &report),
        args::Command::Diff(diff) => command::diff::run(&cli.global, &diff),
        args::Command::Reproduce(reproduce) => command::reproduce::run(&cli.global, &reproduce),
        args::Command::CheckImage(check) => command::check_image::run(&cli.global, &check),
        args::Command::Plan(plan) => command::plan::run(&cli.global, &plan),
        args::Command::Images(images) => command::images::run(&cli.global, &images),
        args::Command::Sbom(sbom) => command::sbom::run(&cli.global, &sbom),
        args::Command::Attest(attest) => command::attest::run(&cli.global, &attest),
        args::Command::History(history) => command::history::run(&cli.global, &history),
        args::Command::Inspect(inspect) => command::inspect::run(&cli.global, &inspect),
        args::Command::Pull(pull) => command::pull::run(&cli.global, &pull),
        args::Command::Push(push) => command::push::run(&cli.global, &push),
        args::Command::Save(save) => command::save::run(&cli.global, &save),
        args::Command::Load(load) => command::load::run(&cli.global, &load),
        args::Command::Copy(copy) => command::copy::run(&cli.global, &copy),
        args::Command::Login(login) => command::login::login(&login),
        args::Command::Logout(logout) => command::login::logout(&logout),
        args::Command::Tag(tag) => command::tag::run(&cli.global, &tag),
        args::Command::Rmi(rmi) => command::rmi::run(&cli.global, &rmi),
        args::Command::Prune(prune) => command::prune::run(&cli.global, &prune),
        args::Command::Du(du) => command::du::run(&cli.global, &du),
        args::Command::Verify(verify) => command::verify::run(&cli.global, &verify),
        args::Command::Cache(cache) => command::cache::run(&cache),
        args::Command::Context(context) => command::context::run(&context),
        args::Command::Shell(shell) => command::shell::run(&cli.global, *shell),
        args::Command::Run(run) => command::run::run(&cli.global, *run),
        args::Command::Commit(commit) => command::commit::run(&cli.global, &commit),
        args::Command::Logs(logs) => command::logs::run(&cli.global, &logs),
        args::Command::Sessions(sessions) => command::sessions::run(&cli.global, &sessions),
        args::Command::Doctor(doctor) => command::doctor::run(&cli.global, &doctor),
        args::Command::Explain(explain) => command::explain::run(&cli.global, &explain),
        args::Command::Own(own) => command::own::run(&own),
        args::Command::Index(index) => command::index::run(&index),
        args::Command::Config(config) => command::config::run(&cli.global, &config),
        args::Command::Version(version) => command::version::run(&version),
        args::Command::Completions(completions) => command::completions::run(&completions),
        args::Command::Complete(complete) => command::completions::answer(&complete),
        args::Command::OnPod(pod) => command::on_pod::run(pod),
        args::Command::PodConnect(pod) => command::on_pod::pass_on(&pod),
        args::Command::OnWorker(worker) => command::on_worker::run(worker),
        args::Command::Man(man) => command::man::run(&man),
    }
}
