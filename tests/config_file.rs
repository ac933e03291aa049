//! `--config FILE` and `check-config FILE`: what a file gives, what wins over it, and what is told
//! about a wrong one. That every option means the same in a file is a unit test of
//! `engine/cli/config_file.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use crate::commands::{self, program};

/// A directory with `good.pcap` of three exchanges, and `f.toml`.
fn place(document: impl AsRef<[u8]>) -> TempDir {
    let place = commands::place();
    fs::write(place.path().join("f.toml"), document).expect("a file");
    place
}

fn run(line: &str, place: &Path) -> Output {
    commands::run(program(), line, place)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The names in a directory.
fn names(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).expect("a directory");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    names
}

/// What the program says about `document`, in one line.
fn refusal(document: impl AsRef<[u8]>, behind: &str, code: i32) -> String {
    let place = place(document);
    let output = run(&format!("--config f.toml {behind}"), place.path());
    let told = told(&output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(output.stdout.is_empty() && told.lines().count() == 1, "{told}");
    assert!(!place.path().join("out.jsonl").exists(), "{told}");
    told.strip_prefix("httplines: ").expect("its name").trim_end().to_string()
}

#[test]
fn a_file_gives_the_options() {
    let document = "read = 'good.pcap'\noutput = \"out.jsonl\"\nheader = ['Host']\ncount = 2\n\
                    quiet = true\nall-headers = false\n";
    let place = place(document);
    let output = run("--config f.toml", place.path());
    assert_eq!((output.status.code(), told(&output)), (Some(0), String::new()));
    let typed = run("-r good.pcap -o - --header Host -c 2 -q", place.path());
    let lines = fs::read(place.path().join("out.jsonl")).expect("lines");
    assert_eq!(String::from_utf8_lossy(&lines), stdout(&typed));
    assert_eq!(stdout(&typed).matches("\"request_headers\":[[\"Host\"").count(), 2);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    let slash = |number| refusal(format!("read = 'good.pcap'\n\nsample = '1/{number}'\n"), "", 2);
    assert!(slash(0).starts_with("f.toml:3: sample takes one in a number of connections"));
    for (document, says) in [
        // Keys
        ("\nsesions = 4", "f.toml:2: there is no option sesions; did you mean sessions?"),
        (
            "rotate_size = '1G'",
            "f.toml:1: there is no option rotate_size; did you mean rotate-size",
        ),
        ("i = 'lo'", "f.toml:1: there is no option i; did you mean interface?"),
        ("host = 'a'", "f.toml:1: there is no option host; --net takes addresses and networks"),
        ("'a=b' = 'a'", "f.toml:1: there is no option a=b; httplines --help lists the options"),
        ("config = 'g.toml'", "f.toml:1: config is for the command line only; leave it out here"),
        ("help = true", "f.toml:1: help is for the command line only"),
        ("version = true", "f.toml:1: version is for the command line only"),
        ("list-interfaces = true", "f.toml:1: list-interfaces is for the command line only"),
        ("doctor = true", "f.toml:1: there is no option doctor"),
        ("[capture]\ninterface = 'lo'", "f.toml:1: there are no sections, such as capture; the"),
        ("output.file = 'x'", "f.toml:1: output takes a text in quotes, or a number"),
        // Values
        ("shards = 0", "f.toml:1: shards takes a whole number from 1 to 1024, not 0"),
        ("shards = 'two'", "f.toml:1: shards takes a whole number from 1 to 1024, not two"),
        ("shards = 99999999999999999999", "f.toml:1: "),
        ("shards = true", "f.toml:1: shards takes a text in quotes, or a number"),
        ("shards = [1, 2]", "f.toml:1: shards takes one value, and no list"),
        ("output = 1979-05-27", "f.toml:1: output takes a text in quotes, or a number"),
        ("output = ''", "f.toml:1: output needs a value; see httplines --help"),
        ("interface = ['lo', '']", "f.toml:1: interface needs a value"),
        ("output = \"a\\u0000b\"", "f.toml:1: output takes no text with a NUL byte"),
        ("format = 'xml'", "f.toml:1: format takes text or json, not xml"),
        ("quiet = 'true'", "f.toml:1: quiet takes true or false, without quotes"),
        ("verbose = 2", "f.toml:1: verbose takes true or false, without quotes"),
        ("port = [\n  80,\n  'http',\n]", "f.toml:3: port takes ports from 0 to 65535, such as 80"),
        ("port = [\n  [80],\n]", "f.toml:2: port takes a text in quotes, or a number"),
        ("keep-free = '100%'", "f.toml:1: keep-free takes a part from 1% to 99%, or a size such"),
        // Not TOML
        ("interface = eth0", "f.toml:1: this is no TOML: "),
        ("\n\n\n[", "f.toml:4: this is no TOML: "),
        ("quiet = true\nshards = 1\nquiet = false\n", "f.toml:3: quiet is given twice; give it"),
        // Options that do not go together
        ("interface = 'lo'\nread = 'good.pcap'", "f.toml:1: -i captures and -r reads a file, and"),
        ("read = 'good.pcap'\nshed = true", "f.toml:2: --shed is for capturing with -i"),
        ("interface = 'any'\nkeep-files = 3\noutput = 'out.jsonl'", "f.toml:2: -W, --keep-size"),
        ("interface = ['any', 'lo']", "f.toml:1: -i any includes all other interfaces"),
        ("interface = 'lo'\n\nblock-kib = 100", "f.toml:3: "),
        ("read = 'good.pcap'\nuser = 'no such user'", "f.toml:2: -Z: there is no user no such"),
        ("# nothing", "name an interface with -i (-D lists them) or a capture file with -r"),
    ] {
        let told = refusal(document, "", 2);
        assert!(told.starts_with(says), "{document}: {told}");
    }
    assert_eq!(
        refusal(b"quiet = true\n# \xff\n", "", 2),
        "f.toml:2: this is not UTF-8, so it is no TOML"
    );
    let large = "#".repeat(1 << 20) + "\n";
    assert!(refusal(large, "", 2).starts_with("f.toml:1: a configuration has at most 1 MiB"));
}

/// The codes are those of other files.
#[test]
fn a_file_that_cannot_be_read() {
    let place = place("");
    for command in ["--config", "check-config"] {
        for (name, says) in [
            ("none.toml", "httplines: none.toml: no such file; check the path\n"),
            ("f.toml/x", "httplines: f.toml/x: no such file; check the path\n"),
            ("dir", "httplines: dir is a directory; name a file in it\n"),
        ] {
            let output = run(&format!("{command} {name}"), place.path());
            assert_eq!((output.status.code(), &*told(&output)), (Some(1), says));
        }
    }
    let output = run("--config f.toml --config f.toml", place.path());
    assert!(told(&output).contains("--config was given more than once"), "{}", told(&output));
    let output = run("check-config", place.path());
    let says = "httplines: FILE is missing; see httplines check-config --help\n";
    assert_eq!((output.status.code(), &*told(&output)), (Some(2), says));
}

#[test]
fn the_command_line_wins() {
    let document = "read = 'none.pcap'\nport = [1, 2]\nheader = ['Via']\nquiet = true\ncount = 1\n";
    let place = place(document);
    let output =
        run("--config f.toml -r good.pcap --port 80 --header Host -c 2 -o -", place.path());
    assert_eq!((output.status.code(), told(&output)), (Some(0), String::new()));
    let typed = run("-r good.pcap --port 80 --header Host -c 2 -o -", place.path());
    assert_eq!(stdout(&output), stdout(&typed));
    assert_eq!(stdout(&output).lines().count(), 2);
}

/// `-r` replaces `interface`, and `-o -` the file with its rotation: a service's file is good for
/// looking at a capture, too.
#[test]
fn another_input_and_output_need_not_what_belongs_to_those_of_the_file() {
    let document = "interface = 'lo'\ndirection = 'in'\nshed = true\nwait = true\n\
                    stats-interval = 5\noutput = 'out.jsonl'\nrotate-size = '1G'\nkeep-files = 2\n\
                    compress = 'zstd'\noutput-per-shard = true\nredact-query = true\n";
    let place = place(document);
    let output = run("--config f.toml -r good.pcap -o -", place.path());
    assert_eq!((output.status.code(), stdout(&output).lines().count()), (Some(0), 3));
    let note = "httplines: left out of f.toml, as they do not apply here: compress, direction, \
                interface, keep-files, output-per-shard, rotate-size, shed, stats-interval, wait\n";
    assert!(told(&output).starts_with(note), "{}", told(&output));
    assert!(!place.path().join("out.jsonl").exists());
    let output = run("--config f.toml -r good.pcap -o - -q", place.path());
    assert_eq!((output.status.code(), told(&output)), (Some(0), String::new()));
    // What was typed is not left out.
    for (typed, says) in [
        ("-r good.pcap -o - --shed", "httplines: --shed is for capturing with -i"),
        ("-r good.pcap -o - -W 3", "httplines: standard output and text lines are not rotated"),
    ] {
        let output = run(&format!("--config f.toml -q {typed}"), place.path());
        assert_eq!(output.status.code(), Some(2));
        assert!(told(&output).starts_with(says), "{}", told(&output));
    }
}

#[test]
fn check_config_prints_all_settings_and_leaves_nothing_behind() {
    let document = "interface = 'lo'\noutput = 'out.jsonl'\nshards = 3\nheader = 'Via,Host'\n";
    let place = place(document);
    let before = names(place.path());
    let output = run("check-config f.toml -c 5", place.path());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(told(&output), "httplines: f.toml is in order\n");
    let settings = stdout(&output);
    for line in [
        "interface = [\"lo\"]",
        "output = \"out.jsonl\"",
        "shards = 3",
        "header = [\"Via\", \"Host\"]",
        "count = 5",
        "# format = \"json\"",
        "# retire-timeout-ms = 2",
        "# shed = false",
        "# port: not set",
    ] {
        assert!(settings.lines().any(|it| it == line), "{line}:\n{settings}");
    }
    assert_eq!(names(place.path()), before);
    fs::write(place.path().join("f.toml"), &settings).expect("a file");
    assert_eq!(stdout(&run("check-config f.toml", place.path())), settings);
}

/// All of them, not only the first one.
#[test]
fn check_config_tells_all_that_keeps_a_run_from_starting() {
    for (document, behind, says) in [
        (
            "shards = 0\nfoo = 1\nformat = 'xml'",
            "",
            &[
                "f.toml:1: shards takes a whole number",
                "f.toml:2: there is no option foo",
                "f.toml:3: format takes text or json",
            ][..],
        ),
        ("output = 'out.jsonl'", "", &["name an interface with -i"]),
        (
            "output = 'no/out.jsonl'\nuser = 'no such user'\nbuffer-size = 4000000\nshards = 1024",
            "-i lo",
            &[
                "f.toml:2: -Z: there is no user no such user",
                "f.toml:1: cannot write no/out.jsonl: there is no directory no; make it first",
                "f.toml:3: the rings need 4000000 MiB of memory",
            ],
        ),
        (
            "interface = 'lo'\noutput = 'out.0.pcap'",
            "",
            &["f.toml:2: cannot write out.0.pcap: it is a capture"],
        ),
        (
            "interface = 'lo'\noutput = 'symlink'",
            "",
            &["f.toml:2: cannot write symlink: it is a symbolic li"],
        ),
        (
            "interface = 'lo'\noutput = 'dir'",
            "",
            &["f.toml:2: dir is a directory; name a file in it"],
        ),
        ("interface = 'lo'", "--sesions 3", &["there is no option --sesions; did you mean --sess"]),
        ("interface = 'lo'", "port 80", &["\"port\" is not an option, and there are no filter"]),
        ("interface = 'lo'\nkeep-files = 4", "", &["f.toml:2: standard output and text lines are"]),
    ] {
        let place = place(document);
        let before = names(place.path());
        let output = run(&format!("check-config f.toml {behind}"), place.path());
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(output.stdout.is_empty());
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), says.len(), "{document}:\n{told}");
        for (line, says) in lines.iter().zip(says) {
            let line = line.strip_prefix("httplines: ").expect("its name");
            assert!(line.starts_with(says), "{document}: {line}");
        }
        assert_eq!(names(place.path()), before);
    }
}

