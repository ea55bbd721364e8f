//! Annotations that a build was asked for, each with the document that it is for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::Platform;

/// What an annotation stands in (image-spec; BuildKit's words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnotationLevel {
    /// A manifest.
    Manifest,
    /// The index of several platforms.
    Index,
    /// The descriptor of a manifest: in the index of several platforms, else in a layout's `index.json`.
    ManifestDescriptor,
    /// The descriptor of an index, in a layout's `index.json`.
    IndexDescriptor,
}

/// Every level, as it is written.
const LEVELS: [(&str, AnnotationLevel); 4] = [
    ("manifest", AnnotationLevel::Manifest),
    ("index", AnnotationLevel::Index),
    ("manifest-descriptor", AnnotationLevel::ManifestDescriptor),
    ("index-descriptor", AnnotationLevel::IndexDescriptor),
];

impl AnnotationLevel {
    /// As it is written.
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

/// A level, and for which platform: `manifest[linux/amd64]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationPlace {
    /// In what it stands.
    pub level: AnnotationLevel,
    /// In that of this platform alone.
    pub platform: Option<Platform>,
}

impl AnnotationPlace {
    /// All manifests.
    pub const MANIFESTS: Self = Self { level: AnnotationLevel::Manifest, platform: None };
}

impl FromStr for AnnotationPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, platform) = match text.split_once('[') {
            None => (text, None),
            Some((name, rest)) => {
                let platform = rest.strip_suffix(']').ok_or("a `[` is not closed")?;
                (name, Some(platform.parse::<Platform>().map_err(|error| error.to_string())?))
            }
        };
        let level = LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level);
        let level = level.ok_or_else(|| {
            let all: Vec<&str> = LEVELS.iter().map(|(known, _)| *known).collect();
            format!("there is no level `{name}`; there are {}", all.join(", "))
        })?;
        match platform {
            Some(_) if matches!(level, AnnotationLevel::Index | AnnotationLevel::IndexDescriptor) => {
                Err(format!("`{name}` is of all platforms, so it takes none in brackets"))
            }
            platform => Ok(Self { level, platform }),
        }
    }
}

/// One annotation, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// The document.
    pub place: AnnotationPlace,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl Annotation {
    /// Reads `[LEVEL[\[PLATFORM\]][,…]:]KEY=VALUE` as `docker buildx build --annotation` does: without a level it is for manifests.
    ///
    /// # Errors
    /// What is wrong with it, in one clause.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
        let (places, key) = match key.split_once(':') {
            None => (vec![AnnotationPlace::MANIFESTS], key),
            Some((levels, key)) => (levels.split(',').map(str::parse).collect::<Result<_, String>>()?, key),
        };
        if key.is_empty() {
            return Err("the key is missing; write it as KEY=VALUE".to_owned());
        }
        let of = |place| Self { place, key: key.to_owned(), value: value.to_owned() };
        Ok(places.into_iter().map(of).collect())
    }

    /// Those of one document; of equal keys the last counts. `platform` is its own, where it has one.
    pub fn at<'a>(
        annotations: impl IntoIterator<Item = &'a Self>,
        level: AnnotationLevel,
        platform: Option<&Platform>,
    ) -> BTreeMap<String, String> {
        let is_meant = |annotation: &&Self| {
            let place = &annotation.place;
            let fits = place.platform.as_ref().is_none_or(|wanted| platform == Some(wanted));
            place.level == level && fits
        };
        let chosen = annotations.into_iter().filter(is_meant);
        chosen.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
    }
}

impl fmt::Display for Annotation {
    /// As [`Annotation::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place: AnnotationPlace { level, platform }, key, value } = self;
        write!(f, "{}", level.name())?;
        platform.iter().try_for_each(|platform| write!(f, "[{platform}]"))?;
        write!(f, ":{key}={value}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn levels_and_platforms_are_no_part_of_the_key() {
        let read = |text: &str| {
            Annotation::parse(text).map(|all| {
                let shown = |a: &Annotation| {
                    let platform = a.place.platform.as_ref().map(|p| format!("[{p}]")).unwrap_or_default();
                    format!("{}{platform} {}={}", a.place.level.name(), a.key, a.value)
                };
                all.iter().map(shown).collect::<Vec<_>>().join("; ")
            })
        };
        for (text, expected) in [
            ("k=v", "manifest k=v"),
            ("k=a=b:c", "manifest k=a=b:c"),
            ("k=", "manifest k="),
            ("manifest:k=v", "manifest k=v"),
            ("index,manifest[linux/amd64]:k=v", "index k=v; manifest[linux/amd64] k=v"),
            ("manifest-descriptor[linux/arm]:k=v", "manifest-descriptor[linux/arm/v7] k=v"),
            ("index-descriptor:a:b=v", "index-descriptor a:b=v"),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
            for annotation in Annotation::parse(text).unwrap() {
                assert_eq!(Annotation::parse(&annotation.to_string()).unwrap(), [annotation]);
            }
        }
        for (text, expected) in [
            ("k", "write it as KEY=VALUE"),
            ("=v", "the key is missing"),
            ("index:=v", "the key is missing"),
            (
                "indx:k=v",
                "there is no level `indx`; there are manifest, index, manifest-descriptor, index-descriptor",
            ),
            ("manifest[linux/amd64:k=v", "a `[` is not closed"),
            ("manifest[a/b/c/d]:k=v", "is no platform"),
            ("index[linux/amd64]:k=v", "`index` is of all platforms"),
            (",manifest:k=v", "there is no level ``"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn each_document_has_its_own() {
        let all: Vec<Annotation> = ["a=1", "manifest[linux/arm64]:a=2", "index:b=3", "a=4"]
            .iter()
            .flat_map(|text| Annotation::parse(text).unwrap())
            .collect();
        let of = |level, platform: Option<&str>| {
            let platform = platform.map(|text| text.parse().unwrap());
            format!("{:?}", Annotation::at(&all, level, platform.as_ref()))
        };
        assert_eq!(of(AnnotationLevel::Manifest, Some("linux/amd64")), r#"{"a": "4"}"#);
        assert_eq!(of(AnnotationLevel::Index, None), r#"{"b": "3"}"#);
        assert_eq!(
            Annotation::at(&all[..2], AnnotationLevel::Manifest, Some(&"linux/arm64".parse().unwrap()))["a"],
            "2"
        );
    }
}
