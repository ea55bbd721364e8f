//! Go programs: the modules that the linker wrote into them (`debug/buildinfo`), in the form since Go 1.18 and the one before.

use super::elf::{Elf, MAGIC, Segment, at_address, may_be_program, writable};
use super::{Candidate, Cataloger, FILE_LIMIT, PACKAGE_LIMIT, Tells, packages};
use crate::inventory::package::{Kind, Package};

/// A program of Go.
pub(super) struct Program;

/// What the linker writes first, on a border of 16 bytes.
const START: &[u8] = b"\xff Go buildinf:";
/// The list of modules stands between two marks of so many bytes.
const MARK: usize = 16;
/// The longest list that is read.
const LIST_LIMIT: u64 = 16 << 20;

impl Cataloger for Program {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        may_be_program(file)
    }

    fn magic(&self) -> Option<&'static [u8]> {
        Some(MAGIC)
    }

    fn limit(&self) -> u64 {
        FILE_LIMIT
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let Some((version, list)) = Elf::open(bytes).and_then(build_info) else { return Ok(Vec::new()) };
        let mut found = modules(&list)?;
        if !version.is_empty() {
            // `go1.22.1 X:experiment`
            let mut library = Package::new(Kind::GoModule, "stdlib", version.split(' ').next().unwrap_or(""));
            library.licences.push("BSD-3-Clause".to_owned());
            library.purl_version = Some(library.version.trim_start_matches("go").to_owned());
            found.push(library);
        }
        found.iter_mut().for_each(|package| package.own(path));
        Ok(packages(found))
    }
}

/// The section that tells of it.
pub(super) const SECTION: [&str; 1] = [".go.buildinfo"];

/// Whether it is a program of Go, as far as what it may write to and its sections tell.
pub(super) fn is_program(elf: Elf<'_>) -> bool {
    info(elf, &elf.segments()).is_some()
}

/// Where what the linker wrote begins.
fn info<'b>(elf: Elf<'b>, segments: &[Segment<'b>]) -> Option<&'b [u8]> {
    match elf.section(SECTION[0]) {
        Some(section) => search(section),
        // Some strip the names of sections.
        None => writable(segments).find_map(|segment| search(segment.bytes)),
    }
}

/// The compiler's version and the list of modules.
fn build_info(elf: Elf<'_>) -> Option<(String, String)> {
    let segments = elf.segments();
    let info = info(elf, &segments)?;
    let flags = *info.get(15)?;
    if flags & 2 != 0 {
        let (version, rest) = inline(info.get(32..)?)?;
        let (list, _) = inline(rest)?;
        return Some((text(version), text(without_marks(list))));
    }
    // Two addresses of strings, each an address and a length.
    let elf = Elf { bytes: super::elf::Bytes { is_big: flags & 1 != 0, ..elf.bytes }, ..elf };
    let width = u64::from(*info.get(14)?);
    let version = pointed(elf, &segments, number(elf, info, 16, width)?, width)?;
    let list = number(elf, info, 16 + width, width).and_then(|at| pointed(elf, &segments, at, width));
    Some((text(version), text(without_marks(list.unwrap_or_default()))))
}

fn search(bytes: &[u8]) -> Option<&[u8]> {
    let at = (0..bytes.len()).step_by(MARK).find(|at| bytes[*at..].starts_with(START))?;
    Some(&bytes[at..])
}

/// A string behind its length, which is a varint.
fn inline(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut len, mut shift) = (0_u64, 0);
    for (at, byte) in bytes.iter().enumerate().take(9) {
        len |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return bytes[at + 1..].split_at_checked(usize::try_from(len).ok()?);
        }
    }
    None
}

fn number(elf: Elf<'_>, bytes: &[u8], at: u64, width: u64) -> Option<u64> {
    let bytes = super::elf::Bytes { all: bytes, ..elf.bytes };
    match width {
        4 => bytes.u32(at).map(u64::from),
        8 => bytes.u64(at),
        _ => None,
    }
}

