//! Documents that lie beside the files of an image, as BuildKit puts them there.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::Error;
use super::files::{Files, Roots};
use crate::oci::{Descriptor, Digest, Hasher, Seconds};
use crate::store::Store;

/// What a document says of files: each by its path in the image, with its digest.
pub type Say<'d> = dyn Fn(Vec<(String, Digest)>) -> Vec<u8> + 'd;

/// A document that says something of each file of an image.
pub struct Beside<'d> {
    /// The image's manifest.
    pub image: Digest,
    /// What it is called.
    pub name: String,
    /// Its time.
    pub time: Seconds,
    /// What it says.
    pub say: Box<Say<'d>>,
}

/// What goes along with an image.
#[derive(Default)]
pub struct Along<'d> {
    /// Beside plain files.
    pub beside: Vec<Beside<'d>>,
    /// In layouts: manifests and indexes in the store whose subject is the image, each as `index.json` is to list it.
    pub referrers: Vec<Descriptor>,
}

/// Mode of the documents.
pub(super) const MODE: u32 = 0o600;

/// A document that is to be written.
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) time: Seconds,
    pub(super) bytes: Vec<u8>,
}

/// The documents beside these files. Where images share a folder, the platform is in the name.
pub(super) fn written(
    store: &Store,
    roots: &Roots,
    (all, prefix): (&[Beside<'_>], &str),
) -> Result<Vec<Written>, Error> {
    let mut found = Vec::new();
    for (folder, files) in roots {
        let own: Vec<&Beside<'_>> = all.iter().filter(|one| one.image == files.image).collect();
        if own.is_empty() {
            continue;
        }
        let subjects = digests(store, files)?;
        for Beside { name, time, say, .. } in own {
            let name = match roots.len() > 1 && folder.as_os_str().is_empty() {
                true => with_platform(name, &files.platform),
                false => name.clone(),
            };
            let path = folder.join(format!("{prefix}{name}"));
            found.push(Written { path, time: *time, bytes: say(subjects.clone()) });
        }
    }
    Ok(found)
}

/// `sbom.spdx.json` as `sbom.spdx.linux_amd64.json`.
fn with_platform(name: &str, platform: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, ending)) => format!("{stem}.{platform}.{ending}"),
        None => format!("{name}.{platform}"),
    }
}

/// Every regular file, by path.
fn digests(store: &Store, files: &Files) -> Result<Vec<(String, Digest)>, Error> {
    let mut found = BTreeMap::new();
    files.each_file(store, |names, content| {
        let mut hasher = Hasher::new();
        let path = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let read = io::copy(content, &mut Hashing(&mut hasher));
        read.map_err(|error| Error::io("read", &PathBuf::from(path(names[0].path)), error))?;
        let digest = hasher.finish();
        found.extend(names.iter().map(|name| (path(name.path), digest)));
        Ok(())
    })?;
    Ok(found.into_iter().collect())
}

struct Hashing<'h>(&'h mut Hasher);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_goes_before_the_ending() {
        assert_eq!(with_platform("sbom.spdx.json", "linux_arm_v7"), "sbom.spdx.linux_arm_v7.json");
        assert_eq!(with_platform("p", "linux_amd64"), "p.linux_amd64");
    }
}
