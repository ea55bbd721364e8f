//! How new layers are written: what the outputs want of their bytes.

use crate::cache::Preimage;
use crate::layer::Compression;
use crate::oci::Seconds;

/// The form of the layers that a build makes. Layers of bases keep theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerOptions {
    /// How they are compressed.
    pub compression: Compression,
    /// Times newer than this one become it (`rewrite-timestamp=true`).
    pub newest: Option<Seconds>,
}

impl LayerOptions {
    /// Adds what differs from the usual form to a key, so that builds that want other bytes share no layer; and the version of
    /// how gzip is written.
    pub fn push_to(self, key: &mut Preimage) {
        let Self { compression, newest } = self;
        push_gzip_version(compression, key);
        match compression {
            usual if usual == Compression::default() => {}
            other => key.push("compression", other.to_string()),
        }
        if let Some(newest) = newest {
            key.push("newest time", newest.to_string());
        }
    }
}

/// How segments become gzip: 1, which had no field, was a member for each, 2 is one for all. It is no operation's version, so
/// that layers in other forms are found as before.
const GZIP_VERSION: u32 = 2;

/// For each key of a layer that may be gzip.
pub(super) fn push_gzip_version(compression: Compression, key: &mut Preimage) {
    match compression {
        Compression::Gzip { .. } => key.push("form of gzip", GZIP_VERSION.to_string()),
        Compression::None | Compression::Zstd { .. } | Compression::Estargz { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_key_of_its_own() {
        let key = |form: LayerOptions| {
            let mut key = Preimage::new("x/1");
            form.push_to(&mut key);
            key.key()
        };
        let usual = LayerOptions::default();
        let mut gzip = Preimage::new("x/1");
        gzip.push("form of gzip", "2");
        assert_eq!(key(usual), gzip.key());
        let forms = [
            usual,
            LayerOptions { newest: Some(0), ..usual },
            LayerOptions { newest: Some(1), ..usual },
            LayerOptions { compression: Compression::None, ..usual },
            LayerOptions { compression: Compression::Gzip { level: 9 }, ..usual },
            LayerOptions { compression: Compression::Zstd { level: 9 }, ..usual },
            LayerOptions { compression: Compression::Estargz { level: 1 }, ..usual },
            LayerOptions { compression: Compression::Estargz { level: 9 }, ..usual },
        ];
        for (at, form) in forms.iter().enumerate() {
            assert!(forms[..at].iter().all(|other| key(*other) != key(*form)), "{form:?}");
        }
        // What version 1 wrote under the key without a field is found by nobody.
        assert!(forms.iter().all(|form| key(*form) != Preimage::new("x/1").key()));
    }
}
