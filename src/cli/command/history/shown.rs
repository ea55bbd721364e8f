//! How the commands of `rbuild history` write times, and what they say beside.

pub(super) use crate::cli::show::notes::note;

/// As buildx: `12.3s`, `2m  5s`.
pub(super) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds < 60 {
        true => format!("{:.1}s", milliseconds as f64 / 1000.0),
        false => format!("{}m {:2}s", seconds / 60, seconds % 60),
    }
}
