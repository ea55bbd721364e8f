//! `rbuild sessions`

use clap::{Args, Subcommand};

use super::shell;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::sandbox::store_root;
use crate::cli::show::listing::table;
use crate::cli::show::progress::width_of_stdout;
use crate::pipeline::shell::sessions;
use crate::report::Diagnostic;
use crate::solve::session::{Kind, Session};
use crate::text::terminal::cut;

/// List what is kept to be entered: failed steps, shells, runs
///
/// Those without a name go after a week, or when there are ten newer ones.
#[derive(Debug, Args)]
#[command(after_help = "\
`rbuild shell ID` enters one, `rbuild commit ID NAME` makes an image of it, `rbuild sessions rm ID` removes it.")]
pub(crate) struct SessionsArgs {
    /// Print only the ids
    #[arg(short, long)]
    quiet: bool,

    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Remove sessions
    Rm {
        /// Their ids or names
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// Remove all of them
        #[arg(short, long, conflicts_with = "ids")]
        all: bool,
    },
}

/// Prints the table, or removes some.
pub(crate) fn run(global: &Global, args: &SessionsArgs) -> Result<(), Failure> {
    let (store, sessions) = sessions(&store_root(global)?).map_err(Failure::build)?;
    match &args.verb {
        None => print(&listing(&sessions.list(), args.quiet)),
        Some(Verb::Rm { ids, all }) => {
            let chosen: Vec<Session> = match all {
                true => sessions.list(),
                false => ids.iter().map(|id| shell::find(&sessions, id)).collect::<Result<_, _>>()?,
            };
            let mut busy = Vec::new();
            for session in &chosen {
                if !sessions.remove(session)? {
                    busy.push(Diagnostic::error(format!("somebody is in session {}", session.title())));
                }
            }
            crate::pipeline::empty_trash(&store);
            if busy.is_empty() { Ok(()) } else { Err(Failure::build(busy)) }
        }
    }
}

fn listing(sessions: &[Session], quiet: bool) -> String {
    if quiet {
        return sessions.iter().map(|session| format!("{}\n", session.id)).collect();
    }
    let head = ["ID", "NAME", "KIND", "WHEN", "ENDED", "WHERE"].map(str::to_owned).to_vec();
    let rows = sessions.iter().map(|session| {
        let kind = match session.kind {
            Kind::Failed => "failed",
            Kind::Shell => "shell",
            Kind::Run => "run",
        };
        vec![
            session.id.clone(),
            session.name.clone().unwrap_or_else(|| "-".to_owned()),
            kind.to_owned(),
            local::age(Some(&crate::oci::rfc3339(session.created))),
            session.ended.clone(),
            session.what.replace(['\n', '\t'], " "),
        ]
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    // At a terminal each stays on its line.
    match width_of_stdout() {
        Some(columns) => table(&rows).lines().map(|line| format!("{}\n", cut(line, columns))).collect(),
        None => table(&rows),
    }
}
