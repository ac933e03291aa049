//! The completions of shells, generated from the options.

use super::Args;
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable that makes the test write the files instead of comparing them.
const WRITE: &str = "HTTPLINES_WRITE_COMPLETIONS";

/// The shells, and their files in packaging/completions/.
const FILES: [(Shell, &str); 3] =
    [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions").join(name)
}

fn completion(shell: Shell) -> Vec<u8> {
    // Commands stand in the help by themselves, and are hidden from its list.
    let mut command = Args::command().mut_subcommands(|command| command.hide(false));
    let mut script = Vec::new();
    generate(shell, &mut command, "httplines", &mut script);
    script
}

#[test]
fn completions_are_up_to_date() {
    for (shell, name) in FILES {
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(path(name), completion(shell)).expect("the folder can be written");
        }
        let committed = std::fs::read(path(name)).unwrap_or_default();
        assert!(
            committed == completion(shell),
            "packaging/completions/{name} is out of date; update it with: {WRITE}=1 cargo test \
             completions"
        );
    }
}

#[test]
fn every_option_and_command_is_completed() {
    let command = Args::command();
    let longs = command.get_arguments().filter_map(|arg| arg.get_long());
    let names = command.get_subcommands().map(clap::Command::get_name);
    let words: Vec<&str> = longs.chain(names).collect();
    assert!(words.len() > 50, "{}", words.len());
    for (shell, name) in FILES {
        let script = String::from_utf8(completion(shell)).expect("text");
        for word in &words {
            assert!(script.contains(word), "{name} lacks {word}");
        }
    }
}

/// What bash proposes for the last of `words`, by the completion in the file at `path`.
fn proposed(path: &Path, words: &[&str]) -> Option<Vec<String>> {
    // As bash calls it: the words, the place of the cursor, and the function with three arguments.
    const ASK: &str = r#"
        source "$1" && shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _httplines "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", ASK, "bash"]).arg(path).args(words);
    let output = bash.output().ok()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    Some(String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect())
}

#[test]
fn bash_completes_options_values_and_commands() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), completion(Shell::Bash)).expect("it is written");
    for (words, wanted) in [
        (&["httplines", "--redact-q"][..], &["--redact-query"][..]),
        (&["httplines", "-i", "lo", "--keep-"], &["--keep-files", "--keep-size", "--keep-free"]),
        (&["httplines", "--fanout", ""], &["flow", "hash", "cpu", "queue"]),
        (&["httplines", "check-c"], &["check-config"]),
        (&["httplines", "doctor", "--inter"], &["--interface"]),
    ] {
        let Some(found) = proposed(file.path(), words) else {
            println!("skipped: there is no bash");
            return;
        };
        assert_eq!(found, wanted, "{words:?}");
    }
    let syntax = Command::new("bash").arg("-n").arg(file.path()).status();
    assert!(syntax.is_ok_and(|status| status.success()));
}
