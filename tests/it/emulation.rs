//! Programs of another architecture: without an emulator the message says how to get one.

use crate::support::program::World;

/// The head of a program for a machine that this is not.
fn foreign_program() -> (&'static str, Vec<u8>) {
    let (platform, machine) =
        if cfg!(target_arch = "x86_64") { ("linux/arm64", 183_u16) } else { ("linux/amd64", 62) };
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend(2_u16.to_le_bytes());
    elf.extend(machine.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    elf.resize(64, 0);
    (platform, elf)
}

#[test]
fn what_cannot_run_is_told_with_what_to_type() {
    let (platform, program) = foreign_program();
    let world = World::new();
    world
        .file("program", program)
        .dockerfile("FROM scratch\nCOPY --chmod=755 program /\nRUN [\"/program\"]\n");
    let ran = world.build(["--platform", platform]).status(1).run();
    let arch = if platform == "linux/arm64" { "qemu-aarch64" } else { "qemu-x86_64" };
    if std::path::Path::new("/proc/sys/fs/binfmt_misc").join(arch).exists() {
        // The emulator itself refuses what is only a head.
        assert!(!ran.stderr.contains("no emulator"), "{}", ran.stderr);
    } else {
        let expected = format!("`/program` is no program that this machine can run ({platform})");
        assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
        assert!(ran.stderr.contains("sudo apt-get install qemu-user-static"), "{}", ran.stderr);
    }
}
