//! The program itself.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// What `httplines` does with these arguments and this standard input.
pub fn run(args: &[&str], stdin: Option<&[u8]>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_httplines"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().expect("httplines starts");
    let pipe = child.stdin.take();
    // It reads on only where what it writes is read.
    std::thread::scope(|scope| {
        if let (Some(mut pipe), Some(bytes)) = (pipe, stdin) {
            scope.spawn(move || pipe.write_all(bytes).expect("httplines reads its input"));
        }
        child.wait_with_output().expect("httplines ends")
    })
}

/// What `httplines-bench` does with these arguments.
pub fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(built("httplines-bench"));
    command.args(args).output().expect("httplines-bench starts")
}

/// A program of this workspace, which cargo puts above the folder of the tests: to be found by
/// tests of another package too.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("it runs");
    let folder = test.parent().and_then(|folder| folder.parent()).expect("target/PROFILE/deps");
    let program = folder.join(name);
    assert!(program.exists(), "{name} was not built: cargo test --workspace");
    program
}
