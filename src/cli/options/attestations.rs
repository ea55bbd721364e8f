//! `--sbom`, `--provenance` and `--attest`, as `docker buildx` writes them.

use super::request::bad;
use crate::attest::{Generator, Layout, Provenance, Sbom, Wanted};
use crate::cli::Failure;
use crate::cli::face::Face;
use crate::oci::Reference;
use crate::record::provenance::{Mode, Terms, Version};
use crate::text::{boolean, csv};

/// The types that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sbom,
    Provenance,
}

/// One attestation, as it was asked for.
#[derive(Debug)]
struct Asked {
    kind: Kind,
    is_on: bool,
    /// Key and value of each field that is neither the type nor `disabled`.
    fields: Vec<(String, String)>,
    /// The option and its value, for messages.
    written: (&'static str, String),
}

/// What the options ask for, and what is to be said of them. Of each type the last counts, and `--provenance` and `--sbom` come after
/// `--attest`.
///
/// # Errors
/// A value that means nothing.
pub(super) fn wanted(
    attest: &[String],
    provenance: Option<&str>,
    sbom: Option<&str>,
    face: Face,
) -> Result<(Wanted, Vec<String>), Failure> {
    let mut all: Vec<Asked> = Vec::new();
    let mut add = |new: Asked| match all.iter_mut().find(|known| known.kind == new.kind) {
        Some(known) => *known = new,
        None => all.push(new),
    };
    for text in attest.iter().filter(|text| !text.is_empty()) {
        add(Asked::read(text, ("--attest", text))?);
    }
    for (kind, option, value) in [("provenance", "--provenance", provenance), ("sbom", "--sbom", sbom)] {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let text = match boolean(value) {
            Some(is_on) => format!("type={kind},disabled={}", !is_on),
            None => format!("type={kind},{value}"),
        };
        add(Asked::read(&text, (option, value))?);
    }
    let (mut wanted, mut notes) = (Wanted::default(), Vec::new());
    for asked in all.iter().filter(|asked| asked.is_on) {
        let read = match asked.kind {
            Kind::Sbom => asked.sbom(face, &mut notes).map(|sbom| wanted.sbom = Some(sbom)),
            Kind::Provenance => {
                asked.provenance(face, &mut notes).map(|provenance| wanted.provenance = Some(provenance))
            }
        };
        read.map_err(|reason| bad(asked.written.0, &asked.written.1, &reason))?;
    }
    Ok((wanted, notes))
}

impl Asked {
    /// Reads `type=sbom,key=value`.
    fn read(text: &str, (option, value): (&'static str, &str)) -> Result<Self, Failure> {
        Self::parse(text, (option, value.to_owned())).map_err(|reason| bad(option, value, &reason))
    }

    fn parse(text: &str, written: (&'static str, String)) -> Result<Self, String> {
        let (mut kind, mut is_on, mut fields) = (None, true, Vec::new());
        for field in csv::fields(text).map_err(|fault| fault.to_string())? {
            let (key, value) =
                field.split_once('=').ok_or(format!("`{field}` is not of the form key=value"))?;
            match (key.trim().to_ascii_lowercase().as_str(), value) {
                ("type", "sbom") => kind = Some(Kind::Sbom),
                ("type", "provenance") => kind = Some(Kind::Provenance),
                ("type", other) => {
                    return Err(format!("there is no attestation `{other}`; there are provenance and sbom"));
                }
                ("disabled", value) => is_on = !flag("disabled", value)?,
                // As in BuildKit, keys are written as they are.
                _ => fields.push((key.to_owned(), value.to_owned())),
            }
        }
        let kind = kind.ok_or("the type is missing; there are provenance and sbom")?;
        Ok(Self { kind, is_on, fields, written })
    }

    fn sbom(&self, face: Face, notes: &mut Vec<String>) -> Result<Sbom, String> {
        let mut sbom = Sbom { layout: usual(face), generator: None };
        let mut generator = Generator::default();
        for (key, value) in &self.fields {
            match key.as_str() {
                "layout" => sbom.layout = layout(value)?,
                "generator" => generator.image.clone_from(value),
                name if !is_variable(name) => return Err(format!("`{name}` is no name of a variable")),
                name => drop(generator.parameters.insert(name.to_owned(), value.clone())),
            }
        }
        if !generator.image.is_empty() {
            let named = generator.image.parse::<Reference>();
            named.map_err(|error| format!("the generator is no image: {}", error.reason))?;
            sbom.generator = Some(generator);
        } else {
            let names = generator.parameters.keys();
            notes.extend(names.map(|key| self.unknown(key, "no generator was named that could get it")));
        }
        Ok(sbom)
    }

    fn provenance(&self, face: Face, notes: &mut Vec<String>) -> Result<Provenance, String> {
        let terms = Terms { version: Version::V1, mode: Mode::Min, builder_id: None, is_reproducible: false };
        let mut provenance = Provenance {
            layout: usual(face),
            terms,
            filename: "provenance.json".to_owned(),
            is_inline_only: false,
            wants_all_materials: false,
        };
        for (key, value) in &self.fields {
            match key.as_str() {
                "layout" => provenance.layout = layout(value)?,
                "mode" => {
                    provenance.terms.mode = match value.as_str() {
                        "min" => Mode::Min,
                        "max" | "full" => Mode::Max,
                        _ => return Err("`mode` is min or max".to_owned()),
                    }
                }
                "version" => {
                    provenance.terms.version = match value.as_str() {
                        "v1" => Version::V1,
                        "v0.2" => Version::V02,
                        _ => return Err("`version` is v1 or v0.2".to_owned()),
                    }
                }
                "builder-id" => {
                    provenance.terms.builder_id = Some(value.clone()).filter(|id| !id.is_empty());
                }
                "reproducible" => provenance.terms.is_reproducible = flag(key, value)?,
                "inline-only" => provenance.is_inline_only = boolean(value) == Some(true),
                "complete-materials" => provenance.wants_all_materials = flag(key, value)?,
                "filename" if value.is_empty() || value.contains('/') => {
                    return Err("`filename` is the name of a file, without a folder".to_owned());
                }
                "filename" if value.ends_with(".spdx.json") => {
                    return Err("`filename` is what an SBOM is called".to_owned());
                }
                "filename" => provenance.filename.clone_from(value),
                _ => notes.push(self.unknown(key, "rbuild has no such member of provenance")),
            }
        }
        Ok(provenance)
    }

    fn unknown(&self, key: &str, why: &str) -> String {
        format!("`{key}` of {} changes nothing: {why}", self.written.0)
    }
}

/// Docker's programs look for attestations in the index.
fn usual(face: Face) -> Layout {
    match face {
        Face::Docker => Layout::BuildKit,
        Face::Own => Layout::Referrers,
    }
}

fn layout(text: &str) -> Result<Layout, String> {
    match text {
        "referrers" => Ok(Layout::Referrers),
        "buildkit" => Ok(Layout::BuildKit),
        _ => Err("`layout` is referrers or buildkit".to_owned()),
    }
}

/// What BuildKit puts `BUILDKIT_SCAN_` before.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn flag(key: &str, text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| format!("`{key}` is true or false"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(line: &str, face: Face) -> Result<(String, Vec<String>), String> {
        let mut attest = Vec::new();
        let (mut provenance, mut sbom) = (None, None);
        for word in line.split_whitespace() {
            match word.split_once('=').unwrap() {
                ("--attest", value) => attest.push(value.to_owned()),
                ("--provenance", value) => provenance = Some(value.to_owned()),
                (_, value) => sbom = Some(value.to_owned()),
            }
        }
        let (wanted, notes) = wanted(&attest, provenance.as_deref(), sbom.as_deref(), face)
            .map_err(|failure| format!("{failure:?}"))?;
        let mut text = Vec::new();
        text.extend(wanted.sbom.map(|Sbom { layout, generator }| {
            let by = generator.map(|by| format!(" by {} {:?}", by.image, by.parameters));
            format!("sbom {layout:?}{}", by.unwrap_or_default())
        }));
        text.extend(wanted.provenance.map(|p| {
            let Terms { version, mode, builder_id, is_reproducible } = p.terms;
            let flags = [
                (is_reproducible, "reproducible"),
                (p.is_inline_only, "inline"),
                (p.wants_all_materials, "all"),
            ];
            let flags = flags.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| format!(" {name}"));
            let id = builder_id.map(|id| format!(" by {id}")).unwrap_or_default();
            format!("{version:?} {mode:?} {:?} {}{id}{}", p.layout, p.filename, flags.collect::<String>())
        }));
        Ok((text.join("; "), notes))
    }

