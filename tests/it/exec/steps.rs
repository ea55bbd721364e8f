//! What a command finds, and what it leaves.

use rbuild::exec::ExitStatus;

use super::stage::Stage;

#[test]
fn the_exit_code_is_the_commands() {
    let stage = Stage::new();
    let ran = stage.run(&stage.spec("a", "echo out; echo err >&2; exit 42"));
    assert_eq!((ran.status(), ran.out.as_str(), ran.err.as_str()), (ExitStatus::Code(42), "out\n", "err\n"));
}
