//! A build with nothing to do, by the program itself, from its start to its end: a context of 10,000 files, unchanged
//! since the last build, takes 75 ms.

use std::process::{Command, Stdio};

use super::{Setting, Work, tree};

/// Builds once, and then again and again.
pub(crate) fn build(setting: &Setting, files: usize) -> Work {
    let (context, store) = (setting.scratch.join("context"), setting.scratch.join("store"));
    tree::make(&context.join("code"), files);
    let dockerfile = "FROM scratch\nWORKDIR /app\nCOPY code/m00 m00\nCOPY . .\nENV A=b\nCMD [\"/app/run\"]\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).expect("the Dockerfile can be written");
    Box::new(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.args(["-q", "--root"]).arg(&store).arg(&context).stdout(Stdio::null());
        assert!(command.status().expect("the program runs").success(), "the build failed");
    })
}
