//! Platforms in Go's words: `linux/arm64`, `linux/arm/v7`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and an architecture (image-spec, "Image Index", `platform`).
///
/// [`Platform::from_str`] normalises as containerd's `platforms` package does (`x86_64` is `amd64`,
/// `arm64/v8` is `arm64`, `arm` is `arm/v7`); a value read from JSON is kept as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// In GOARCH's words.
    pub architecture: String,
    /// In GOOS's words.
    pub os: String,
    /// Windows only.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Windows only.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform of the form os/architecture[/variant], such as linux/arm64")]
pub struct PlatformError(pub String);

impl Platform {
    /// `os/architecture` without a variant.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        }
    }

    /// The platform of this program: Linux on the architecture that it was compiled for.
    pub fn host() -> Self {
        let mut platform = Self::new("linux", std::env::consts::ARCH);
        platform.normalise();
        platform
    }

    /// Renames architecture and variant to the usual words: `x86_64` is `amd64`.
    pub fn normalised(mut self) -> Self {
        self.normalise();
        self
    }

    fn normalise(&mut self) {
        self.os.make_ascii_lowercase();
        self.architecture.make_ascii_lowercase();
        if self.os == "macos" {
            "darwin".clone_into(&mut self.os);
        }
        let variant = self.variant.take().map(|v| v.to_ascii_lowercase()).unwrap_or_default();
        let (architecture, variant) = match (self.architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64", v) => ("ppc64", v),
            ("powerpc64le", v) => ("ppc64le", v),
            (other, v) => (other, v),
        };
        let variant = (!variant.is_empty()).then(|| variant.to_owned());
        let architecture = architecture.to_owned();
        self.architecture = architecture;
        self.variant = variant;
    }

    /// How well an image for `offered` serves someone who wants `self`: `None` when it does not, else
    /// smaller is better. As containerd's `platforms.Only` has it, an arm machine also runs lower arm
    /// variants, arm64 also 32-bit arm, and amd64 also 386.
    pub fn match_rank(&self, offered: &Platform) -> Option<u32> {
        let want = self.clone().normalised();
        let have = offered.clone().normalised();
        if want.os != have.os {
            return None;
        }
        if want.architecture == have.architecture && want.variant == have.variant {
            return Some(0);
        }
        let level = |v: &Option<String>, default: u32| {
            v.as_deref()
                .map_or(Some(default), |v| v.trim_start_matches('v').split('.').next()?.parse::<u32>().ok())
        };
        match (want.architecture.as_str(), have.architecture.as_str()) {
            ("amd64", "amd64") => {
                let (w, h) = (level(&want.variant, 1)?, level(&have.variant, 1)?);
                (h <= w).then(|| w - h)
            }
            ("amd64", "386") => Some(100),
            ("arm", "arm") => {
                let (w, h) = (level(&want.variant, 7)?, level(&have.variant, 7)?);
                (h <= w).then(|| w - h)
            }
            ("arm64", "arm64") => {
                let (w, h) = (level(&want.variant, 8)?, level(&have.variant, 8)?);
                (h <= w).then(|| w - h)
            }
            ("arm64", "arm") => Some(100 + 8u32.saturating_sub(level(&have.variant, 7)?)),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        const OSES: [&str; 6] = ["linux", "windows", "darwin", "freebsd", "wasi", "macos"];
        // As Go spells them; alone, any other word is more likely a slip than a new machine.
        const ARCHITECTURES: [&str; 15] = [
            "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64",
            "ppc64le", "riscv64", "s390x", "sparc64", "wasm",
        ];
        let fail = || PlatformError(text.to_owned());
        let valid = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|p| valid(p)) {
            return Err(fail());
        }
        let mut platform = match parts.as_slice() {
            ["local"] => Platform::host(),
            [one] if OSES.contains(&one.to_ascii_lowercase().as_str()) => {
                Platform { os: (*one).to_owned(), ..Platform::host() }
            }
            [one] => {
                let platform = Platform::new("linux", one).normalised();
                ARCHITECTURES
                    .contains(&platform.architecture.as_str())
                    .then_some(platform)
                    .ok_or_else(fail)?
            }
            [os, architecture] => Platform::new(os, architecture),
            [os, architecture, variant] => {
                Platform { variant: Some((*variant).to_owned()), ..Platform::new(os, architecture) }
            }
            _ => return Err(fail()),
        };
        platform.normalise();
        Ok(platform)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn normalises_the_usual_spellings() {
        for (text, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("Linux/AMD64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want);
        }
        for text in ["", "linux/", "a/b/c/d", "linux/am d64", "what"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranks_exact_matches_first() {
        let p = |t: &str| t.parse::<Platform>().unwrap();
        assert_eq!(p("linux/arm/v7").match_rank(&p("linux/arm/v7")), Some(0));
        assert_eq!(p("linux/arm/v7").match_rank(&p("linux/arm/v6")), Some(1));
        assert_eq!(p("linux/arm/v6").match_rank(&p("linux/arm/v7")), None);
        assert_eq!(p("linux/amd64").match_rank(&p("linux/arm64")), None);
        assert!(p("linux/amd64").match_rank(&p("linux/386")).is_some());
    }
}
