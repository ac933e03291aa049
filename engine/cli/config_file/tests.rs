//! Properties that hold for every option.

use super::*;
use std::io::Write;

/// Values of which each option takes one.
const SAMPLES: [&str; 22] = [
    "1",
    "16",
    "64",
    "2048",
    "http",
    "text",
    "json",
    "lo",
    "1/16",
    "10.0.0.0/8",
    "status=5xx",
    "1h",
    "1G",
    "5%",
    "Via",
    "flow",
    "127.0.0.1:9919",
    "60",
    "inout",
    "list",
    "zstd",
    "root",
];

/// The options that a file may give, with their keys.
fn options() -> Vec<(String, Arg)> {
    let command = Args::command();
    let options = command.get_arguments().filter(|arg| !is_refused(arg));
    let options = options.filter_map(|arg| Some((arg.get_long()?.to_string(), arg.clone())));
    options.collect()
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count)
}

/// What `--config` makes of `document`, with these arguments behind it.
fn read(document: &str, behind: &[&str]) -> Result<(Args, ArgMatches), String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(document.as_bytes()).expect("it is written");
    let line = ["httplines".into(), "--config".into(), file.path().as_os_str().to_os_string()];
    let line: Vec<_> = line.into_iter().chain(behind.iter().map(OsString::from)).collect();
    let name = file.path().display().to_string();
    parse(&line).map_err(|refusal| refusal.sentence.replace(&name, "FILE"))
}

/// All arguments but the file, to compare.
fn arguments_of(args: Args) -> String {
    let config = ConfigArgs { config: None, file: ConfigFile::default() };
    format!("{:?}", Args { config, ..args })
}

fn typed(arguments: &[String]) -> Option<String> {
    let line = std::iter::once("httplines").chain(arguments.iter().map(String::as_str));
    let line: Vec<OsString> = line.map(OsString::from).collect();
    let matches = Args::command().try_get_matches_from(line).ok()?;
    Some(arguments_of(args_of(&matches).ok()?))
}

/// A value that the option takes.
fn sample(key: &str) -> &'static str {
    let taken = |value: &&str| typed(&[format!("--{key}={value}")]).is_some();
    let found = SAMPLES.into_iter().find(|value| taken(value));
    found.unwrap_or_else(|| panic!("SAMPLES lacks a value for {key}"))
}

#[test]
fn every_option_means_the_same_in_a_file_and_on_the_command_line() {
    let without = typed(&[]).expect("nothing is wrong");
    let mut count = 0;
    for (key, arg) in options() {
        count += 1;
        if is_switch(&arg) {
            let (args, _) = read(&format!("{key} = true"), &[]).expect(&key);
            assert_eq!(Some(arguments_of(args)), typed(&[format!("--{key}")]), "{key}");
            let (args, _) = read(&format!("{key} = false"), &[]).expect(&key);
            assert_eq!(arguments_of(args), without, "{key}");
            continue;
        }
        let value = sample(&key);
        let expected = typed(&[format!("--{key}={value}")]).expect("it is taken");
        assert_ne!(expected, without, "{key}");
        let literal =
            if value.parse::<u32>().is_ok() { value.to_string() } else { format!("'{value}'") };
        let mut documents = vec![format!("{key} = \"{value}\""), format!("{key} = {literal}")];
        if matches!(arg.get_action(), ArgAction::Append) {
            documents.push(format!("{key} = [\n  {literal},\n]"));
        }
        for document in documents {
            let (args, _) = read(&document, &[]).expect(&document);
            assert_eq!(arguments_of(args), expected, "{document}");
        }
        if matches!(arg.get_action(), ArgAction::Append) {
            let argument = format!("--{key}={value}");
            let (args, _) = read(&format!("{key} = [{literal}, {literal}]"), &[]).expect(&key);
            assert_eq!(Some(arguments_of(args)), typed(&[argument.clone(), argument]), "{key}");
        }
    }
    assert!(count > 45, "{count}");
}

