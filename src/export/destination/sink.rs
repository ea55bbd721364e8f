//! Where an archive goes: a file that appears when it is complete, or a stream.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::export::{Error, Sink};

/// An archive that is being written. Unless it is finished, a new file disappears on drop.
#[derive(Debug)]
pub(in crate::export) struct OpenSink {
    file: File,
    /// What to call it in messages.
    name: PathBuf,
    /// The temporary file, and where it goes in the end; `None` for a stream.
    pending: Option<(PathBuf, PathBuf)>,
}

impl OpenSink {
    /// Opens what `sink` names. A pipe or a device is written directly; a symlink's target is replaced,
    /// not the symlink.
    pub(in crate::export) fn open(sink: &Sink) -> Result<Self, Error> {
        let path = match sink {
            Sink::Stdout => return Self::stdout(),
            Sink::File(path) => path,
        };
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => return Err(Error::IsADirectory { path }),
            Ok(meta) if !meta.is_file() => {
                let file = OpenOptions::new().write(true).open(&path);
                let file = file.map_err(|e| Error::io("open", &path, e))?;
                return Ok(Self { file, name: path, pending: None });
            }
            _ => {}
        }
        let temporary = beside(&path)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary);
        let file = file.map_err(|e| Error::io("create", &path, e))?;
        Ok(Self { file, name: path.clone(), pending: Some((temporary, path)) })
    }

    fn stdout() -> Result<Self, Error> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Error::Terminal);
        }
        let name = PathBuf::from("<stdout>");
        let fd = stdout.as_fd().try_clone_to_owned().map_err(|e| Error::io("open", &name, e))?;
        Ok(Self { file: fd.into(), name, pending: None })
    }

    /// What to write to. A plain file, so that `io::copy` lets the kernel move the bytes.
    pub(in crate::export) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Names a failed write.
    pub(in crate::export) fn error(&self, source: io::Error) -> Error {
        Error::io("write", &self.name, source)
    }

    /// Lets the file appear under its name.
    pub(in crate::export) fn finish(mut self) -> Result<(), Error> {
        if let Some((temporary, path)) = &self.pending {
            fs::rename(temporary, path).map_err(|e| Error::io("write", path, e))?;
            self.pending = None;
        }
        Ok(())
    }
}

impl Drop for OpenSink {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.pending {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A hidden name in the same directory, so that renaming is possible.
pub(in crate::export) fn beside(path: &Path) -> Result<PathBuf, Error> {
    let Some(name) = path.file_name() else { return Err(Error::IsADirectory { path: path.to_owned() }) };
    let mut hidden = std::ffi::OsString::from(".");
    // Names have at most 255 bytes; what the temporary file is called is nobody's affair.
    let short = name.to_string_lossy().chars().take(40).collect::<String>();
    hidden.push(format!("{short}.{}", crate::store::unique()));
    Ok(path.with_file_name(hidden))
}
