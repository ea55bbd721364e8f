//! `rbuild self`: rbuild's own place among other programs.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::options::request::variable;
use crate::report::Diagnostic;

/// Make rbuild a plugin of docker's, or take that back
#[derive(Debug, Args)]
pub(crate) struct SelfArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Link rbuild as a plugin of docker's command line
    ///
    /// As `buildx` it takes the place of Docker Buildx: `docker buildx build`, `docker buildx bake`, and with docker 23 or later
    /// `docker build`. As `rbuild` it is `docker rbuild`, beside a buildx that is there.
    InstallDockerPlugin(InstallArgs),
    /// Remove the links and the alias that install-docker-plugin made
    UninstallDockerPlugin,
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// What docker shall call it
    #[arg(long = "as", value_name = "NAME", value_enum, default_value = "buildx")]
    name: Name,

    /// Also make `docker build` and `docker builder` rbuild's, in docker's config.json
    #[arg(long)]
    alias: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// `docker buildx`
    Buildx,
    /// `docker rbuild`
    Rbuild,
}

impl Name {
    const ALL: [Self; 2] = [Self::Buildx, Self::Rbuild];

    /// What docker calls the plugin.
    fn word(self) -> &'static str {
        match self {
            Self::Buildx => "buildx",
            Self::Rbuild => "rbuild",
        }
    }
}

/// Docker's plugins are programs since 19.03, and `docker build` is buildx's since 23.
const OLDEST_WITH_PLUGINS: (u32, u32) = (19, 3);
const OLDEST_WITH_BUILDX: (u32, u32) = (23, 0);

/// Does it.
pub(crate) fn run(args: &SelfArgs) -> Result<(), Failure> {
    let folder = docker_folder()?;
    match &args.action {
        Action::InstallDockerPlugin(install) => self::install(&folder, install),
        Action::UninstallDockerPlugin => uninstall(&folder),
    }
}

/// Where docker's command line keeps what is the user's.
fn docker_folder() -> Result<PathBuf, Failure> {
    let home = || variable("HOME").map(|home| Path::new(&home).join(".docker"));
    variable("DOCKER_CONFIG").map(PathBuf::from).or_else(home).ok_or_else(|| {
        let error =
            Diagnostic::error("there is no folder of docker's: neither $DOCKER_CONFIG nor $HOME is set");
        Failure::usage(error.help("set $DOCKER_CONFIG"))
    })
}

fn install(folder: &Path, args: &InstallArgs) -> Result<(), Failure> {
    let version = docker_version();
    if let Some((version, text)) = version.as_ref().filter(|(version, _)| *version < OLDEST_WITH_PLUGINS) {
        let (major, minor) = version;
        let message = format!("docker {major}.{minor:02} knows no plugins ({text})");
        return Err(Failure::build(vec![Diagnostic::error(message).help("plugins came with docker 19.03")]));
    }
    let program =
        std::env::current_exe().map_err(|e| Failure::message(format!("cannot tell where rbuild is: {e}")))?;
    let name = args.name.word();
    let link = link_of(folder, args.name);
    let plugins = folder.join("cli-plugins");
    fs::create_dir_all(&plugins).map_err(|e| failed("make the folder", &plugins, &e))?;
    refuse_others(&link)?;
    // By rename, so that there is always one.
    let fresh = plugins.join(format!(".{name}.{}", std::process::id()));
    let made = symlink(&program, &fresh).and_then(|()| fs::rename(&fresh, &link));
    made.map_err(|e| {
        let _ = fs::remove_file(&fresh);
        failed("make the link", &link, &e)
    })?;
    let mut told = format!("{} leads to {}\n", link.display(), program.display());
    if args.alias {
        set_alias(folder, Some(name))?;
        told.push_str(&format!("`docker build` is `docker {name} build`\n"));
    } else if args.name == Name::Buildx && version.as_ref().is_some_and(|(v, _)| *v < OLDEST_WITH_BUILDX) {
        told.push_str(
            "`docker build` stays docker's own builder with this version of docker; `--alias` changes that\n",
        );
    }
    if version.is_none() {
        told.push_str("docker's command line is not in $PATH\n");
    }
    print(&told)
}

