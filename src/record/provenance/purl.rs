//! Package URLs of materials.

use crate::oci::{Platform, Reference};
use crate::record::format::{Material, MaterialKind};

/// What others call a material: of an image its package URL.
pub fn uri(material: &Material) -> String {
    match material.kind {
        MaterialKind::Git | MaterialKind::Http => material.name.clone(),
        MaterialKind::Image => purl("docker", material),
        MaterialKind::LocalImage => purl("oci", material),
    }
}

/// The package URL of an image in a registry.
pub fn image_purl(name: &Reference, platform: Option<&Platform>) -> String {
    purl(
        "docker",
        &Material {
            kind: MaterialKind::Image,
            name: name.full(),
            digest: None,
            platform: platform.map(ToString::to_string),
        },
    )
}

fn purl(kind: &str, material: &Material) -> String {
    let Ok(name) = material.name.parse::<Reference>() else {
        return format!("pkg:{kind}/{}", escaped(&material.name, false));
    };
    let text = name.with_default_tag().to_string();
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text.to_owned(), Some(digest.to_owned())),
        None => (text, None),
    };
    let start = text.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match text[start..].split_once(':') {
        Some((name, tag)) => (format!("{}{name}", &text[..start]), Some(tag.to_owned())),
        None => (text, None),
    };
    let mut url = format!("pkg:{kind}/{}", escaped(&name, true));
    if let Some(tag) = tag {
        url.push_str(&format!("@{}", escaped(&tag, false)));
    }
    let mut sign = '?';
    for (key, value) in [("digest", digest), ("platform", material.platform.clone())] {
        let Some(value) = value else { continue };
        url.push_str(&format!("{sign}{key}={}", escaped(&value, false)));
        sign = '&';
    }
    url
}

/// Percent-encoded as package URLs have it.
fn escaped(text: &str, keeps_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(byte.into());
            }
            b'/' if keeps_slashes => out.push('/'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Material {
        let platform = Some("linux/amd64".to_owned());
        Material {
            kind: MaterialKind::Image,
            name: name.to_owned(),
            digest: Some("sha256:ab".to_owned()),
            platform,
        }
    }

    #[test]
    fn images_have_package_urls() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (name, expected) in [
            ("docker.io/library/debian:12", "pkg:docker/debian@12".to_owned()),
            ("docker.io/user/test:v2", "pkg:docker/user/test@v2".to_owned()),
            ("localhost:5000/a/b", "pkg:docker/localhost:5000/a/b@latest".to_owned()),
            (&format!("ghcr.io/foo/bar@{digest}"), format!("pkg:docker/ghcr.io/foo/bar?digest={digest}")),
        ] {
            let sign = if expected.contains('?') { '&' } else { '?' };
            assert_eq!(uri(&image(name)), format!("{expected}{sign}platform=linux%2Famd64"));
        }
        let local = Material { kind: MaterialKind::LocalImage, ..image("my base") };
        assert_eq!(uri(&local), "pkg:oci/my%20base");
    }
}