    #[test]
    fn options_are_those_of_buildx() {
        let id = "https://h/1";
        for (line, expected) in [
            ("--provenance=false --sbom=false", ""),
            ("--attest=type=provenance,disabled=true", ""),
            ("--provenance=true", "V1 Min Referrers provenance.json"),
            ("--provenance=mode=max,version=v0.2", "V02 Max Referrers provenance.json"),
            ("--attest=type=provenance,mode=max --provenance=false", ""),
            (
                "--attest=type=provenance --attest=type=provenance,mode=full",
                "V1 Max Referrers provenance.json",
            ),
            (
                &format!(
                    "--attest=type=provenance,mode=max,builder-id={id},reproducible=true --attest=type=sbom --sbom=false"
                ),
                "V1 Max Referrers provenance.json by https://h/1 reproducible",
            ),
            (
                "--sbom=true --provenance=mode=min,inline-only=true,filename=p.json,complete-materials=1",
                "sbom Referrers; V1 Min Referrers p.json inline all",
            ),
            ("--sbom=layout=buildkit", "sbom BuildKit"),
            ("--attest=type=sbom,generator=", "sbom Referrers"),
            ("--sbom=generator=scan:1,FORMAT=x", "sbom Referrers by scan:1 {\"FORMAT\": \"x\"}"),
        ] {
            assert_eq!(told(line, Face::Own).unwrap(), (expected.to_owned(), Vec::new()), "{line}");
        }
        let (text, notes) =
            told("--sbom=true --provenance=layout=referrers,capture-usage=true", Face::Docker).unwrap();
        assert_eq!(text, "sbom BuildKit; V1 Min Referrers provenance.json");
        assert!(notes[0].contains("`capture-usage` of --provenance changes nothing"), "{notes:?}");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (line, expected) in [
            ("--attest=mode=max", "the type is missing"),
            ("--attest=type=slsa", "there is no attestation `slsa`"),
            ("--sbom=type", "is not of the form key=value"),
            ("--provenance=mode=most", "`mode` is min or max"),
            ("--provenance=version=v2", "`version` is v1 or v0.2"),
            ("--provenance=reproducible=perhaps", "`reproducible` is true or false"),
            ("--provenance=filename=../p", "without a folder"),
            ("--sbom=layout=cosign", "`layout` is referrers or buildkit"),
            ("--sbom=generator=A:", "the generator is no image"),
            ("--sbom=generator=a,B-C=d", "`B-C` is no name of a variable"),
        ] {
            let told = told(line, Face::Own).unwrap_err();
            assert!(told.contains(expected), "{line}: {told}");
        }
    }
}