/// A list is replaced as a whole, too.
#[test]
fn every_option_on_the_command_line_replaces_that_of_the_file() {
    for (key, arg) in options().into_iter().filter(|(_, arg)| !is_switch(arg)) {
        let value = sample(&key);
        let other = SAMPLES
            .into_iter()
            .find(|other| *other != value && typed(&[format!("--{key}={other}")]).is_some());
        // Of --compress, there is one.
        let other = other.unwrap_or(value);
        let is_list = matches!(arg.get_action(), ArgAction::Append);
        let list = if is_list { format!("['{other}', '{other}']") } else { format!("'{other}'") };
        let behind = format!("--{key}={value}");
        let (args, _) = read(&format!("{key} = {list}"), &[&behind]).expect(&key);
        assert_eq!(Some(arguments_of(args)), typed(&[behind]), "{key}");
    }
}

/// With a wrong value, the sentence is that of the command line, with the line in front.
#[test]
fn every_wrong_value_has_its_line_and_the_sentence_of_the_command_line() {
    let mut count = 0;
    for (key, arg) in options() {
        if is_switch(&arg) {
            for value in ["'true'", "1", "[true]", "'no'"] {
                let told = read(&format!("\n\n{key} = {value}"), &[]).expect_err(&key);
                assert_eq!(told, format!("FILE:3: {key} takes true or false, without quotes"));
            }
            continue;
        }
        let argument = format!("--{key}=?");
        let Err(error) = Args::command().try_get_matches_from(["httplines", &argument]) else {
            continue;
        };
        let sentence = usage::sentence(&error);
        let sentence = sentence.strip_prefix("--").expect("it begins with the option");
        let told = read(&format!("# a comment\n{key} = '?'"), &[]).expect_err(&key);
        assert_eq!(told, format!("FILE:2: {sentence}"));
        count += 1;
    }
    assert!(count > 25, "{count}");
}

/// The document of all settings gives the same run again, also with the defaults that are comments.
#[test]
fn settings_are_read_back() {
    for (key, arg) in options() {
        let line = match arg.get_action() {
            ArgAction::SetTrue | ArgAction::Count => format!("{key} = true"),
            ArgAction::Append => format!("{key} = ['{0}', '{0}']", sample(&key)),
            _ => format!("{key} = '{}'", sample(&key)),
        };
        let (args, matches) = read(&line, &["-i", "lo", "-o", "http.jsonl"]).expect(&line);
        let document = settings(&matches, &args.config(), None);
        let expected = arguments_of(args);
        let (again, _) = read(&document, &[]).expect(&document);
        assert_eq!(arguments_of(again), expected, "{document}");
        // If it is given, it also asks for rates where there is no file of statistics.
        let is_line = |line: &&str| {
            !line.starts_with("# ") || line.contains(" = ") && !line.contains("stats-interval")
        };
        let all: Vec<_> = document.lines().filter(is_line).collect();
        let all = all.join("\n").replace("# ", "");
        let (again, _) = read(&all, &[]).expect(&all);
        let config = |args: &Args| format!("{:?}", args.config());
        let (args, _) = read(&line, &["-i", "lo", "-o", "http.jsonl"]).expect(&line);
        assert_eq!(config(&again), config(&args), "{all}");
    }
}

#[test]
fn text_in_settings_is_quoted() {
    let name = "a \"b\" \\ \u{1b}[31m\nä";
    let line = ["httplines", "-i", "lo", "-o", name].map(OsString::from);
    let (args, matches) = parse(&line).expect("a name");
    let document = settings(&matches, &args.config(), Some("0"));
    assert!(!document.contains('\u{1b}') && document.contains("# user = 0\n"), "{document}");
    let (again, _) = read(&document, &[]).expect(&document);
    assert_eq!(again.output, Some(PathBuf::from(name)));
}

/// docs/config.md has a table of them.
#[test]
fn keys_that_are_left_out_are_options_and_on_the_page() {
    let page = include_str!("../../../docs/config.md");
    let rows =
        [("`-i` or `-r`", &apart::INPUTS[..]), ("`-r`", &apart::LIVE), ("`-o -`", &apart::FILES)];
    for (typed, keys) in rows {
        let head = format!("| {typed} | ");
        let row = page.lines().find_map(|line| line.strip_prefix(&head)).expect(typed);
        let named: BTreeSet<&str> = row.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, keys.iter().copied().collect(), "{typed}");
        assert!(keys.iter().all(|key| options().iter().any(|(name, _)| name == key)), "{keys:?}");
    }
}
