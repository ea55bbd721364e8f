//! What became of one path, layer by layer.

use super::contents::{Change, Contents, File};

/// What a layer did to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'i> {
    /// It brought the file, or another one in the place of what was there.
    Brought {
        /// The layer.
        layer: usize,
        /// Bytes that it has.
        size: u64,
        /// Whether something was there before.
        replaces: bool,
    },
    /// It removed it, alone or with something above it.
    Removed {
        /// The layer.
        layer: usize,
        /// What it says is gone.
        with: &'i [u8],
    },
}

/// What a layer did below a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Below {
    /// The layer.
    pub layer: usize,
    /// Files that were not there.
    pub added: usize,
    /// Files that it has another of.
    pub changed: usize,
    /// Files and folders that it removed.
    pub removed: usize,
    /// Bytes of what it brought.
    pub bytes: u64,
    /// Of these, bytes that a later layer hides.
    pub hidden_bytes: u64,
}

/// The history of a file, the lowest layer first; `path` is from the root, without a slash before it. Nothing of what was never there.
pub fn of_file<'i>(contents: &Contents<'i>, path: &[u8]) -> Vec<Event<'i>> {
    let mut events = Vec::new();
    for (layer, files) in contents.layers.iter().enumerate() {
        let Some(file) = find(files, path).filter(|file| file.is_brought()) else { continue };
        let replaces = file.change == Change::Changed;
        events.push(Event::Brought { layer, size: file.size, replaces });
        let Some(by) = file.hidden_by else { continue };
        // A layer that has another file there tells of itself.
        let has_other = contents.layers.get(by).is_some_and(|files| find_brought(files, path));
        if !has_other {
            let with = contents.layers.get(by).and_then(|files| gone_with(files, path)).unwrap_or(file.path);
            events.push(Event::Removed { layer: by, with });
        }
    }
    events
}

/// What each layer did below a folder, the lowest first; layers that did nothing there are left out.
pub fn of_folder(contents: &Contents<'_>, path: &[u8]) -> Vec<Below> {
    let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
    let mut found = Vec::new();
    for (layer, files) in contents.layers.iter().enumerate() {
        let mut below = Below { layer, ..Below::default() };
        let from = files.partition_point(|file| file.path < prefix.as_slice());
        let inside = files[from..].iter().take_while(|file| file.path.starts_with(&prefix));
        // The folder as a whole, or one above it, may be what is removed.
        let above = gone_with(files, path).is_some() && !path.is_empty();
        for file in inside {
            match file.change {
                Change::Added => below.added += 1,
                Change::Changed => below.changed += 1,
                Change::Removed { .. } => below.removed += 1,
            }
            if file.is_brought() {
                below.bytes += file.size;
                below.hidden_bytes += if file.hidden_by.is_some() { file.size } else { 0 };
            }
        }
        below.removed += usize::from(above);
        if below.added + below.changed + below.removed > 0 {
            found.push(below);
        }
    }
    found
}

fn find<'f, 'i>(files: &'f [File<'i>], path: &[u8]) -> Option<&'f File<'i>> {
    let at = files.partition_point(|file| file.path < path);
    // A folder that is replaced by a file is there twice.
    files[at..].iter().take_while(|file| file.path == path).last()
}

fn find_brought(files: &[File<'_>], path: &[u8]) -> bool {
    find(files, path).is_some_and(File::is_brought)
}

/// The path, or what is above it, that a layer removes.
fn gone_with<'i>(files: &[File<'i>], path: &[u8]) -> Option<&'i [u8]> {
    let mut path = path;
    loop {
        let at = files.partition_point(|file| file.path < path);
        let mut same = files[at..].iter().take_while(|file| file.path == path);
        if let Some(file) = same.find(|file| !file.is_brought()) {
            return Some(file.path);
        }
        path = &path[..path.iter().rposition(|byte| *byte == b'/')?];
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::tests::layer;
    use super::*;

    #[test]
    fn a_file_has_a_history() {
        let layers = [
            layer(&["a/x 10", "a/y 5", "b 1"]),
            layer(&["a/x 12"]),
            layer(&["a -"]),
            layer(&["a/x 3"]),
            layer(&["b -"]),
        ];
        let contents = Contents::of(&layers);
        assert_eq!(
            of_file(&contents, b"a/x"),
            [
                Event::Brought { layer: 0, size: 10, replaces: false },
                Event::Brought { layer: 1, size: 12, replaces: true },
                Event::Removed { layer: 2, with: b"a" },
                Event::Brought { layer: 3, size: 3, replaces: false },
            ]
        );
        assert_eq!(
            of_file(&contents, b"b"),
            [Event::Brought { layer: 0, size: 1, replaces: false }, Event::Removed { layer: 4, with: b"b" },]
        );
        assert_eq!(of_file(&contents, b"no"), []);
        let told: Vec<_> = of_folder(&contents, b"a")
            .iter()
            .map(|b| (b.layer, b.added, b.changed, b.removed, b.bytes, b.hidden_bytes))
            .collect();
        assert_eq!(
            told,
            [(0, 2, 0, 0, 15, 15), (1, 0, 1, 0, 12, 12), (2, 0, 0, 1, 0, 0), (3, 1, 0, 0, 3, 0)]
        );
        assert_eq!(of_folder(&contents, b"").len(), 5);
    }
}