fn uninstall(folder: &Path) -> Result<(), Failure> {
    let mut told = String::new();
    for name in Name::ALL {
        let link = link_of(folder, name);
        if leads_to_rbuild(&link) {
            fs::remove_file(&link).map_err(|e| failed("remove", &link, &e))?;
            told.push_str(&format!("{} is removed\n", link.display()));
            if alias(folder)?.as_deref() == Some(name.word()) {
                set_alias(folder, None)?;
                told.push_str("`docker build` is docker's own again\n");
            }
        }
    }
    if told.is_empty() {
        told.push_str("no plugin of docker's leads to rbuild\n");
    }
    print(&told)
}

fn link_of(folder: &Path, name: Name) -> PathBuf {
    folder.join("cli-plugins").join(format!("docker-{}", name.word()))
}

/// Whether it is a link that this command made; it may lead to a rbuild that is gone.
fn leads_to_rbuild(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target.file_name().is_some_and(|name| name == "rbuild"))
        || fs::canonicalize(link).ok().zip(std::env::current_exe().ok()).is_some_and(|(to, own)| to == own)
}

/// What somebody else put there stays.
fn refuse_others(link: &Path) -> Result<(), Failure> {
    match link.symlink_metadata() {
        Ok(_) if !leads_to_rbuild(link) => {
            let error = Diagnostic::error(format!("`{}` is another plugin", link.display()));
            Err(Failure::build(vec![
                error.help("move it away, or use `--as rbuild --alias`, which leaves it there"),
            ]))
        }
        _ => Ok(()),
    }
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("config.json")
}

/// Docker's settings; none where there is no file.
fn settings(folder: &Path) -> Result<Map<String, Value>, Failure> {
    let file = config_file(folder);
    let text = match fs::read_to_string(&file) {
        Ok(text) if text.trim().is_empty() => return Ok(Map::new()),
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(failed("read", &file, &error)),
    };
    serde_json::from_str(&text).map_err(|error| {
        let error = Diagnostic::error(format!("`{}` is no object of JSON: {error}", file.display()));
        Failure::build(vec![error.help("mend it, or move it away")])
    })
}

/// What `docker builder` is.
fn alias(folder: &Path) -> Result<Option<String>, Failure> {
    Ok(settings(folder)?.get("aliases").and_then(|all| all["builder"].as_str()).map(str::to_owned))
}

fn set_alias(folder: &Path, name: Option<&str>) -> Result<(), Failure> {
    let mut settings = settings(folder)?;
    let aliases = settings.entry("aliases").or_insert_with(|| json!({}));
    if let Some(aliases) = aliases.as_object_mut() {
        match name {
            Some(name) => drop(aliases.insert("builder".to_owned(), json!(name))),
            None => drop(aliases.remove("builder")),
        }
    }
    if settings.get("aliases").is_some_and(|all| all.as_object().is_some_and(Map::is_empty)) {
        settings.remove("aliases");
    }
    write_settings(&config_file(folder), &settings)
}

/// Logins are in it, so nobody else reads it unless that was so before.
fn write_settings(file: &Path, settings: &Map<String, Value>) -> Result<(), Failure> {
    // A link stays one.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mode = fs::metadata(&file).map_or(0o600, |meta| meta.permissions().mode() & 0o7777);
    let fresh = file.with_extension(format!("json.{}", std::process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut out = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
        io::Write::write_all(&mut out, format!("{:#}\n", Value::Object(settings.clone())).as_bytes())?;
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&fresh, &file)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&fresh);
        failed("write", &file, &error)
    })
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let diagnostic = Diagnostic::error(format!("cannot {what} `{}`: {error}", path.display()));
    Failure::build(vec![diagnostic.help("$DOCKER_CONFIG names another folder")])
}

/// The version of docker's command line, and what it said.
fn docker_version() -> Option<((u32, u32), String)> {
    let asked =
        Command::new("docker").arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    let mut numbers = text.split("version ").nth(1)?.split('.').map(|part| part.parse::<u32>().ok());
    Some(((numbers.next()??, numbers.next()??), text))
}
