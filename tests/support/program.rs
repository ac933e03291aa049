//! The program itself.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What `httplines` does with these arguments and this standard input.
pub fn run(args: &[&str], stdin: Option<&[u8]>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_httplines"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().expect("httplines starts");
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), stdin) {
        pipe.write_all(bytes).expect("httplines reads its input");
    }
    child.wait_with_output().expect("httplines ends")
}
