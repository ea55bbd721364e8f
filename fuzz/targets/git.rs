//! Any text as the URL of a repository: no option for git, and no password in what is shown. And any bytes as what git prints
//! of a repository's own configuration: no submodule of a server leads to this machine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::source::git::GitSource;
use rbuild::source::git::submodules::{Place, Submodule, filters, judge, links, parse, place};

const PASSWORD: &str = "pa55W0RD";

fuzz_target!(|bytes: &[u8]| {
    for submodule in parse(bytes) {
        for parent in [Place::Server, Place::Here] {
            if judge(&submodule, parent).is_ok() {
                is_harmless(&submodule, parent);
            }
        }
    }
    let records = bytes.split(|byte| *byte == 0).count();
    assert!(links(bytes).len() <= records && filters(bytes).len() <= records);
    if let Ok(text) = std::str::from_utf8(bytes) {
        url(text);
    }
});

fn is_harmless(Submodule { name, url }: &Submodule, parent: Place) {
    assert!(!url.is_empty() && !url.starts_with('-') && !url.contains(char::is_control), "{url:?}");
    assert!(!name.is_empty() && !name.starts_with('-') && !name.split('/').any(|part| part == ".."));
    let lower = url.to_ascii_lowercase();
    for program in ["ext::", "fd::", "file::"] {
        assert!(!lower.starts_with(program), "{url:?}");
    }
    if parent == Place::Server {
        assert_eq!(place(url), Place::Server);
        let is_path = ["file://", "/", "./", "../"].iter().any(|start| lower.starts_with(start));
        assert!(!is_path, "{url:?}");
    }
}

fn url(text: &str) {
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
}
