//! `rbuild man`: manual pages, made of what `--help` says.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::Failure;
use crate::cli::args::Cli;
use crate::cli::error::print;
use crate::report::Diagnostic;

/// Print a manual page, or write all of them into a folder
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild man build | man -l -     read that of `rbuild build`\n  rbuild man --dir /usr/local/share/man/man1"
)]
pub(crate) struct ManArgs {
    /// The command [default: rbuild itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Option<String>,

    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Does it.
pub(crate) fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut root = Cli::command();
    root.build();
    if let Some(folder) = &args.dir {
        let fail = |error: std::io::Error| {
            Failure::message(format!("cannot write to `{}`: {error}", folder.display()))
        };
        std::fs::create_dir_all(folder).map_err(fail)?;
        let all =
            std::iter::once(&root).chain(root.get_subcommands().filter(|command| !command.is_hide_set()));
        for command in all {
            let text = page(&root, command)?;
            std::fs::write(folder.join(format!("{}.1", name(&root, command))), text).map_err(fail)?;
        }
        return Ok(());
    }
    let Some(wanted) = &args.command else { return print(&page(&root, &root)?) };
    let found = root.get_subcommands().find(|command| command.get_name() == wanted && !command.is_hide_set());
    let unknown = || {
        Failure::usage(
            Diagnostic::error(format!("rbuild has no command `{wanted}`")).help("`rbuild --help` lists them"),
        )
    };
    print(&page(&root, found.ok_or_else(unknown)?)?)
}

/// `rbuild-build`
fn name(root: &clap::Command, command: &clap::Command) -> String {
    match root.get_name() == command.get_name() {
        true => root.get_name().to_owned(),
        false => format!("{}-{}", root.get_name(), command.get_name()),
    }
}

fn page(root: &clap::Command, command: &clap::Command) -> Result<String, Failure> {
    let title = name(root, command);
    let shown = command.clone().display_name(title.clone()).version(env!("CARGO_PKG_VERSION"));
    let mut page = Vec::new();
    let man =
        Man::new(shown).title(title).source(format!("rbuild {}", env!("CARGO_PKG_VERSION"))).manual("rbuild");
    man.render(&mut page).map_err(|error| Failure::message(format!("cannot make the page: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
