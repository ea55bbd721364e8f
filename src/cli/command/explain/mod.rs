//! `rbuild explain`: why a step ran, where a file comes from, what makes an image big; and what a build check means.

mod overview;
mod path;
mod step;
mod subject;

use clap::Args;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::dockerfile::checks::{RULES, Rule};
use crate::report::Diagnostic;
use crate::text::closest;
use crate::text::terminal::harmless;
use subject::Subject;

/// Say why a step ran, where a file comes from, why an image is large
///
/// Without a word: the last build. With a number: that step of it, why it ran, what would make it cached, what its layer has. With a path, which
/// begins with a slash: the instructions that brought, changed and removed what is there. With an image or a build: what is to be said
/// of that. The name of a build check, which messages have in parentheses: what it means.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A step's number, a path in the image, an image, a build, or a check
    #[arg(value_name = "STEP|PATH|IMAGE|BUILD|CHECK")]
    what: Option<String>,
    /// The image or build that the step or path is of [default: the last build]
    #[arg(value_name = "IMAGE|BUILD")]
    of: Option<String>,
    /// Compare with this build or image [default: the build of the same place before it]
    #[arg(long, value_name = "BUILD|IMAGE")]
    against: Option<String>,
    /// List all build checks
    #[arg(long, conflicts_with_all = ["what", "of", "against"])]
    checks: bool,
}

/// A number of more digits is the beginning of a build's id or an image's digest; one of so many, where there is no such step.
const DIGITS: usize = 4;

/// What a word asks for.
enum Asked<'a> {
    Step(usize),
    Path(&'a str),
    Whole,
}

/// Prints the answer.
pub(crate) fn run(global: &Global, args: &ExplainArgs) -> Result<(), Failure> {
    if args.checks {
        return print(&checks());
    }
    if let Some(rule) = args.what.as_deref().and_then(Rule::named) {
        return print(rule.text);
    }
    let (mut asked, of) = match (args.what.as_deref(), args.of.as_deref()) {
        (None, of) => (Asked::Whole, of),
        (Some(word), of) => match (read(word), of) {
            (Asked::Whole, Some(_)) => {
                let error = Diagnostic::error(format!("`{word}` is neither a step nor a path"));
                let help = "a step is a number, such as 4; a path begins with a slash, such as /usr/bin/env";
                return Err(Failure::usage(error.help(help)));
            }
            (Asked::Whole, None) => (Asked::Whole, Some(word)),
            (asked, of) => (asked, of),
        },
    };
    let found = match local::open_existing(global)? {
        Some(store) => {
            let find = |of: Option<&str>| Subject::find(&store, of, args.against.as_deref());
            let found = find(of);
            match (&asked, args.what.as_deref()) {
                (Asked::Step(number), Some(word))
                    if word.len() == DIGITS
                        && args.of.is_none()
                        && !found.as_ref().is_ok_and(|subject| subject.has_step(*number)) =>
                {
                    find(Some(word)).inspect(|_| asked = Asked::Whole).or(found)
                }
                _ => found,
            }
        }
        None => {
            let error = Diagnostic::error("nothing was built here");
            Err(Failure::build(vec![error.help("`rbuild explain --checks` lists the build checks")]))
        }
    };
    let subject = found.map_err(|failure| match args.what.as_deref() {
        Some(word) => may_be_a_check(word, failure),
        None => failure,
    })?;
    let text = match asked {
        Asked::Whole => overview::text(&subject),
        Asked::Step(number) => step::text(&subject, number)?,
        Asked::Path(path) => path::text(&subject, path)?,
    };
    print(&harmless(&text))
}

fn read(word: &str) -> Asked<'_> {
    match word.strip_prefix('#').unwrap_or(word).parse() {
        Ok(number) if word.len() <= DIGITS => Asked::Step(number),
        _ if word.starts_with('/') => Asked::Path(word),
        _ => Asked::Whole,
    }
}

fn checks() -> String {
    let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    RULES.iter().map(|rule| format!("{:width$}  {}\n", rule.name, rule.description)).collect()
}

/// A word that is nearly the name of a check was hardly meant as an image.
fn may_be_a_check(word: &str, failure: Failure) -> Failure {
    let near = closest(word, RULES.iter().map(|rule| rule.name));
    match near.filter(|_| word.starts_with(|c: char| c.is_uppercase())) {
        Some(near) => {
            let error = Diagnostic::error(format!("there is no check `{word}`"));
            Failure::build(vec![error.help(format!("did you mean `{near}`?"))])
        }
        None => failure,
    }
}