fn pointed<'b>(elf: Elf<'b>, segments: &[Segment<'b>], address: u64, width: u64) -> Option<&'b [u8]> {
    let header = at_address(segments, address, 2 * width)?;
    let (at, len) = (number(elf, header, 0, width)?, number(elf, header, width, width)?);
    if len > LIST_LIMIT {
        return None;
    }
    at_address(segments, at, len)
}

fn without_marks(list: &[u8]) -> &[u8] {
    let is_marked = list.len() > 2 * MARK && list[list.len() - MARK - 1] == b'\n';
    if is_marked { &list[MARK..list.len() - MARK] } else { &[] }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The main module and those that it needs.
fn modules(list: &str) -> Result<Vec<Package>, String> {
    let mut main: Option<(String, String)> = None;
    let mut path = "";
    let mut settings = Vec::new();
    let mut found: Vec<(String, String)> = Vec::new();
    let mut replaces_main = false;
    for line in list.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap_or("");
        let module = |mut fields: std::str::Split<'_, char>| {
            let name = fields.next().unwrap_or("").to_owned();
            (name, fields.next().unwrap_or("").to_owned())
        };
        match kind {
            "path" => path = fields.next().unwrap_or(""),
            "mod" => (main, replaces_main) = (Some(module(fields)), true),
            "dep" => {
                replaces_main = false;
                found.push(module(fields));
            }
            "=>" => match replaces_main {
                true => main = Some(module(fields)),
                false => drop(found.pop().map(|_| found.push(module(fields)))),
            },
            "build" => settings.extend(fields.next().and_then(|setting| setting.split_once('='))),
            _ => {}
        }
        if found.len() > PACKAGE_LIMIT {
            return Err(format!("it lists more than {PACKAGE_LIMIT} modules"));
        }
    }
    // Built from files rather than from a package: the main module is what it was built as.
    let unknown = main.as_ref().is_none_or(|(name, _)| name == "command-line-arguments");
    if unknown && !path.is_empty() && path != "command-line-arguments" {
        // A program of a module that is among those it needs.
        let own = found
            .iter()
            .filter(|(name, _)| path.starts_with(name.as_str()))
            .max_by_key(|(name, _)| name.len());
        main = Some(own.cloned().unwrap_or_else(|| (path.to_owned(), "(devel)".to_owned())));
    }
    let main = main.filter(|(name, _)| !name.is_empty()).map(|(name, version)| {
        let version = if version == "(devel)" { devel(&name, &settings) } else { version };
        (name, version)
    });
    let others = found.into_iter().filter(|module| Some(module) != main.as_ref() && !module.0.is_empty());
    let modules: Vec<_> = others.chain(main.clone()).collect();
    Ok(modules.into_iter().map(|(name, version)| package(name, version)).collect())
}

fn package(name: String, version: String) -> Package {
    // golang URLs: host and owner are the namespace, what lies below the repository is the subpath.
    let parts: Vec<&str> = name.split('/').collect();
    let namespace = match parts.len() {
        0 | 1 => String::new(),
        2 => parts[0].to_owned(),
        _ => parts[..2].join("/"),
    };
    let mut package = Package::new(Kind::GoModule, name, version);
    package.namespace = namespace;
    package
}

/// The version of a main module that was built from a checkout: what `-ldflags` set, else a pseudo-version of the commit.
fn devel(name: &str, settings: &[(&str, &str)]) -> String {
    let setting = |key: &str| settings.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    if let Some(version) = setting("-ldflags").and_then(|flags| version_in(flags, name)) {
        return version;
    }
    match setting("vcs.revision").zip(setting("vcs.time")) {
        Some((revision, time)) => {
            // RFC 3339 in UTC, so its digits are the pseudo-version's.
            let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
            let short: String = revision.chars().take(12).collect();
            format!("v0.0.0-{digits}-{short}")
        }
        None => String::new(),
    }
}

/// A version that `-X main.version=…` or the like sets.
fn version_in(flags: &str, module: &str) -> Option<String> {
    // The flags are quoted in the list, and each may be once more.
    const QUOTES: [char; 3] = ['\'', '"', '\\'];
    // Host, owner and name of the repository; the version is often in another package of it.
    let repository = module.split('/').take(3).collect::<Vec<_>>().join("/");
    for word in flags.split_whitespace() {
        let Some((variable, value)) = word.trim_matches(QUOTES).split_once('=') else { continue };
        let Some((package, name)) = variable.rsplit_once('.') else { continue };
        let is_own = package == "main" || package.starts_with(repository.as_str());
        let name = name.to_ascii_lowercase();
        let names = ["version", "ver", "tag"];
        if !is_own || !names.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let value = value.rsplit('/').next().unwrap_or(value).trim_matches(QUOTES);
        let plain = value.strip_prefix('v').unwrap_or(value);
        let numbers = plain.split(['.', '-', '+']).take(3).filter(|part| part.parse::<u64>().is_ok()).count();
        if numbers == 3 {
            return Some(format!("v{plain}"));
        }
    }
    None
}
