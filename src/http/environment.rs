//! The variables of the environment, as a value.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// A copy of the environment's variables, so that tests need not change those of the process.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// That of this process.
    pub fn from_process() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// One in which nothing is set.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sets a variable, in this value alone.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// The first of `names` that is set, as text.
    pub(crate) fn text(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name)?.to_str())
    }

    /// A path made of a variable and what comes below it.
    pub(crate) fn path(&self, name: &str, below: &str) -> Option<PathBuf> {
        Some(PathBuf::from(self.get(name)?).join(below))
    }
}

/// Values can be secrets, and stay out of it.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
