//! `rbuild completions`, and the hidden command that answers a shell which asks what could be typed next.
//!
//! The scripts know nothing: they pass on the words of the line, and show what they get. So what completes is always what this
//! rbuild has, names of images, stages and sessions included.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, complete};

use crate::cli::Failure;
use crate::cli::args::{Cli, first_own_word, has_command};
use crate::cli::error::print;
use crate::dockerfile;
use crate::record::kept::{self, Kept};
use crate::report::Source;
use crate::solve::log::logged_builds;
use crate::solve::session::Sessions;
use crate::store::Store;

/// Print what makes a shell complete rbuild's words
///
/// Commands, options, values, files, and the names of images, stages and sessions complete.
#[derive(Debug, Args)]
#[command(after_help = "\
Put it where the shell finds it:
  bash     rbuild completions bash > ~/.local/share/bash-completion/completions/rbuild
  zsh      rbuild completions zsh > \"${fpath[1]}/_rbuild\"
  fish     rbuild completions fish > ~/.config/fish/completions/rbuild.fish
  nushell  rbuild completions nushell | save --append $nu.config-path")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Nushell,
}

/// The words of a line, and which of them is to be completed.
#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    #[arg(value_name = "INDEX")]
    index: usize,
    #[arg(value_name = "WORD", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

// A word ends for readline at `:` and `=`, which names of images and options have in them.
const BASH: &str = r#"_rbuild() {
    local line=${COMP_LINE:0:COMP_POINT} words cur begin
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[-1]}
    mapfile -t COMPREPLY < <(rbuild __complete "$((${#words[@]} - 1))" "${words[@]}" 2>/dev/null | cut -f 1)
    begin=${cur%"${cur##*[:=]}"}
    COMPREPLY=("${COMPREPLY[@]#"$begin"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/:] ]] && compopt -o nospace
    return 0
}
complete -o default -F _rbuild rbuild
"#;

