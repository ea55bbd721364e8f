//! The text of `index.json`: an OCI index with one line for each name, in the order of the names, so that a name is found
//! and changed without reading the others.

use std::borrow::Cow;

use serde::Deserialize;

use crate::oci::{Descriptor, MediaType};

/// What other tools call the image by (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's word for the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

const INDENT: &[u8] = b"    ";
const TAIL: &[u8] = b"\n  ]\n}\n";

fn head() -> String {
    let media_type = MediaType::INDEX;
    format!("{{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"{media_type}\",\n  \"manifests\": [")
}

/// The line of one name: its descriptor, with the annotations by which others know the name.
pub(super) fn line(name: &str, descriptor: &Descriptor) -> Vec<u8> {
    let mut descriptor = descriptor.clone();
    descriptor.annotations.insert(REF_NAME.to_owned(), name.to_owned());
    descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_owned());
    serde_json::to_vec(&descriptor).expect("descriptors have string keys and no failing serialisers")
}

/// The whole text. The lines are in the order of their names.
pub(super) fn of_lines<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Vec<u8> {
    let mut text = head().into_bytes();
    for (number, line) in lines.into_iter().enumerate() {
        text.extend_from_slice(if number == 0 { b"\n" } else { b",\n" });
        text.extend_from_slice(INDENT);
        text.extend_from_slice(line.as_ref());
    }
    text.extend_from_slice(TAIL);
    text
}

/// The text with some names changed, or gone where there is no descriptor; `None` when it is not what [`of_lines`] makes.
pub(super) fn splice(text: &[u8], changes: Vec<(String, Option<Descriptor>)>) -> Option<Vec<u8>> {
    let body = text.strip_prefix(head().as_bytes())?.strip_suffix(TAIL)?;
    let lines = body.split(|byte| *byte == b'\n').skip(1);
    let mut lines: Vec<Cow<'_, [u8]>> =
        lines.map(|line| Cow::Borrowed(line.strip_suffix(b",").unwrap_or(line))).collect();
    for (name, descriptor) in changes {
        let at = find(&lines, &name)?;
        match (at, descriptor) {
            (Ok(at), Some(descriptor)) => lines[at] = Cow::Owned(self::line(&name, &descriptor)),
            (Ok(at), None) => drop(lines.remove(at)),
            (Err(at), Some(descriptor)) => lines.insert(at, Cow::Owned(self::line(&name, &descriptor))),
            (Err(_), None) => {}
        }
    }
    Some(of_lines(lines.iter().map(|line| line.strip_prefix(INDENT).unwrap_or(line))))
}

/// Where the line of a name is, or would be.
fn find(lines: &[Cow<'_, [u8]>], name: &str) -> Option<Result<usize, usize>> {
    let (mut low, mut high) = (0, lines.len());
    while low < high {
        let middle = low.midpoint(high);
        match name_of(&lines[middle])?.as_str().cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(Ok(middle)),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Some(Err(low))
}

fn name_of(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        annotations: std::collections::BTreeMap<String, String>,
    }
    serde_json::from_slice::<Named>(line).ok()?.annotations.remove(REF_NAME)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::Digest;

    fn descriptor(text: &str) -> Descriptor {
        Descriptor::new(MediaType::MANIFEST, Digest::of(text.as_bytes()), 1)
    }

    fn whole(names: &[(&str, &str)]) -> Vec<u8> {
        of_lines(names.iter().map(|(name, text)| line(name, &descriptor(text))))
    }

    fn changed(text: &[u8], name: &str, to: Option<&str>) -> Vec<u8> {
        splice(text, vec![(name.to_owned(), to.map(descriptor))]).unwrap()
    }

    #[test]
    fn a_changed_line_gives_the_text_that_all_names_give() {
        let mut text = whole(&[]);
        for (name, to, all) in [
            ("m", Some("1"), &[("m", "1")][..]),
            ("z", Some("2"), &[("m", "1"), ("z", "2")]),
            ("a", Some("3"), &[("a", "3"), ("m", "1"), ("z", "2")]),
            ("m", Some("4"), &[("a", "3"), ("m", "4"), ("z", "2")]),
            ("b", None, &[("a", "3"), ("m", "4"), ("z", "2")]),
            ("z", None, &[("a", "3"), ("m", "4")]),
            ("a", None, &[("m", "4")]),
            ("m", None, &[]),
        ] {
            text = changed(&text, name, to);
            assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&whole(all)), "{name}");
        }
    }

    #[test]
    fn it_is_an_index() {
        let index: crate::oci::Index = serde_json::from_slice(&whole(&[("a:1", "x"), ("b:1", "y")])).unwrap();
        assert_eq!((index.schema_version, index.manifests.len()), (2, 2));
        assert_eq!(index.manifests[1].annotations[REF_NAME], "b:1");
        assert!(serde_json::from_slice::<crate::oci::Index>(&whole(&[])).unwrap().manifests.is_empty());
    }

    #[test]
    fn a_text_of_others_is_not_changed() {
        let change = || vec![("a".to_owned(), Some(descriptor("x")))];
        for text in [&b""[..], b"{}", &whole(&[("b", "y")])[1..], b"{\n  \"schemaVersion\": 2\n}\n"] {
            assert_eq!(splice(text, change()), None);
        }
    }
}
