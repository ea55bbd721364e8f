//! `rbuild commit`

use clap::Args;

use super::shell;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::options::request::{all, tag};
use crate::cli::options::sandbox::store_root;
use crate::exec::Stop;
use crate::pipeline::commit::{self, Commit};
use crate::pipeline::shell::{Shell, ShellOptions, sessions};
use crate::report::Diagnostic;

/// Make an image of what was done in a shell, a run, or a failed step
///
/// The image has the layers that the session stands on, and one more with what was changed. Its configuration is that of the
/// image, or of the stage before the step; what was given to `rbuild run` or `rbuild shell`, such as -e or a command, is
/// not in it. The session stays.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild commit [OPTIONS] ID [NAME[:TAG]]\n       rbuild commit [OPTIONS] --from-shell [NAME[:TAG]]",
    after_help = "\
Examples:
  rbuild commit 4f2a1b app:fixed
  rbuild commit --from-shell app:fixed
                                  what was kept last
  rbuild commit -m 'add strace' -c 'CMD [\"strace\", \"app\"]' -c 'ENV DEBUG=1' fixed app:debug

It prints the image's digest."
)]
pub(crate) struct CommitArgs {
    /// What was kept, by its id or name; then the name of the image
    #[arg(value_name = "ID", num_args = 0..=2)]
    words: Vec<String>,

    /// Take what was kept last; no ID then
    #[arg(long)]
    from_shell: bool,

    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Who, for the history and the configuration
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,

    /// Change the configuration by an instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, USER, VOLUME or
    /// WORKDIR; may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
}

/// Makes the image and prints its digest.
pub(crate) fn run(global: &Global, args: &CommitArgs) -> Result<(), Failure> {
    let (store, sessions) = sessions(&store_root(global)?).map_err(Failure::build)?;
    let (session, name) = match (args.from_shell, args.words.as_slice()) {
        (true, [] | [_]) => {
            let newest = sessions.list().into_iter().next();
            let none = || {
                Diagnostic::error("nothing is kept")
                    .help("`rbuild shell` and `rbuild run --keep` keep something")
            };
            (newest.ok_or_else(|| Failure::build(vec![none()]))?, args.words.first())
        }
        (false, [id, rest @ ..]) => (shell::find(&sessions, id)?, rest.first()),
        (true, _) => {
            return Err(Failure::usage(Diagnostic::error("--from-shell takes no ID beside the name")));
        }
        (false, []) => {
            let error = Diagnostic::error("which session? Its id is missing");
            return Err(Failure::usage(
                error.help("`rbuild sessions` lists them; --from-shell is the last one"),
            ));
        }
    };
    let names: Vec<String> = name.into_iter().cloned().collect();
    let wanted = Commit {
        names: all(&names, "NAME", tag)?,
        message: args.message.clone(),
        author: args.author.clone(),
        changes: args.change.clone(),
    };
    let opened =
        Shell::kept(&store, session, &ShellOptions::default(), &Stop::default()).map_err(Failure::build)?;
    let digest = commit::commit(&store, &opened, &wanted).map_err(Failure::build)?;
    print(&format!("{digest}\n"))
}
