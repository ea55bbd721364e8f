//! `META-INF/MANIFEST.MF`: its sections, and which of many fields says what.

use super::name::FileName;

/// Sections of fields; the first is the main one.
pub(super) struct Manifest(Vec<Vec<(String, String)>>);

/// Which fields may name a group, in the order in which they are believed.
const GROUPS: [&[&str]; 2] = [
    &[
        "Group-Id",
        "Bundle-SymbolicName",
        "Extension-Name",
        "Specification-Vendor",
        "Implementation-Vendor",
        "Implementation-Vendor-Id",
        "Implementation-Title",
        "Bundle-Activator",
    ],
    &["Automatic-Module-Name", "Main-Class", "Package"],
];

/// What a group begins with.
const DOMAINS: [&str; 5] = ["com", "org", "net", "io", "be"];

impl Manifest {
    pub(super) fn parse(text: &str) -> Self {
        let mut sections: Vec<Vec<(String, String)>> = Vec::new();
        let mut is_inside = false;
        for line in text.lines() {
            if line.is_empty() {
                is_inside = false;
            } else if let Some(more) = line.strip_prefix(' ') {
                // A line goes on.
                if let Some((_, value)) =
                    sections.last_mut().and_then(|fields| fields.last_mut()).filter(|_| is_inside)
                {
                    value.push_str(more.trim());
                }
            } else if let Some((key, value)) = line.split_once(':').filter(|(key, _)| !key.trim().is_empty())
            {
                if !is_inside {
                    sections.push(Vec::new());
                    is_inside = true;
                }
                if let Some(fields) = sections.last_mut() {
                    fields.push((key.trim().to_owned(), value.trim().to_owned()));
                }
            }
        }
        Self(sections)
    }

    /// A field of the main section.
    pub(super) fn main(&self, key: &str) -> Option<&str> {
        let found = self.0.first()?.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A field of the main section, else of another.
    fn any(&self, key: &str) -> Option<&str> {
        let all = self.0.iter().flatten().filter(|(name, value)| name == key && !value.is_empty());
        all.map(|(_, value)| value.as_str()).next()
    }

    /// The package's name: of the bundle, of the file, of the fields.
    pub(super) fn select_name(&self, file: &FileName) -> String {
        if let Some(name) = self.of_bundle() {
            return name.to_owned();
        }
        if !file.name.is_empty() {
            return of_file(&file.name).to_owned();
        }
        let fields = ["Name", "Bundle-Name", "Short-Name", "Extension-Name", "Implementation-Title"];
        fields.iter().find_map(|field| self.main(field)).unwrap_or("").to_owned()
    }

    /// Maven's plugin for bundles makes `group.artifact` of both.
    fn of_bundle(&self) -> Option<&str> {
        self.main("Created-By").filter(|by| by.contains("Apache Maven Bundle Plugin"))?;
        let symbolic = self.main("Bundle-SymbolicName")?;
        if self.main("Implementation-Vendor-Id") == Some(symbolic) {
            return None;
        }
        symbolic.rsplit('.').next()
    }

    pub(super) fn select_version(&self, file: &FileName) -> String {
        if !file.version.is_empty() {
            return file.version.clone();
        }
        let fields = ["Implementation-Version", "Specification-Version", "Plugin-Version", "Bundle-Version"];
        fields.iter().find_map(|field| self.any(field)).unwrap_or("").to_owned()
    }

    pub(super) fn licences(&self) -> Vec<String> {
        let fields = ["Bundle-License", "Plugin-License-Name"].iter();
        fields.filter_map(|field| self.any(field)).map(str::to_owned).collect()
    }

    /// The group that the fields name, if they name one.
    pub(super) fn group(&self) -> Option<String> {
        GROUPS.iter().find_map(|fields| {
            let is_wanted = |key: &str| fields.contains(&key);
            let values = self.0.iter().flatten().filter(|(key, _)| is_wanted(key)).map(|(_, value)| value);
            let groups = values.filter(|value| DOMAINS.iter().any(|domain| value.starts_with(domain)));
            groups.map(|value| corrected(bare(value.as_str())).to_owned()).min()
        })
    }
}

/// Without the directives that stand behind a name in manifests of OSGi.
pub(super) fn bare(group: &str) -> &str {
    group.split([';', '#']).next().unwrap_or("").trim()
}

fn corrected(group: &str) -> &str {
    if group == "org.lz4.java" { "org.lz4" } else { group }
}

/// The last part of `group.artifact`.
fn of_file(name: &str) -> &str {
    let is_identifier = |part: &str| part.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '$'));
    let is_group =
        !name.starts_with("org.eclipse.") && name.contains('.') && name.split('.').all(is_identifier);
    if is_group { name.rsplit('.').next().unwrap_or(name) } else { name }
}
