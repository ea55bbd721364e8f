//! Opens files that must be regular ones, wherever they lie: in their place somebody may have put a fifo, whose opening would
//! wait for a writer for ever, or a device.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// More than any file that is read whole has.
const LIMIT: u64 = 1 << 30;

/// Opens a regular file for reading; symlinks are followed.
///
/// # Errors
/// Those of open(2), and `InvalidData` where something else than a regular file is.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // For a regular file the flag means nothing.
    let file = File::from(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file")),
    }
}

/// What is in a regular file.
///
/// # Errors
/// Those of [`open_regular`] and of reading; `FileTooLarge` for one of more than 1 GiB.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let size = file.metadata()?.len();
    if size > LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is in a regular file of UTF-8 text.
///
/// # Errors
/// Those of [`read_regular`], and `InvalidData` for what is no UTF-8.
pub fn read_regular_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_regular(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for other in [fifo.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert_eq!(
                read_regular(other).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{}",
                other.display()
            );
        }
        let file = dir.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read_regular_text(&file).unwrap(), "text");
        std::fs::File::options().write(true).open(&file).unwrap().set_len(LIMIT + 1).unwrap();
        assert_eq!(read_regular(&file).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
