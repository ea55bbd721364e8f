//! Any text as the URL of a repository and of a file: no option for git, and no password in what is shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::solve::remote_git::GitSource;

const PASSWORD: &str = "pa55W0RD";

fuzz_target!(|text: &str| {
    for (keep_git_dir, checksum) in [(false, None), (true, Some("0123"))] {
        let _ = GitSource::new(text, checksum, keep_git_dir);
    }
    if text.contains(PASSWORD) {
        return;
    }
    for scheme in ["https", "ssh"] {
        let url = format!("{scheme}://user:{PASSWORD}@{text}");
        let shown = match GitSource::new(&url, None, false) {
            Ok(source) => source.movable_name().unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
});
