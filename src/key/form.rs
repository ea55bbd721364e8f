//! How new layers are written: what the outputs want of their bytes.

use crate::cache::Preimage;
use crate::layer::Compression;
use crate::oci::Seconds;

/// The form of the layers that a build makes. Layers of bases keep theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerForm {
    /// How they are compressed.
    pub compression: Compression,
    /// Times newer than this one become it (`rewrite-timestamp=true`).
    pub newest: Option<Seconds>,
}

impl LayerForm {
    /// Adds what differs from the usual form to a key, so that builds that want other bytes share no layer.
    pub fn push_to(self, key: &mut Preimage) {
        let Self { compression, newest } = self;
        match compression {
            usual if usual == Compression::default() => {}
            other => key.push("compression", other.to_string()),
        }
        if let Some(newest) = newest {
            key.push("newest time", newest.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usual_form_leaves_a_key_alone() {
        let key = |form: LayerForm| {
            let mut key = Preimage::new("x/1");
            form.push_to(&mut key);
            key.key()
        };
        let usual = LayerForm::default();
        assert_eq!(key(usual), Preimage::new("x/1").key());
        let forms = [
            usual,
            LayerForm { newest: Some(0), ..usual },
            LayerForm { newest: Some(1), ..usual },
            LayerForm { compression: Compression::None, ..usual },
            LayerForm { compression: Compression::Gzip { level: 9 }, ..usual },
            LayerForm { compression: Compression::Zstd { level: 9 }, ..usual },
            LayerForm { compression: Compression::Estargz { level: 1 }, ..usual },
            LayerForm { compression: Compression::Estargz { level: 9 }, ..usual },
        ];
        for (at, form) in forms.iter().enumerate() {
            assert!(forms[..at].iter().all(|other| key(*other) != key(*form)), "{form:?}");
        }
    }
}
