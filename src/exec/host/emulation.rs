//! Programs of other architectures: which emulator the kernel would start, and how to get one.

use std::fs;
use std::path::Path;

use crate::oci::Platform;

const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";
const INSTALL: &str = "sudo apt-get install qemu-user-static binfmt-support";

/// Why programs for `platform` cannot run here and what to type; `None` when nothing is known to be in the way.
pub fn emulation_help(platform: &Platform) -> Option<String> {
    help_from(Path::new(REGISTERED), platform)
}

fn help_from(registered: &Path, platform: &Platform) -> Option<String> {
    if platform.architecture == Platform::host().architecture {
        return None;
    }
    let name = format!("qemu-{}", qemu_name(&platform.architecture));
    let Ok(entry) = fs::read_to_string(registered.join(&name)) else {
        return Some(format!("no emulator for {platform} is registered with binfmt_misc: `{INSTALL}`"));
    };
    if entry.starts_with("disabled") {
        return Some(format!(
            "the emulator for {platform} is disabled: `echo 1 | sudo tee {REGISTERED}/{name}`"
        ));
    }
    let flags = entry.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("");
    // Without it the kernel looks for the emulator in the step's root.
    (!flags.contains('F')).then(|| {
        format!("the emulator for {platform} is registered without the flag F, so that no container finds it: `{INSTALL}`")
    })
}

/// As qemu calls the machines.
fn qemu_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        "mips64le" => "mips64el",
        "mipsle" => "mipsel",
        "loong64" => "loongarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = if Platform::host().architecture == "arm64" { "linux/amd64" } else { "linux/arm64" };
        let platform: Platform = foreign.parse().unwrap();
        let help = || help_from(folder.path(), &platform);
        assert!(help().unwrap().contains(INSTALL));
        let entry = folder.path().join(format!("qemu-{}", qemu_name(&platform.architecture)));
        fs::write(&entry, "disabled\nflags: F\n").unwrap();
        assert!(help().unwrap().contains("is disabled: `echo 1"));
        fs::write(&entry, "enabled\ninterpreter /usr/bin/qemu\nflags: OC\n").unwrap();
        assert!(help().unwrap().contains("without the flag F"));
        fs::write(&entry, "enabled\ninterpreter /usr/bin/qemu\nflags: OCF\n").unwrap();
        assert_eq!(help(), None);
        assert_eq!(help_from(folder.path(), &Platform::host()), None);
    }
}
