//! What `docker buildx` tells of builders: there is one, which needs no daemon, and whose name is whatever it is called by.

use std::io::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::options::request::variable;
use crate::cli::show::listing::Format;
use crate::exec::emulation_help;
use crate::oci::Platform;

/// The buildx whose options there are; docker's compose and GitHub's actions ask for it.
pub(in crate::cli) const BUILDX_VERSION: &str = "v0.36.1";
/// The BuildKit whose Dockerfiles and outputs there are.
pub(in crate::cli) const BUILDKIT_VERSION: &str = "v0.32.2";
/// What stands in the place of buildx's drivers.
const DRIVER: &str = "rbuild";

/// `buildx version`: programs read the first word that looks like a version.
pub(super) fn version() -> Result<(), Failure> {
    print(&format!("rbuild/buildx {BUILDX_VERSION} rbuild-{}\n", env!("CARGO_PKG_VERSION")))
}

/// `buildx inspect`
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// There is nothing to start
    #[arg(long, hide = true)]
    bootstrap: bool,
    /// Is passed by some for no reason
    #[arg(long, value_name = "DURATION", hide = true)]
    timeout: Option<String>,
}

/// Prints the builder in the form that programs parse.
pub(super) fn inspect(args: &InspectArgs, builder: Option<&str>) -> Result<(), Failure> {
    let name = args.name.clone().unwrap_or_else(|| current(builder));
    print(&format!(
        "Name:   {name}\nDriver: {DRIVER}\n\nNodes:\nName:             {name}\nEndpoint:         {DRIVER}\n\
         Status:           running\nBuildKit version: {BUILDKIT_VERSION}\nPlatforms:        {}\n",
        platforms().join(", ")
    ))
}

/// `buildx ls`
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// `table`, `json`, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[arg(long, hide = true)]
    no_trunc: bool,
    #[arg(long, value_name = "DURATION", hide = true)]
    timeout: Option<String>,
}

const COLUMNS: [(&str, &str); 5] = [
    ("NAME/NODE", "Name"),
    ("DRIVER/ENDPOINT", "DriverEndpoint"),
    ("STATUS", "Status"),
    ("BUILDKIT", "Buildkit"),
    ("PLATFORMS", "Platforms"),
];

/// Lists the builder, and below it its only node.
pub(super) fn ls(args: &LsArgs, builder: Option<&str>) -> Result<(), Failure> {
    let format = Format::parse(args.format.as_deref())?;
    let (name, platforms) = (current(builder), platforms());
    if args.format.as_deref() == Some("json") {
        let node = json!({
            "Name": name, "Endpoint": DRIVER, "Status": "running", "Version": BUILDKIT_VERSION, "Platforms": platforms,
        });
        let builder =
            json!({"Name": name, "Driver": DRIVER, "Nodes": [node], "Current": true, "Dynamic": false});
        return print(&format!("{builder}\n"));
    }
    let is_table = matches!(format, Format::Table);
    let (star, indent) = if is_table { ("*", " \\_ ") } else { ("", "") };
    let row = |name: String, driver: String, status: &str, version: &str, platforms: String| {
        json!({
            "Name": name, "DriverEndpoint": driver, "Status": status, "Buildkit": version, "Platforms": platforms,
            "LastActivity": "", "Error": "",
        })
    };
    let rows: [Value; 2] = [
        row(format!("{name}{star}"), DRIVER.to_owned(), "", "", String::new()),
        row(
            format!("{indent}{name}"),
            format!("{indent}{DRIVER}"),
            "running",
            BUILDKIT_VERSION,
            platforms.join(", "),
        ),
    ];
    print(&format.render(&COLUMNS, &rows)?)
}

/// `buildx create`
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[arg(value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[arg(long, value_name = "DRIVER", hide = true)]
    driver: Option<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    node: Option<String>,
    #[arg(long, value_name = "PLATFORM", hide = true)]
    platform: Vec<String>,
    #[arg(long, value_name = "OPTION", hide = true)]
    driver_opt: Vec<String>,
    #[arg(long, value_name = "FLAGS", hide = true, allow_hyphen_values = true)]
    buildkitd_flags: Option<String>,
    #[arg(long, alias = "config", value_name = "FILE", hide = true)]
    buildkitd_config: Option<String>,
    #[arg(long, value_name = "DURATION", hide = true)]
    timeout: Option<String>,
    #[arg(long, hide = true)]
    bootstrap: bool,
    #[arg(long, hide = true)]
    append: bool,
    #[arg(long, hide = true)]
    leave: bool,
    #[arg(long = "use", hide = true)]
    uses: bool,
}

/// Prints the name, as buildx does, and says that it stands for what is there.
pub(super) fn create(args: &CreateArgs) -> Result<(), Failure> {
    let name = args.name.as_deref().unwrap_or("default");
    let driver =
        args.driver.as_deref().map_or(String::new(), |driver| format!(" with the driver `{driver}`"));
    note(&format!("no builder{driver} is made: rbuild itself builds, whatever the builder is called"));
    print(&format!("{name}\n"))
}

/// `buildx use`, `rm` and `stop`
#[derive(Debug, Args)]
pub(super) struct NamesArgs {
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[arg(long, hide = true)]
    global: bool,
    #[arg(long, hide = true)]
    default: bool,
    #[arg(long, hide = true)]
    keep_state: bool,
    #[arg(long, hide = true)]
    keep_daemon: bool,
    #[arg(long, hide = true)]
    all_inactive: bool,
    #[arg(short, long, hide = true)]
    force: bool,
    #[arg(long, value_name = "DURATION", hide = true)]
    timeout: Option<String>,
}

/// Says that there is nothing to do.
pub(super) fn no_builders(what: &str, args: &NamesArgs) -> Result<(), Failure> {
    let names = args.names.join(", ");
    let names = if names.is_empty() { String::new() } else { format!(" `{names}`") };
    note(&format!(
        "`{what}`{names} changes nothing: rbuild itself builds, and nothing of it runs between builds"
    ));
    Ok(())
}

/// How the builder is called: whatever was asked for is this one.
fn current(builder: Option<&str>) -> String {
    let named = builder.map(str::to_owned).or_else(|| variable("BUILDX_BUILDER"));
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
}

/// What commands can be run for: this machine, and whatever an emulator is registered for.
fn platforms() -> Vec<String> {
    const OTHERS: [&str; 9] = [
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
        "linux/386",
        "linux/ppc64le",
        "linux/s390x",
        "linux/riscv64",
        "linux/loong64",
        "linux/mips64le",
    ];
    let host = Platform::host();
    let others = OTHERS.iter().filter_map(|text| text.parse::<Platform>().ok());
    let usable = others.filter(|platform| *platform != host && emulation_help(platform).is_none());
    std::iter::once(host.clone()).chain(usable).map(|platform| platform.to_string()).collect()
}

fn note(text: &str) {
    let _ = std::io::stderr().write_all(format!("note: {text}\n").as_bytes());
}
