//! Runs the program.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// The output of `httplines` with these arguments and this standard input.
pub fn run(args: &[&str], stdin: Option<&[u8]>) -> Output {
    let mut command = Command::new(crate::httplines());
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().expect("httplines starts");
    let pipe = child.stdin.take();
    // It reads more only while its output is read.
    std::thread::scope(|scope| {
        if let (Some(mut pipe), Some(bytes)) = (pipe, stdin) {
            scope.spawn(move || pipe.write_all(bytes).expect("httplines reads its input"));
        }
        child.wait_with_output().expect("httplines ends")
    })
}
