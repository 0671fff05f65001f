//! Runs other programs to their end.

use std::process::{Command, Output};

pub fn run(program: &str, arguments: &[&str]) -> String {
    text(expect(0, Command::new(program).args(arguments).output().unwrap()))
}

#[track_caller]
pub fn expect(code: i32, output: Output) -> Output {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "--- stdout\n{out}--- stderr\n{err}---");
    output
}

pub fn text(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
