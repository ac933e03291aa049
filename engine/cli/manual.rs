//! The manual page, generated from the help of the options.

use super::Args;
use clap::CommandFactory;
use clap_mangen::roff::{Roff, roman};
use std::path::Path;

/// The environment variable that makes the test write the page instead of comparing it.
const WRITE: &str = "HTTPLINES_WRITE_MANUAL";

fn page() -> Vec<u8> {
    let mut page = Vec::new();
    // Options that only --help-all shows are listed here, too.
    let command = Args::command().mut_args(|arg| arg.hide_short_help(false));
    let commands = command.get_subcommands().map(section).collect::<String>();
    // Without a version: the page is committed, and a release must not make it stale.
    let manual = clap_mangen::Man::new(command.clone()).source("httplines").date("");
    manual.render(&mut page).expect("memory takes it");
    let page = String::from_utf8(page).expect("text");
    page.replacen(".SH EXTRA", &format!("{commands}.SH EXTRA"), 1).into_bytes()
}

/// The section of a command: what it does, and its options.
fn section(command: &clap::Command) -> String {
    let name = format!("httplines {}", command.get_name()).to_uppercase();
    let about = command.get_long_about().or(command.get_about()).unwrap_or_default().to_string();
    let mut roff = Roff::new();
    roff.control("SH", [&*name]);
    for (place, paragraph) in about.split("\n\n").enumerate() {
        if place > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph)]);
    }
    let mut options = Vec::new();
    let manual = clap_mangen::Man::new(command.clone());
    manual.render_options_section(&mut options).expect("memory takes it");
    let options = String::from_utf8(options).expect("text");
    let options = options.split_once("\n.TP\n").expect("it has options").1;
    // Values and options are one list.
    format!("{}.TP\n{}", roff.to_roff(), options.replace(".SH OPTIONS\n", ""))
}

#[test]
fn the_manual_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/httplines.1");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, page()).expect("docs/ can be written");
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(
        committed == page(),
        "docs/httplines.1 is out of date; update it with: {WRITE}=1 cargo test manual"
    );
}

#[test]
fn every_option_is_described_in_the_manual_page() {
    let page = String::from_utf8(page()).expect("text");
    let options: Vec<&str> = page.split("\n.TP\n").skip(1).collect();
    assert!(options.len() > 30, "{}", options.len());
    for option in options {
        let (name, text) = option.split_once('\n').expect("a name");
        assert!(text.starts_with(char::is_alphanumeric), "{name} has no description");
    }
}

#[test]
fn help_fits_a_screen() {
    let help = Args::command().term_width(80).render_help().to_string();
    assert!(help.lines().count() <= 40, "{} lines:\n{help}", help.lines().count());
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
}

#[test]
fn every_command_is_told_where_help_is() {
    let (help, long) = (Args::command().render_help(), Args::command().render_long_help());
    let page = String::from_utf8(page()).expect("text");
    let mut count = 0;
    for command in Args::command().get_subcommands() {
        let name = command.get_name();
        assert!(help.to_string().contains(&format!("httplines {name} ")), "--help lacks {name}");
        assert!(long.to_string().contains(&format!("\n  {name} ")), "--help-all lacks {name}");
        let heading = format!(".SH \"HTTPLINES {}\"", name.to_uppercase());
        let section = page.split_once(&heading).unwrap_or_else(|| panic!("no {heading}")).1;
        let section = section.split("\n.SH").next().unwrap_or_default().replace("\\-", "-");
        for arg in command.get_arguments() {
            let value = || arg.get_value_names().map(|names| names[0].to_string());
            let shown = arg.get_long().map(|long| format!("--{long}")).or_else(value);
            let shown = shown.expect("it has a name");
            assert!(section.contains(&shown), "the manual page lacks {shown} of {name}");
        }
        count += 1;
    }
    assert!(count > 0);
}

/// README says that `--help-all` and the manual page list all options.
#[test]
fn every_option_is_listed() {
    let readme = include_str!("../../README.md").replace('\n', " ");
    let claim = "`httplines --help-all` and the manual page, [docs/httplines.1](docs/httplines.1), \
                 list all of them.";
    assert!(readme.contains(claim));
    let help = Args::command().render_long_help().to_string();
    let page = String::from_utf8(page()).expect("text").replace("\\-", "-");
    let mut count = 0;
    for arg in Args::command().get_arguments().filter(|arg| !arg.is_positional()) {
        assert!(!arg.is_hide_set(), "{arg} is hidden");
        let shorts = arg.get_all_short_aliases().into_iter().flatten().chain(arg.get_short());
        let longs = arg.get_all_aliases().into_iter().flatten().chain(arg.get_long());
        let names: Vec<_> =
            shorts.map(|it| format!("-{it}")).chain(longs.map(|it| format!("--{it}"))).collect();
        for name in names {
            let has = |text: &str| {
                text.split([' ', ',', ':', '\n', '.'])
                    .any(|word| word.trim_start_matches("\\fB").trim_end_matches("\\fR") == name)
            };
            assert!(has(&help), "--help-all does not list {name}");
            assert!(has(&page), "docs/httplines.1 does not list {name}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