const ZSH: &str = r#"#compdef rbuild
_rbuild() {
    local line value
    local -a shown
    for line in "${(@f)$(rbuild __complete $((CURRENT - 1)) "${(@)words[1,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        value=${line%%$'\t'*}
        shown+=("${value//:/\\:}:${line#*$'\t'}")
    done
    if (( $#shown )); then
        _describe rbuild shown
    else
        _files
    fi
}
if [[ $funcstack[1] == _rbuild ]]; then
    _rbuild "$@"
else
    compdef _rbuild rbuild
fi
"#;

const FISH: &str = r#"complete --command rbuild --arguments '(rbuild __complete (count (commandline -opc)) (commandline -opc) (commandline -ct) 2>/dev/null)'
"#;

const NUSHELL: &str = r#"$env.config.completions.external.enable = true
let before_rbuild = $env.config.completions.external.completer?
$env.config.completions.external.completer = {|spans|
    if $spans.0 == "rbuild" {
        ^rbuild __complete (($spans | length) - 1) ...$spans | lines | each {|line|
            let parts = $line | split row "\t"
            { value: $parts.0, description: ($parts.1? | default "") }
        }
    } else if $before_rbuild != null {
        do $before_rbuild $spans
    }
}
"#;

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    print(match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        Shell::Nushell => NUSHELL,
    })
}

/// Prints what the word could be, one a line, a tab before what it means. Whatever goes wrong, there is nothing to offer.
pub(crate) fn answer(args: &CompleteArgs) -> Result<(), Failure> {
    let (mut words, mut index) = (args.words.clone(), args.index);
    let lookup = Arc::new(Lookup::of(&words));
    let mut command = Cli::command();
    command.build();
    fill_in(&mut command, &lookup);
    let own = first_own_word(&words);
    let word = words.get(own).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    // A line without a command is that of a build.
    let is_command =
        has_command(&word) || own == index && !word.starts_with('-') || matches!(word.as_str(), "--root");
    if !is_command && own <= index {
        words.insert(own, "build".into());
        index += 1;
    }
    let here = std::env::current_dir().ok();
    let begun = words.get(index).cloned().unwrap_or_default();
    let mut found = complete(&mut command, words, index, here.as_deref()).unwrap_or_default();
    // Where nothing fits a word, everything is offered.
    found.retain(|candidate| candidate.get_value().as_encoded_bytes().starts_with(begun.as_encoded_bytes()));
    let line = |candidate: &CompletionCandidate| {
        let value = candidate.get_value().to_str()?;
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default().to_owned();
        (!value.contains(['\n', '\t'])).then(|| format!("{value}\t{help}\n"))
    };
    print(&found.iter().filter(|candidate| !candidate.is_hide_set()).filter_map(line).collect::<String>())
}

/// Which arguments of which commands are names of something.
fn fill_in(command: &mut clap::Command, lookup: &Arc<Lookup>) {
    type Names = fn(&Lookup) -> Vec<(String, String)>;
    let all: &[(&[&str], &str, Names)] = &[
        (
            &[
                "history",
                "tag",
                "inspect",
                "push",
                "save",
                "run",
                "rmi",
                "copy",
                "diff",
                "sbom",
                "sbom diff",
                "attest ls",
                "attest get",
                "attest verify",
                "attest sign",
            ],
            "",
            Lookup::images,
        ),
        (&["report"], "", Lookup::images_and_builds),
        (&["shell", "commit", "sessions rm"], "", Lookup::sessions),
        (&["logs"], "", Lookup::logs),
        (
            &["history inspect", "history logs", "history rm", "history export", "history trace"],
            "",
            Lookup::builds,
        ),
        (&["build", "plan", "lock", "shell"], "target", Lookup::stages),
        (&["build", "plan", "lock", "shell"], "no_cache_filter", Lookup::stages),
        (&["shell"], "at", Lookup::stages),
    ];
    for (paths, wanted, names) in all {
        for path in *paths {
            let lookup = Arc::clone(lookup);
            let candidates = ArgValueCandidates::new(move || {
                let candidate =
                    |(name, help): (String, String)| CompletionCandidate::new(name).help(Some(help.into()));
                names(&lookup).into_iter().map(candidate).collect()
            });
            let mut found = command.clone();
            std::mem::swap(&mut found, command);
            *command = at(found, path, wanted, &candidates);
        }
    }
}

/// The command with candidates for its argument of that id, or for its words.
fn at(command: clap::Command, path: &str, wanted: &str, candidates: &ArgValueCandidates) -> clap::Command {
    let (first, rest) = path.split_once(' ').unwrap_or((path, ""));
    command.mut_subcommand(first, |inner| match rest.is_empty() {
        false => at(inner, rest, wanted, candidates),
        true => inner.mut_args(|arg| {
            let is_meant = if wanted.is_empty() { arg.is_positional() } else { arg.get_id() == wanted };
            if is_meant { arg.add(candidates.clone()) } else { arg }
        }),
    })
}

/// Where names are looked up.
struct Lookup {
    root: Option<PathBuf>,
    dockerfile: PathBuf,
}

impl Lookup {
    /// As the line says: `--root DIR`, `-f FILE`.
    fn of(words: &[OsString]) -> Self {
        let after = |names: &[&str]| {
            let at = words.iter().position(|word| names.iter().any(|name| word == OsStr::new(name)))?;
            words.get(at + 1).map(PathBuf::from)
        };
        let global = crate::cli::args::Global {
            root: after(&["--root"]).or_else(|| std::env::var_os("RBUILD_ROOT").map(PathBuf::from)),
            ..Default::default()
        };
        Self {
            root: global.store_root(),
            dockerfile: after(&["-f", "--file"]).unwrap_or_else(|| "Dockerfile".into()),
        }
    }

    /// Only one that is there: to complete a word makes nothing.
    fn store(&self) -> Option<Store> {
        Store::open(self.root.as_deref().filter(|root| Path::new(root).is_dir())?).ok()
    }

    fn images(&self) -> Vec<(String, String)> {
        let tags = self.store().and_then(|store| store.tags().ok()).unwrap_or_default();
        tags.into_iter().map(|(name, target)| (name.to_string(), target.digest.short())).collect()
    }

    fn sessions(&self) -> Vec<(String, String)> {
        let sessions = self.store().map(|store| Sessions::of(&store).list()).unwrap_or_default();
        sessions.into_iter().map(|session| (session.title().to_owned(), session.what)).collect()
    }

    fn logs(&self) -> Vec<(String, String)> {
        let builds = self.store().map(|store| logged_builds(&store)).unwrap_or_default();
        builds.into_iter().map(|build| (build.id, build.what)).collect()
    }

    fn builds(&self) -> Vec<(String, String)> {
        let kept = self.store().map(|store| kept::list(&store)).unwrap_or_default();
        let title = |kept: &Kept| kept.read().map(|record| record.title()).unwrap_or_default();
        kept.iter().map(|kept| (kept.id.clone(), title(kept))).collect()
    }

    fn images_and_builds(&self) -> Vec<(String, String)> {
        let mut all = self.images();
        all.extend(self.builds());
        all
    }

    fn stages(&self) -> Vec<(String, String)> {
        let read = || {
            let text = std::fs::read_to_string(&self.dockerfile).ok()?;
            let source = Source { name: self.dockerfile.display().to_string(), text };
            dockerfile::parse(&Arc::new(source)).ok()
        };
        let stages = read().map(|file| file.stages).unwrap_or_default();
        let named = |stage: &dockerfile::syntax::Stage| {
            Some((stage.from.name.as_ref()?.text.clone(), format!("FROM {}", stage.from.image.text)))
        };
        stages.iter().filter_map(named).collect()
    }
}
