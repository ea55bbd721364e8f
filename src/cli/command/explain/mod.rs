//! `rbuild explain`

use clap::Args;

use crate::cli::Failure;
use crate::cli::error::print;
use crate::dockerfile::checks::{RULES, Rule};
use crate::report::Diagnostic;
use crate::text::closest;

/// Say what a build check means, and how to do better
///
/// Without a name, lists the checks. Messages have the name in parentheses.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A check, such as `WorkdirRelativePath`
    #[arg(value_name = "CHECK")]
    name: Option<String>,
}

/// Prints the page of the check, or a line for each.
pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
        let line = |rule: &&Rule| format!("{:width$}  {}\n", rule.name, rule.description);
        return print(&RULES.iter().map(line).collect::<String>());
    };
    match Rule::named(name) {
        Some(rule) => print(rule.text),
        None => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Failure {
    let diagnostic = Diagnostic::error(format!("there is no check `{name}`"));
    let near = closest(name, RULES.iter().map(|rule| rule.name));
    Failure::build(vec![match near {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help("`rbuild explain` lists them"),
    }])
}
