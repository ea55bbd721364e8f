//! What a package is, and its package URL.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Which kind of package; the names are syft's, which readers of documents know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Debian's, of dpkg's database.
    Deb,
    /// Alpine's.
    Apk,
    /// Of an rpm database.
    Rpm,
    /// A Python distribution that is installed.
    Python,
    /// A folder with a `package.json`.
    Npm,
    /// A module that a Go program was linked with.
    GoModule,
    /// A crate that a Rust program was linked with, by `cargo auditable`.
    RustCrate,
    /// An archive of Java, or a Maven artifact inside one.
    JavaArchive,
    /// A plugin of Jenkins.
    JenkinsPlugin,
    /// A Ruby gem.
    Gem,
    /// A package of PHP's composer.
    PhpComposer,
    /// A library of .NET.
    Dotnet,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 12] = [
        Kind::Deb,
        Kind::Apk,
        Kind::Rpm,
        Kind::Python,
        Kind::Npm,
        Kind::GoModule,
        Kind::RustCrate,
        Kind::JavaArchive,
        Kind::JenkinsPlugin,
        Kind::Gem,
        Kind::PhpComposer,
        Kind::Dotnet,
    ];

    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Deb => "deb",
            Kind::Apk => "apk",
            Kind::Rpm => "rpm",
            Kind::Python => "python",
            Kind::Npm => "npm",
            Kind::GoModule => "go-module",
            Kind::RustCrate => "rust-crate",
            Kind::JavaArchive => "java-archive",
            Kind::JenkinsPlugin => "jenkins-plugin",
            Kind::Gem => "gem",
            Kind::PhpComposer => "php-composer",
            Kind::Dotnet => "dotnet",
        }
    }

    /// The type of its package URLs.
    pub const fn purl_type(self) -> &'static str {
        match self {
            Kind::Deb => "deb",
            Kind::Apk => "apk",
            Kind::Rpm => "rpm",
            Kind::Python => "pypi",
            Kind::Npm => "npm",
            Kind::GoModule => "golang",
            Kind::RustCrate => "cargo",
            Kind::JavaArchive | Kind::JenkinsPlugin => "maven",
            Kind::Gem => "gem",
            Kind::PhpComposer => "composer",
            Kind::Dotnet => "nuget",
        }
    }

    /// Whether its packages are of the distribution: a database lists them, which a later layer replaces as a whole.
    pub const fn is_of_distribution(self) -> bool {
        match self {
            Kind::Deb | Kind::Apk | Kind::Rpm => true,
            Kind::Python
            | Kind::Npm
            | Kind::GoModule
            | Kind::RustCrate
            | Kind::JavaArchive
            | Kind::JenkinsPlugin
            | Kind::Gem
            | Kind::PhpComposer
            | Kind::Dotnet => false,
        }
    }
}

/// A package as the file says that tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
    /// What stands before the name in a package URL, unless the distribution does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The version in a package URL, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl_version: Option<String>,
    /// Qualifiers of its package URL, without the distribution's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qualifiers: Vec<(String, String)>,
    /// What it says of its licence, word by word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licences: Vec<String>,
    /// Who made the package, as it says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub supplier: String,
    /// Files that are its own, from the root of the image, a line each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub files: String,
    /// A folder that is its own with all that is below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

