//! Has the linker leave out of the released program what it never reads. Nothing else is done here.
//!
//! Cargo has no setting for either of these, and flags for the compiler (RUSTFLAGS) would hold for tests, too:
//!
//! - Tables for unwinding (`.eh_frame`, `.gcc_except_table`). A panic of the released program ends it without
//!   unwinding, so that they only serve backtraces, and those of a program without symbols are numbers.
//! - All but one of functions whose code came out alike. Nothing compares addresses of functions.
//!
//! Each is asked for only if the linker can make a trial program that way (rust-lld can both, GNU ld the first);
//! else the program is larger, and the same.
//!
//! A profile with debug information keeps everything, for debuggers and profilers.

#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]
#![allow(clippy::disallowed_methods, reason = "paths are cargo's")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

/// Beside the linker's own script, not in its place (`INSERT`).
const WITHOUT_TABLES: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.gcc_except_table*) } } INSERT AFTER .comment;\n";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    tell_version();
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // Others know neither these sections nor these options.
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("PROFILE", "release") || !is("DEBUG", "false") {
        return Ok(());
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let script = folder.join("without-tables.ld");
    fs::write(&script, WITHOUT_TABLES)?;
    let script = format!("-Wl,-T,{}", script.display());
    for arguments in [vec![script.as_str(), "-Wl,--no-eh-frame-hdr"], vec!["-Wl,--icf=all"]] {
        if links(&folder, &arguments)? {
            arguments.iter().for_each(|argument| println!("cargo::rustc-link-arg-bins={argument}"));
        }
    }
    Ok(())
}

/// What `rbuild version` tells: the target, and of a released program the commit, which RBUILD_COMMIT names or git knows. Other programs are
/// not made anew for each commit.
fn tell_version() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    println!("cargo::rerun-if-env-changed=RBUILD_COMMIT");
    let asked = || {
        let git =
            Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).stderr(Stdio::null()).output().ok();
        git.filter(|git| git.status.success())
            .map(|git| String::from_utf8_lossy(&git.stdout).trim().to_owned())
    };
    let named = Some(variable("RBUILD_COMMIT")).filter(|commit| !commit.is_empty());
    let commit = match variable("PROFILE") == "release" {
        true => named.or_else(asked).unwrap_or_default(),
        false => named.unwrap_or_default(),
    };
    if variable("PROFILE") == "release" {
        // What is there: one that is not would have the script run each time. The log of HEAD changes with each commit.
        for file in [".git/HEAD", ".git/logs/HEAD"] {
            if Path::new(file).exists() {
                println!("cargo::rerun-if-changed={file}");
            }
        }
    }
    let (version, target) = (variable("CARGO_PKG_VERSION"), variable("TARGET"));
    let known: Vec<&str> =
        [commit.as_str(), target.as_str()].into_iter().filter(|text| !text.is_empty()).collect();
    println!("cargo::rustc-env=RBUILD_COMMIT={commit}");
    println!("cargo::rustc-env=RBUILD_TARGET={target}");
    println!("cargo::rustc-env=RBUILD_LONG_VERSION={version} ({})", known.join(", "));
}

/// Whether a program can be linked with these arguments, for the target and with the flags of this build.
fn links(folder: &Path, arguments: &[&str]) -> io::Result<bool> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let source = folder.join("trial.rs");
    fs::write(&source, "fn main() { println!(\"{}\", std::env::args().count()); }\n")?;
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets it"));
    rustc.arg(source).arg("-o").arg(folder.join("trial")).args(["-C", "panic=abort", "-C", "opt-level=1"]);
    rustc.arg("--target").arg(env::var_os("TARGET").expect("cargo sets it"));
    if let Some(linker) = variable("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    if let Some(flags) = variable("CARGO_ENCODED_RUSTFLAGS") {
        rustc.args(flags.split('\u{1f}'));
    }
    rustc.args(arguments.iter().flat_map(|argument| ["-C".to_owned(), format!("link-arg={argument}")]));
    Ok(rustc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}
