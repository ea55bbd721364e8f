//! Whose signatures are believed: files of public keys, or of `allowed_signers` as `ssh-keygen -Y verify -f` reads them.

use std::path::Path;
use std::sync::Arc;

use ssh_key::{Algorithm, PublicKey, SshSig};

use super::{Error, Refused, verify};
use crate::oci::{Seconds, parse_rfc3339};

/// Keys that are trusted. Cheap to copy.
#[derive(Debug, Clone, Default)]
pub struct Signers(Arc<Vec<Signer>>);

#[derive(Debug)]
struct Signer {
    key: PublicKey,
    /// `namespaces="…"`; none for all.
    namespaces: Option<Vec<String>>,
    after: Option<Seconds>,
    before: Option<Seconds>,
}

impl PartialEq for Signers {
    fn eq(&self, other: &Self) -> bool {
        let keys = |signers: &Self| signers.0.iter().map(|s| s.key.clone()).collect::<Vec<_>>();
        keys(self) == keys(other)
    }
}

impl Signers {
    /// Reads files whose lines are public keys, or `PRINCIPALS [OPTIONS] KEY` with the options `namespaces`, `valid-after` and
    /// `valid-before`. Who the principals are is not asked.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Line`] also when there is no key at all: a list that trusts nobody is a mistake.
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let mut signers = Vec::new();
        for path in paths.iter().map(AsRef::as_ref) {
            let bytes =
                std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
            let text = String::from_utf8_lossy(&bytes);
            let error = |line, reason| Error::Line { path: path.to_owned(), line, reason };
            let before = signers.len();
            for (line, text) in (1..).zip(text.lines()) {
                let text = text.trim();
                if !text.is_empty() && !text.starts_with('#') {
                    signers.push(Signer::parse(text).map_err(|reason| error(line, reason))?);
                }
            }
            if signers.len() == before {
                return Err(error(1, "there is no key in it"));
            }
        }
        Ok(Self(Arc::new(signers)))
    }

    /// Whether one of these keys signed `message` at `time`.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn check(
        &self,
        namespace: &str,
        message: &[u8],
        time: Seconds,
        signature: &str,
    ) -> Result<(), Refused> {
        let signature = SshSig::from_pem(signature).map_err(|_| Refused::Unreadable)?;
        let is_trusted = |signer: &&Signer| {
            signer.key.key_data() == signature.public_key() && signer.holds_for(namespace, time)
        };
        let signer = self.0.iter().find(is_trusted).ok_or(Refused::Unknown)?;
        verify(&signer.key, namespace, message, &signature)
    }
}

impl Signer {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let words = words(line);
        let is_type = |word: &&str| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start));
        let at = words.iter().position(is_type).ok_or("it is no public key")?;
        let text = words.get(at..at + 2).ok_or("it is no public key")?.join(" ");
        let key = PublicKey::from_openssh(&text).map_err(|_| "it is no public key")?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err("only ed25519 is supported");
        }
        let mut signer = Self { key, namespaces: None, after: None, before: None };
        // Before the key stand principals and then options, if anything.
        for option in words.get(1..at).unwrap_or_default().iter().flat_map(|word| options(word)) {
            signer.take(&option)?;
        }
        Ok(signer)
    }

    fn take(&mut self, option: &str) -> Result<(), &'static str> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        let time = || moment(value).ok_or("its time is not of the form YYYYMMDD[HHMM[SS]]Z");
        match name.to_lowercase().as_str() {
            "namespaces" => self.namespaces = Some(value.split(',').map(str::to_owned).collect()),
            "valid-after" => self.after = Some(time()?),
            "valid-before" => self.before = Some(time()?),
            "cert-authority" => return Err("certificates are not supported; name the key itself"),
            _ => return Err("its options are not understood"),
        }
        Ok(())
    }

    fn holds_for(&self, namespace: &str, time: Seconds) -> bool {
        let is_meant = |known: &String| known == namespace || known == "*";
        self.namespaces.as_ref().is_none_or(|known| known.iter().any(is_meant))
            && self.after.is_none_or(|after| time >= after)
            && self.before.is_none_or(|before| time < before)
    }
}

/// The words of a line; blanks in quotes do not part them.
fn words(line: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let is_blank = move |c: char| {
        is_quoted ^= c == '"';
        c.is_whitespace() && !is_quoted
    };
    line.split(is_blank).filter(|word| !word.is_empty()).collect()
}

/// The options of a word; commas in quotes do not part them.
fn options(word: &str) -> Vec<String> {
    let mut is_quoted = false;
    let is_comma = move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    };
    word.split(is_comma).map(str::to_owned).collect()
}

/// `YYYYMMDD[HHMM[SS]][Z]`. OpenSSH takes a time without `Z` for this machine's; here all are UTC, so that machines agree.
fn moment(text: &str) -> Option<Seconds> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let is_time = matches!(digits.len(), 8 | 12 | 14) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let all = format!("{digits:0<14}");
    let part = |from: usize, to: usize| all.get(from..to);
    let (date, clock) = (
        [part(0, 4)?, part(4, 6)?, part(6, 8)?].join("-"),
        [part(8, 10)?, part(10, 12)?, part(12, 14)?].join(":"),
    );
    parse_rfc3339(&format!("{date}T{clock}Z")).filter(|_| is_time)
}
