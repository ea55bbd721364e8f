//! `--chmod`: octal, or symbolic as BSD's `setmode(3)` reads it, which is what BuildKit uses.

use crate::plan::graph::Chmod;

const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const STANDARD: u32 = 0o6777;

/// A parsed `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// No `--chmod`.
    Keep,
    /// The new mode.
    Octal(u32),
    /// Changes to the mode that a file has.
    Symbolic(Vec<Change>),
}

/// One step of a symbolic mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// These bits go.
    Clear(u32),
    /// These bits come.
    Set(u32),
    /// These bits come if the file is a directory or was executable (`X`).
    SetIfExecutable(u32),
    /// The three bits of one class are copied to others (`g=u`).
    Copy {
        /// By how far the source class is shifted: 6, 3 or 0.
        from: u32,
        /// Shifts of the classes that change.
        to: [Option<u32>; 3],
        /// `+`, `-` or `=`.
        operator: char,
    },
}

impl ModeChange {
    /// Parses the symbolic form; octal bits are taken as they are. `None`: it is neither.
    pub fn new(chmod: Option<&Chmod>) -> Option<Self> {
        match chmod {
            None => Some(Self::Keep),
            Some(Chmod::Octal(bits)) => Some(Self::Octal(bits & 0o7777)),
            Some(Chmod::Symbolic(text)) => parse(text).map(Self::Symbolic),
        }
    }

    /// The mode of a file (not a symlink) that had `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Keep => mode,
            Self::Octal(bits) => *bits,
            Self::Symbolic(changes) => {
                let executable = is_dir || mode & 0o111 != 0;
                changes.iter().fold(mode, |now, change| change.apply(now, executable)) & 0o7777
            }
        }
    }

    /// The mode of a directory that the instruction makes on its own account: 0755, or the octal mode without
    /// its upper bits (BuildKit passes it on as plain permissions).
    pub fn made_directory(&self) -> u32 {
        match self {
            Self::Octal(bits) => bits & 0o777,
            Self::Keep | Self::Symbolic(_) => 0o755,
        }
    }
}

impl Change {
    fn apply(self, mode: u32, executable: bool) -> u32 {
        match self {
            Self::Clear(bits) => mode & !bits,
            Self::Set(bits) => mode | bits,
            Self::SetIfExecutable(bits) => mode | if executable { bits } else { 0 },
            Self::Copy { from, to, operator } => {
                let value = mode >> from & 0o7;
                to.into_iter().flatten().fold(mode, |now, shift| match operator {
                    '+' => now | value << shift,
                    '-' => now & !(value << shift),
                    _ => now & !(0o7 << shift) | value << shift,
                })
            }
        }
    }
}

/// `None` for what is no symbolic mode.
fn parse(text: &str) -> Option<Vec<Change>> {
    text.split(',').map(parse_clause).collect::<Option<Vec<_>>>().map(|clauses| clauses.concat())
}

/// `ug+rw-x`: classes, then operators, each with its permissions.
fn parse_clause(clause: &str) -> Option<Vec<Change>> {
    let operators_at = clause.find(|c| !matches!(c, 'a' | 'u' | 'g' | 'o'))?;
    let (classes, mut rest) = clause.split_at(operators_at);
    let who = classes.chars().fold(0, |who, class| who | class_bits(class));
    let mut changes = Vec::new();
    while let Some(operator) = rest.chars().next() {
        if !matches!(operator, '+' | '-' | '=') {
            return None;
        }
        let permissions = &rest[1..];
        let end = permissions.find(['+', '-', '=']).unwrap_or(permissions.len());
        Operation { operator, who, cleared: false, changes: &mut changes }.parse(&permissions[..end])?;
        rest = &permissions[end..];
    }
    Some(changes)
}

fn class_bits(class: char) -> u32 {
    match class {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o0007,
        _ => STANDARD,
    }
}

struct Operation<'c> {
    operator: char,
    /// Bits of the named classes; 0 when none is named, which means all.
    who: u32,
    /// `=` has cleared its bits, which it does once.
    cleared: bool,
    changes: &'c mut Vec<Change>,
}

impl Operation<'_> {
    fn parse(&mut self, permissions: &str) -> Option<()> {
        let (mut bits, mut if_executable) = (0, 0);
        // Set-id and sticky bits are nothing that only `o` could have.
        let upper = self.who == 0 || self.who & !0o7 != 0;
        for permission in permissions.chars() {
            match permission {
                'r' => bits |= 0o444,
                'w' => bits |= 0o222,
                'x' => bits |= 0o111,
                'X' if self.operator == '-' => bits |= 0o111,
                'X' => if_executable |= 0o111,
                's' if upper => bits |= SET_ID,
                't' if upper => {
                    self.who |= STICKY;
                    bits |= STICKY;
                }
                's' | 't' => {}
                'u' | 'g' | 'o' => {
                    if bits != 0 {
                        self.change(std::mem::take(&mut bits));
                    }
                    self.cleared |= self.operator == '=';
                    self.set_if_executable(std::mem::take(&mut if_executable));
                    self.copy(permission);
                }
                _ => return None,
            }
        }
        if bits != 0 || self.operator == '=' && !self.cleared {
            self.change(bits);
        }
        self.set_if_executable(if_executable);
        Some(())
    }

    fn masked(&self, bits: u32) -> u32 {
        if self.who == 0 { bits } else { bits & self.who }
    }

    fn change(&mut self, bits: u32) {
        if self.operator == '=' {
            self.cleared = true;
            self.changes.push(Change::Clear(if self.who == 0 { STANDARD } else { self.who }));
        }
        let bits = self.masked(bits);
        self.changes.push(if self.operator == '-' { Change::Clear(bits) } else { Change::Set(bits) });
    }

    fn set_if_executable(&mut self, bits: u32) {
        if bits != 0 {
            self.changes.push(Change::SetIfExecutable(self.masked(bits)));
        }
    }

    fn copy(&mut self, class: char) {
        let shift = |class| match class {
            'u' => 6,
            'g' => 3,
            _ => 0,
        };
        let to = ['u', 'g', 'o'].map(|target| {
            let named = self.who == 0 || self.who & (0o4 << shift(target)) != 0;
            named.then_some(shift(target))
        });
        self.changes.push(Change::Copy { from: shift(class), to, operator: self.operator });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn symbolic_modes() {
        for (text, mode, is_dir, expected) in [
            ("u=rwX,go=rX", 0o644, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-r,u+s", 0o644, false, 0o4600),
            ("g=u", 0o755, true, 0o775),
            ("g=u", 0o644, false, 0o664),
            ("u=rw", 0o4755, false, 0o655),
            ("a=", 0o6777, false, 0),
            ("=r", 0o1777, false, 0o1444),
            ("+t", 0o755, true, 0o1755),
            ("o+t", 0o755, true, 0o755),
            ("o+s", 0o755, false, 0o755),
            ("a+s", 0o755, false, 0o6755),
            ("u+r-x", 0o111, false, 0o411),
            ("o=g-w", 0o770, false, 0o775),
            ("-X", 0o755, false, 0o644),
        ] {
            let change = ModeChange::new(Some(&Chmod::Symbolic(text.to_owned()))).unwrap();
            assert_eq!(change.apply(mode, is_dir), expected, "{text} on {mode:o}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "u", "rwx", "u+q", "99999", "u+r,", "a*x"] {
            assert_eq!(ModeChange::new(Some(&Chmod::Symbolic(text.to_owned()))), None, "{text}");
        }
    }
}