/// An interface may come later.
#[test]
fn check_config_only_notes_an_interface_that_is_not_there() {
    let place = place("interface = ['lo', 'eth77']\noutput = 'out.jsonl'\n");
    let output = run("check-config f.toml", place.path());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let note = "httplines: there is no interface eth77; there are: ";
    assert!(told(&output).starts_with(note), "{}", told(&output));
}

/// The file of the package: as it is, and with each line that is a comment there.
#[test]
fn the_packaged_file_is_in_order() {
    const PACKAGED: &str = include_str!("../packaging/httplines.toml");
    let is_key = |line: &str| line.contains(" = ") && !line.contains("` ");
    let commented = PACKAGED.lines().filter_map(|line| line.strip_prefix("# "));
    let commented: Vec<_> = commented.filter(|line| is_key(line)).collect();
    assert!(commented.len() > 8, "{commented:?}");
    let all = format!("{PACKAGED}\n{}\n", commented.join("\n"));
    for document in [PACKAGED, &all] {
        let place = place(document);
        let output = run("check-config f.toml -i lo -o out.jsonl", place.path());
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        let settings = stdout(&output);
        for line in [
            "rotate-interval = \"1h\"",
            "rotate-size = \"1G\"",
            "keep-size = \"10G\"",
            "keep-free = \"5%\"",
            "compress = \"zstd\"",
            "retire-timeout-ms = 10",
        ] {
            assert!(settings.lines().any(|it| it == line), "{line}:\n{settings}");
        }
        let output = run("--config f.toml -r good.pcap -o - -q", place.path());
        assert_eq!((output.status.code(), told(&output)), (Some(0), String::new()));
    }
    assert!(PACKAGED.contains("\noutput = \"/var/log/httplines/http.jsonl\"\n"));
}

