//! STOPSIGNAL: which words are signals.

const NAMES: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Whether `text` is a number other than 0, or a name that Linux knows, with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || is_realtime(name)
}

/// `RTMIN`, `RTMIN+1` to `RTMIN+15`, `RTMAX-14` to `RTMAX-1`, `RTMAX`.
fn is_realtime(name: &str) -> bool {
    let within = |text: &str, last: u8| {
        text.is_empty()
            || text.get(1..).and_then(|n| n.parse::<u8>().ok()).is_some_and(|n| (1..=last).contains(&n))
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => within(rest, 15) && !rest.starts_with('-'),
        (_, Some(rest)) => within(rest, 14) && !rest.starts_with('+'),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn knows_signals() {
        for text in ["9", "SIGTERM", "term", "sigusr1", "RTMIN", "SIGRTMIN+15", "rtmax-1", "64"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "SIGNOPE", "RTMIN+16", "RTMIN-1", "RTMAX+1", "RTMAX-15", "SIG", "$S"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
