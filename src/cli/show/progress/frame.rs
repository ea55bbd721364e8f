//! Lines of a terminal: how large it is, colours, and text whose width is known.

use std::borrow::Cow;

use crate::text::terminal::columns;

/// Room for the moving part of the display.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Lines that may be used.
    pub(super) rows: usize,
    /// Columns that may be used.
    pub(super) columns: usize,
}

impl Size {
    /// As standard error is now. A line and a column stay free, so that drawing the last of either scrolls nothing.
    pub(super) fn now() -> Self {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        // Some terminals, such as those of CI, say 0.
        let or = |given: u16, usual: usize| if given == 0 { usual } else { given.into() };
        Self { rows: (or(rows, 24) - 1).max(1), columns: (or(columns, 80) - 1).max(10) }
    }
}

/// Colours, if the terminal may have them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    /// It may.
    pub(super) color: bool,
    /// It shows more than ASCII.
    pub(super) unicode: bool,
    /// What `$BUILDKIT_COLORS` says.
    pub(super) colors: Colors,
}

/// Colours of `$BUILDKIT_COLORS`, where they are not the usual ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Colors {
    /// Of steps that ended well.
    run: Option<Color>,
    /// Of steps that failed.
    error: Option<Color>,
}

/// One colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Color {
    /// By its number in a terminal.
    Named(u8),
    /// Red, green, blue.
    Mixed(u8, u8, u8),
}

impl Colors {
    /// Reads `run=green:warning=yellow:error=255,0,0:cancel=cyan`, as BuildKit does; what it has no use for, or cannot be read, changes
    /// nothing.
    pub(super) fn parse(text: &str) -> Self {
        let mut colors = Self::default();
        for (key, value) in text.split(':').filter_map(|field| field.split_once('=')) {
            match key.trim() {
                "run" => colors.run = Color::parse(value.trim()).or(colors.run),
                "error" => colors.error = Color::parse(value.trim()).or(colors.error),
                _ => {}
            }
        }
        colors
    }
}

impl Color {
    const NAMES: [&'static str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

    fn parse(text: &str) -> Option<Self> {
        if let Some(at) = Self::NAMES.iter().position(|name| *name == text) {
            return Some(Self::Named(30 + at as u8));
        }
        let light =
            text.strip_prefix("light-").and_then(|text| Self::NAMES.iter().position(|name| *name == text));
        if let Some(at) = light {
            return Some(Self::Named(90 + at as u8));
        }
        let mut parts = text.split(',').map(|part| part.trim().parse().ok());
        match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
            (Some(red), Some(green), Some(blue), None) => Some(Self::Mixed(red, green, blue)),
            _ => None,
        }
    }

    fn code(self) -> String {
        match self {
            Self::Named(code) => code.to_string(),
            Self::Mixed(red, green, blue) => format!("38;2;{red};{green};{blue}"),
        }
    }
}

/// Whether the locale says that the terminal shows nothing but ASCII: `C`, or a character set other than UTF-8. Where nothing is
/// said, as in most containers, terminals show UTF-8.
pub(super) fn shows_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    set.is_none_or(|value| {
        let value = value.to_ascii_lowercase();
        value.ends_with("utf-8")
            || value.ends_with("utf8")
            || value.contains("utf-8@")
            || value.contains("utf8@")
    })
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        match self.color && !text.is_empty() {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    /// A line that was cut, whose mark of that the terminal may not show.
    pub(super) fn shown(self, line: &str) -> Cow<'_, str> {
        match self.unicode {
            true => line.into(),
            false => line.replace('…', "~").into(),
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        match self.colors.error {
            None => self.with("31", text),
            Some(color) => self.with(&color.code(), text),
        }
    }

    pub(super) fn green(self, text: &str) -> String {
        match self.colors.run {
            None => self.with("32", text),
            Some(color) => self.with(&color.code(), text),
        }
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }
}

/// A line under construction.
pub(super) struct Line(String);

impl Line {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// Its width; colours have none.
    pub(super) fn columns(&self) -> usize {
        columns(&self.0)
    }

    pub(super) fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// Blanks up to `columns`.
    pub(super) fn pad(&mut self, columns: usize) {
        let missing = columns.saturating_sub(self.columns());
        self.0.extend(std::iter::repeat_n(' ', missing));
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_buildkit() {
        let paint = |text: &str| {
            let paint = Paint { color: true, unicode: true, colors: Colors::parse(text) };
            format!("{} {}", paint.green("x"), paint.red("y")).replace('\u{1b}', "")
        };
        for (text, expected) in [
            ("", "[32mx[0m [31my[0m"),
            ("run=blue:error=light-magenta", "[34mx[0m [95my[0m"),
            ("run=1,2,3:cancel=red", "[38;2;1;2;3mx[0m [31my[0m"),
            ("run=1,2:error=nocolour:x", "[32mx[0m [31my[0m"),
        ] {
            assert_eq!(paint(text), expected, "{text}");
        }
    }

    #[test]
    fn the_locale_says_what_a_terminal_shows() {
        let shows = |set: &[(&str, &str)]| {
            shows_unicode(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        };
        for locale in ["C.UTF-8", "de_DE.utf8", "ca_ES.UTF-8@valencia"] {
            assert!(shows(&[("LANG", locale)]), "{locale}");
        }
        for locale in ["C", "POSIX", "de_DE@euro", "ru_RU.KOI8-R"] {
            assert!(!shows(&[("LANG", locale)]), "{locale}");
        }
        assert!(shows(&[]));
        assert!(shows(&[("LC_ALL", ""), ("LANG", "C.UTF-8")]), "empty is not set");
        assert!(!shows(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]), "the first counts");
    }
}