/// The row of the file, and those of what it names.
#[test]
fn doctor_looks_at_a_file_and_at_what_it_names() {
    let doctor = |document: &str, behind: &str| {
        let place = place(document);
        let output = run(&format!("doctor --config f.toml {behind}"), place.path());
        (output.status.code(), stdout(&output))
    };
    let of = |told: &str, name: &str| {
        let rows = told.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        rows.unwrap_or_else(|| panic!("no {name}:\n{told}")).trim().to_string()
    };
    let good = "interface = ['eth77']\noutput = 'out.jsonl'\nshards = 3\nbuffer-size = 4096\n";
    let (code, told) = doctor(good, "");
    assert!(of(&told, "config").starts_with("note  config"), "{told}");
    assert!(of(&told, "rings").contains("12 MiB (shards: 3, interfaces: 1, each ring: 4 MiB)"));
    assert!(told.contains("there is no interface eth77"), "{told}");
    // A disk of this machine that is nearly full is a note.
    assert!(!of(&told, "output").starts_with("wrong"), "{told}");
    assert!(of(&told, "output").contains("are free"), "{told}");
    // That interface is wrong for doctor: now there would be no lines.
    assert_eq!(code, Some(1), "{told}");
    let (_, told) = doctor(good, "-i lo -o no/out.jsonl");
    assert!(of(&told, "output").contains("there is no directory no"), "{told}");
    assert!(told.lines().any(|line| line.trim().starts_with("ok    link")), "{told}");
    let (code, told) = doctor("interface = 'lo'\nshards = 0\nformat = 'xml'\n", "");
    assert_eq!(code, Some(1), "{told}");
    let row = of(&told, "config");
    assert!(row.starts_with("wrong config"), "{told}");
    assert!(row.contains("f.toml:2: shards takes a whole number from 1 to 1024, not 0;"), "{told}");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("f.toml:3: format takes text or json, not xml"), "{told}");
    assert!(told.contains(" httplines check-config f.toml "), "{told}");
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::commands::root::{copy, exchange, nobody, start};
    use crate::support::lab::is_root;
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;

    #[test]
    fn a_live_capture_by_a_file() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = place(
            "interface = ['veth1']\noutput = 'out.jsonl'\nshards = 1\nbuffer-size = 2048\n\
             rotate-interval = '1h'\nretire-timeout-ms = 1\n",
        );
        let mut command = program();
        command.args(["--config", "f.toml"]).current_dir(place.path());
        let running = start(&server, command);
        let injector = client.run(|| Injector::new("veth0"));
        (0..3).for_each(|number| exchange(&injector, number));
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let lines = fs::read_to_string(place.path().join("out.jsonl")).expect("lines");
        assert_eq!(lines.lines().count(), 3, "{}", finished.stderr);
        // Its output is there, and fits.
        let output = run("check-config f.toml", place.path());
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        let output = run("check-config f.toml -Z nobody", place.path());
        let says = "httplines: f.toml:2: cannot write out.jsonl: it belongs to another user (0)";
        assert_eq!(output.status.code(), Some(2));
        assert!(told(&output).contains(says), "{}", told(&output));
    }

    /// The user that the run becomes must be able to write.
    #[test]
    fn the_directory_must_be_that_of_the_user() {
        if !is_root() {
            skip!("needs root, to become nobody");
        }
        let place = place("interface = 'lo'\noutput = 'logs/out.jsonl'\n");
        let logs = place.path().join("logs");
        fs::create_dir(&logs).expect("a directory");
        fs::set_permissions(&logs, PermissionsExt::from_mode(0o755)).expect("ours");
        let httplines = copy(place.path());
        let line = "check-config f.toml";
        let (by_root, by_nobody) = (
            || run(line, place.path()),
            |line: &str| commands::run(nobody(&httplines, &[]), line, place.path()),
        );
        let output = by_root();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(stdout(&output).contains("# user: not set"), "{}", stdout(&output));
        let output = run("check-config f.toml -Z nobody", place.path());
        let says = "httplines: f.toml:2: cannot write logs/out.jsonl as nobody; chown it, or -Z \
                    root\n";
        assert_eq!((output.status.code(), &*told(&output)), (Some(2), says));
        let output = by_nobody(line);
        let says =
            "httplines: f.toml:2: logs/out.jsonl: this user may not write there; name a file";
        assert_eq!(output.status.code(), Some(2));
        assert!(told(&output).starts_with(says), "{}", told(&output));
        let output = by_nobody("check-config f.toml -Z root");
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(told(&output).contains("httplines: -Z root: only root may start this run\n"));
        let says = "httplines: whether root may write the output shows only if root looks\n";
        assert!(told(&output).contains(says), "{}", told(&output));
        chown(&logs, Some(65_534), Some(65_534)).expect("root may");
        let output = by_root();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(stdout(&output).contains("# user = \"nobody\"\n"), "{}", stdout(&output));
        let output = by_nobody(line);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(fs::read_dir(&logs).expect("a directory").count(), 0);
    }

    #[test]
    fn a_file_that_this_user_may_not_read() {
        if !is_root() {
            skip!("needs root, to become nobody");
        }
        let place = place("quiet = true\n");
        let path = place.path().join("f.toml");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("ours");
        let httplines = copy(place.path());
        for line in ["--config f.toml", "check-config f.toml"] {
            let output = commands::run(nobody(&httplines, &[]), line, place.path());
            let says = "httplines: f.toml: permission denied; make it readable for this user\n";
            assert_eq!((output.status.code(), &*told(&output)), (Some(3), says));
        }
    }
}

/// What comes through a pipe can be read only once.
#[test]
fn a_file_may_be_a_pipe() {
    let document = b"interface = 'lo'\noutput = '/nonexistent/out.jsonl'\n";
    let output = crate::support::program::run(&["check-config", "/dev/stdin"], Some(document));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let says = "/dev/stdin:2: cannot write /nonexistent/out.jsonl: there is no directory";
    assert!(told.contains(says), "{told}");
}

/// What a start refuses as wrong usage shows before it.
#[test]
fn an_output_that_cannot_be_one_is_told_before_a_start() {
    let document = "interface = 'lo'\noutput = '/dev/null'\nrotate-size = '1G'\n";
    let place = place(document);
    let output = run("check-config f.toml", place.path());
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("/dev/null is no file, and only files are"),
        "{}",
        told(&output)
    );
    std::fs::write(place.path().join("same"), "").expect("a file");
    std::fs::write(place.path().join("f.toml"), "read = ['same']\noutput = 'same'\n").unwrap();
    let output = run("check-config f.toml", place.path());
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("the output is the input"), "{}", told(&output));
}