impl Package {
    /// One of which nothing but this is known.
    pub fn new(kind: Kind, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            version: version.into(),
            namespace: String::new(),
            purl_version: None,
            qualifiers: Vec::new(),
            licences: Vec::new(),
            supplier: String::new(),
            files: String::new(),
            folder: None,
        }
    }

    /// Adds a qualifier, unless it is empty.
    pub(super) fn qualify(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.qualifiers.push((key.to_owned(), value.to_owned()));
        }
    }

    /// The value of a qualifier.
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.qualifiers.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Adds a file to its own.
    pub(super) fn own(&mut self, path: &str) {
        if !path.is_empty() && !path.contains('\n') {
            self.files.push_str(path);
            self.files.push('\n');
        }
    }

    /// Its package URL in an image of that distribution, as syft writes it.
    pub fn purl(&self, release: Option<&Release>) -> String {
        let release = release.filter(|_| self.kind.is_of_distribution());
        let mut qualifiers = self.qualifiers.clone();
        if let Some(distro) = release.and_then(Release::distro) {
            qualifiers.push(("distro".to_owned(), distro));
        }
        qualifiers.sort();
        let namespace = match self.kind {
            Kind::Deb | Kind::Apk | Kind::Rpm => release.map_or("", |release| release.namespace(self.kind)),
            Kind::Npm | Kind::PhpComposer => self.name.rsplit_once('/').map_or("", |(scope, _)| scope),
            _ => self.namespace.as_str(),
        };
        let mut purl = format!("pkg:{}/", self.kind.purl_type());
        for segment in namespace.split('/').filter(|segment| !segment.is_empty()) {
            escape(segment, &mut purl);
            purl.push('/');
        }
        // A module's subpath.
        let (name, subpath) = match self.kind {
            Kind::GoModule => go_name(&self.name, &self.namespace),
            Kind::Npm | Kind::PhpComposer => (self.name.rsplit('/').next().unwrap_or(&self.name), ""),
            _ => (self.name.as_str(), ""),
        };
        escape(name, &mut purl);
        let version = self.purl_version.as_deref().unwrap_or(&self.version);
        if !version.is_empty() {
            purl.push('@');
            escape(version, &mut purl);
        }
        for (at, (key, value)) in qualifiers.iter().enumerate() {
            let _ = write!(purl, "{}{key}=", if at == 0 { '?' } else { '&' });
            for (at, part) in value.split('/').enumerate() {
                purl.push_str(if at == 0 { "" } else { "/" });
                escape(part, &mut purl);
            }
        }
        if !subpath.is_empty() {
            purl.push('#');
            let segments: Vec<String> = subpath
                .split('/')
                .map(|segment| {
                    let mut escaped = String::new();
                    escape(segment, &mut escaped);
                    escaped
                })
                .collect();
            purl.push_str(&segments.join("/"));
        }
        purl
    }
}

/// The last component of a module's path below its namespace, and what stands behind it.
fn go_name<'n>(path: &'n str, namespace: &str) -> (&'n str, &'n str) {
    let rest = path.strip_prefix(namespace).unwrap_or(path).trim_start_matches('/');
    rest.split_once('/').unwrap_or((rest, ""))
}

/// Percent-encodes what is neither a letter, a digit nor one of `.-_~:` (purl-spec, "Character encoding").
fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':') {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// What `os-release` says of a distribution.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Release {
    /// `ID`
    pub id: String,
    /// `ID_LIKE`, its words
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub like: Vec<String>,
    /// `VERSION_ID`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `BUILD_ID`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build: String,
    /// `PRETTY_NAME`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pretty: String,
}

impl Release {
    /// The qualifier of package URLs.
    pub fn distro(&self) -> Option<String> {
        let version = if self.version.is_empty() { &self.build } else { &self.version };
        match (self.id.as_str(), version.as_str()) {
            ("", "") => None,
            (id, "") => Some(id.to_owned()),
            ("", version) => Some(version.to_owned()),
            (id, version) => Some(format!("{id}-{version}")),
        }
    }

    /// The namespace of its packages' URLs.
    fn namespace(&self, kind: Kind) -> &str {
        match (kind, self.id.as_str()) {
            (Kind::Rpm, "rhel") => "redhat",
            (Kind::Rpm, id) if id.starts_with("opensuse") => "opensuse",
            (_, id) => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_syfts() {
        let debian = Release { id: "debian".into(), version: "12".into(), ..Release::default() };
        let mut deb = Package::new(Kind::Deb, "libstdc++6", "1:12.2.0-14+deb12u1");
        deb.qualify("arch", "amd64");
        deb.qualify("upstream", "gcc-12");
        assert_eq!(
            deb.purl(Some(&debian)),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=gcc-12"
        );
        let npm = Package::new(Kind::Npm, "@babel/core", "1.0.0");
        assert_eq!(npm.purl(Some(&debian)), "pkg:npm/%40babel/core@1.0.0");
        let mut go = Package::new(Kind::GoModule, "github.com/aws/aws-sdk-go-v2/service/s3", "v1.2.3");
        go.namespace = "github.com/aws".into();
        assert_eq!(go.purl(None), "pkg:golang/github.com/aws/aws-sdk-go-v2@v1.2.3#service/s3");
        let python = Package::new(Kind::Python, "requests", "2.0");
        assert_eq!(python.purl(None), "pkg:pypi/requests@2.0");
    }
}
