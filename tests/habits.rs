//! What hands type that come from tcpdump, tshark, ngrep and Suricata: it works, or the answer says
//! what to type here. Also the signals that terminals and other programs send.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::commands::{capture, check_all, place, program, row, run};
use crate::outputs::wait_until_it_listens;
use crate::support::lab::{send_signal, wait_until};

#[test]
fn options_without_effect_are_accepted() {
    let ends_well = "every frame, flow and line is accounted for";
    let rows = [
        row("-nn -r good.pcap", 0, ends_well),
        row("-n -l -s 0 -r good.pcap", 0, ends_well),
        row("-s0 -U -p -r good.pcap", 0, ends_well),
        row("-nnvvvr good.pcap", 0, ends_well),
        row("-v -v -s 65535 -r good.pcap", 0, ends_well),
        row("--immediate-mode --snapshot-length 96 -r good.pcap -c 2", 0, ends_well),
        row("--duration 60 -r good.pcap", 0, ends_well),
    ];
    check_all(&rows, program);
}

#[test]
fn options_of_others_are_answered() {
    let rows = [
        // tcpdump
        row(
            "-i lo -w out.pcap",
            2,
            "no option -w; -o FILE writes lines; to keep packets, run tcpd",
        ),
        row("-i lo -nnA", 2, "no option -A; bodies are counted, not stored; -o - --all-headers"),
        row("-i lo -X port 80", 2, "no option -X; bodies are counted, not stored"),
        row("-i lo -tttt", 2, "no option -t; -v starts lines with the time"),
        row("-i lo -e", 2, "no option -e; -o - prints all fields as JSON lines"),
        row("-i lo -G 60", 2, "are not rotated: -C, -G, -W, --keep-size, --keep-free and --compre"),
        row("-i lo --drop-privileges", 2, "no option --drop-privileges; -Z USER names the user"),
        row("-i lo -F filter", 2, "no option -F; there are no filter expressions; choose connec"),
        // tshark
        row("-i lo -f tcp", 2, "no option -f; there are no filter expressions; choose connections"),
        row("-i lo -Y http", 2, "no option -Y; choose connections with --port, --net and --vlan"),
        row("-i lo -T json", 2, "no option -T; -o - prints all fields as JSON lines"),
        row("-i lo -a duration:10", 2, "no option -a; --duration S stops after S seconds"),
        row(
            "-i lo -b files:5",
            2,
            "no option -b; -C SIZE and -G TIME close the file of -o and open",
        ),
        row("-i lo -z http,tree", 2, "no option -z; the totals are printed at the end"),
        // ngrep
        row("-d eth0", 2, "no option -d; -i names the interface; -D lists them"),
        row("-I good.pcap", 2, "no option -I; -r FILE reads a capture file"),
        row("-O out.pcap -i lo", 2, "no option -O; -o FILE writes lines; to keep packets"),
        // Suricata
        row("-i lo -c suricata.yaml", 2, "not suricata.yaml; --config FILE names a configur"),
        row("-i lo -l dir", 2, "\"dir\" is not an option; -o FILE names the file for JSON lines"),
        row("-i lo -S http.rules", 2, "no option -S; there are no rules"),
        row("--af-packet=eth0", 2, "no option --af-packet; -i names the interface"),
        // What others might be called
        row("-i lo --host 10.0.0.1", 2, "no option --host; --net takes addresses and networks"),
        row("-i lo --host=10.0.0.1", 2, "no option --host; --net takes addresses and networks"),
        row("-i lo --json", 2, "no option --json; -o FILE writes JSON lines, -o - prints them"),
        row("-r good.pcap --follow", 2, "no option --follow; a live capture goes on until it is"),
        row("-i lo --timeout 10", 2, "no option --timeout; --duration S stops after S seconds"),
        row("-i lo --threads 4", 2, "no option --threads; --shards N sets the number of worker"),
        row("-i lo --dport 80", 2, "no option --dport; --port matches either end of a connection"),
        // Slips and abbreviations
        row("-i lo --ports 80", 2, "no option --ports; did you mean --port?"),
        row("-i lo --idle-timeout 9", 2, "no option --idle-timeout; did you mean --idle-timeout-s"),
        row("-i lo --flow", 2, "no option --flow; did you mean --flows?"),
        row("-i lo --exclude-", 2, "no option --exclude-; httplines --help lists the options"),
    ];
    check_all(&rows, program);
}

#[test]
fn words_are_answered() {
    let rows = [
        row("port 80", 2, "no filter expressions; instead of `port 80` type --port 80"),
        row("-i lo host 10.0.0.1", 2, "instead of `host 10.0.0.1` type --net 10.0.0.1"),
        row("-i lo tcp port 80", 2, "instead of `tcp port 80` type --port 80"),
        row("-i lo port 80 or port 81", 2, "type --port 80,81"),
        row("-i lo not port 22 and net 10.0.0.0/8", 2, "type --exclude-port 22 --net 10.0.0.0/8"),
        row("-i lo tcp[13] == 2", 2, "\"tcp[13]\" is not an option; put -i before an interface"),
        row("-i lo host example.org", 2, "with --port, --net and --vlan instead of a filter expr"),
        row(
            "good.pcap",
            2,
            "\"good.pcap\" is not an option; put -r before a capture file: -r good",
        ),
        row("-r good.pcap tcp port 80", 2, "instead of `tcp port 80` type --port 80"),
        row("-r good.pcap cut.pcap port", 1, "port: no such file; check the path"),
        row("good.pcap cut.pcap", 2, "put -r before a capture file: -r good.pcap"),
        row("lo", 2, "\"lo\" is not an option; put -i before an interface: -i lo"),
        row("any", 2, "\"any\" is not an option; put -i before an interface: -i any"),
        row("-n good.pcap -o out.jsonl", 2, "put -r before a capture file: -r good.pcap"),
    ];
    check_all(&rows, program);
}

#[test]
fn help_is_a_word_too() {
    let place = place();
    let [word, option] = ["help", "--help"].map(|line| run(program(), line, place.path()));
    assert_eq!(word.status.code(), Some(0));
    assert_eq!(word.stdout, option.stdout);
    assert!(word.stdout.starts_with(b"HTTP traffic on the wire") && word.stderr.is_empty());
}

#[test]
fn a_command_comes_first_and_has_options_of_its_own() {
    let rows = [
        row("-i lo doctor", 2, "doctor comes first, and its options behind it: see httplines doc"),
        row("-q doctor -i lo", 2, "doctor comes first, and its options behind it"),
        row("port 80 doctor", 2, "doctor comes first, and its options behind it"),
        row("docter", 2, "\"docter\" is not an option; put -i before an interface"),
        row("doctor lo", 2, "put -i before an interface: httplines doctor -i lo"),
        row("doctor any", 2, "put -i before an interface: httplines doctor -i any"),
        row("doctor port 80", 2, "\"port\" is not an option of doctor; httplines doctor --help li"),
        row("doctor doctor", 2, "\"doctor\" is not an option of doctor"),
        row("doctor --port 80", 2, "no option --port; httplines doctor --help lists the options"),
        row("doctor -w x", 2, "no option -w; httplines doctor --help lists the options"),
        row("doctor --interfaces lo", 2, "no option --interfaces; did you mean --interface?"),
        row("doctor -i", 2, "--interface needs a value; see httplines doctor --help"),
        row("doctor -o a -o b", 2, "--output was given more than once; give it once"),
    ];
    check_all(&rows, program);
    for line in ["doctor --help", "doctor -h"] {
        let output = run(program(), line, place().path());
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && help.contains("Usage: httplines doctor [-i"), "{help}");
    }
}

#[test]
fn a_capture_on_standard_input_needs_an_option() {
    let says = "add -r - to read the capture on standard input, or name an interface with -i";
    check_all(&[row("< good.pcap", 2, says), row("-o out.jsonl < good.pcap", 2, says)], program);
    let mut piped = program();
    piped.stdin(Stdio::piped()).stderr(Stdio::piped());
    let output = piped.spawn().and_then(|child| child.wait_with_output()).expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains(says), "{told}");
}

/// The request headers of the first record that `arguments` report.
fn request_headers(arguments: &[&str]) -> Value {
    let place = place();
    let mut command = program();
    command.current_dir(place.path()).args(["-q", "-r", "good.pcap", "-o", "-"]).args(arguments);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = output.stdout.split(|byte| *byte == b'\n').next().expect("a line");
    serde_json::from_slice::<Value>(line).expect("JSON")["request_headers"].take()
}

#[test]
fn names_of_headers_work_as_they_are_typed() {
    for arguments in [
        &["--header", "host"][..],
        &["--header", "Via,Host"],
        &["--header", "Host:"],
        &["--header", "Via, Host: "],
        &["--header", "Via", "--header", "Host"],
    ] {
        let headers = request_headers(arguments);
        assert_eq!(headers, serde_json::json!([["Host", "a"]]), "{arguments:?}");
    }
    for arguments in [&["--mask-header", "Via,Host"], &["--mask-header", "Host:"]] {
        let headers = request_headers(&[&["--header", "Host"], &arguments[..]].concat());
        assert_eq!(headers, serde_json::json!([["Host", "***"]]), "{arguments:?}");
    }
    let rows = [
        row("-r good.pcap -o - --header Host:a", 2, "--header takes names of headers, such as Via"),
        row("-r good.pcap -o - --header Via,,Host", 2, "--header needs a value"),
        row("-r good.pcap -o - --header Via;Host", 2, "names of headers, such as Via or Via,X-Req"),
        row("-r good.pcap -o - --mask-header Host=a", 2, "--mask-header takes names of headers"),
        row("-r good.pcap --duration 0", 2, "--duration takes a number of seconds, such as 60 or"),
        row("-r good.pcap --duration 10s", 2, "such as 60 or 0.5, not 10s"),
    ];
    check_all(&rows, program);
}

/// `-o` with a capture, as `-w` has it, would spoil the capture.
#[test]
fn lines_are_not_appended_to_what_is_no_text() {
    let place = place();
    let path = |name: &str| place.path().join(name);
    let ng = [0x0a, 0x0d, 0x0d, 0x0a, 0x1c, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a];
    std::fs::write(path("trace.pcapng"), ng).expect("a file");
    std::fs::write(path("zeros"), [0; 100]).expect("a file");
    for (name, what) in [
        ("cut.pcap", "a capture"),
        ("trace.pcapng", "a capture"),
        ("packed.gz", "compressed"),
        ("zeros", "no text"),
    ] {
        let before = std::fs::read(path(name)).expect("it is there");
        let output = run(program(), &format!("-r good.pcap -o {name}"), place.path());
        let told = String::from_utf8_lossy(&output.stderr);
        let says = format!(
            "httplines: cannot write {name}: it is {what}, and httplines appends lines to a text; \
             name another file\n"
        );
        assert_eq!((output.status.code(), &*told), (Some(1), &*says));
        assert_eq!(std::fs::read(path(name)).expect("it is there"), before, "{name}");
    }
    let output = run(program(), "-r good.pcap -o text", place.path());
    assert_eq!(output.status.code(), Some(0));
    let text = std::fs::read_to_string(path("text")).expect("it is there");
    assert!(text.starts_with("These words are no capture") && text.lines().count() == 4, "{text}");
}

/// The program, reading a capture from standard input, of which nothing has come but the header.
fn reading(mut command: Command, arguments: &[&str], place: &Path) -> Child {
    command.current_dir(place).args(["-r", "-"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.as_mut().expect("a pipe").write_all(&capture(0)[..24]).expect("it reads");
    wait_until_it_listens(child.id());
    child
}

/// Lets the child read `exchange_count` exchanges and the end of its input. Its output, with the
/// totals.
fn finish(mut child: Child, exchange_count: usize) -> (Option<i32>, String) {
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&capture(exchange_count)[24..]).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&told).into_owned())
}

/// Waits until the child, whose input is still open, has ended with success.
fn assert_ends(mut child: Child) {
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().expect("a child of ours");
        status.is_some()
    });
    let output = child.wait_with_output().expect("it has ended");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("every frame, flow and line is accounted for"), "{told}");
}

#[test]
fn a_run_ends_after_its_duration() {
    let (place, begun) = (place(), Instant::now());
    assert_ends(reading(program(), &["--duration", "0.3"], place.path()));
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

/// SIGHUP without an output file: its terminal was closed.
#[test]
fn a_closed_terminal_ends_the_run() {
    let place = place();
    for arguments in [&[][..], &["-o", "-"], &["--format", "json"]] {
        let child = reading(program(), arguments, place.path());
        send_signal(&child, "HUP");
        assert_ends(child);
    }
}

#[test]
fn a_run_under_nohup_goes_on() {
    let place = place();
    let mut command = Command::new("nohup");
    command.arg(crate::httplines());
    let child = reading(command, &[], place.path());
    send_signal(&child, "HUP");
    // Signals are taken in the order of their numbers: when this one was answered, HUP was, too.
    let (code, told) = with_report(child);
    assert!(code == Some(0) && told.contains("GET /2 HTTP/1.1"), "{told}");
}

#[test]
fn an_output_file_is_reopened_at_a_hangup() {
    let place = place();
    let child = reading(program(), &["-o", "out.jsonl"], place.path());
    std::fs::rename(place.path().join("out.jsonl"), place.path().join("old")).expect("it is there");
    send_signal(&child, "HUP");
    let (code, told) = with_report(child);
    assert!(code == Some(0) && told.contains("3 complete"), "{told}");
    let lines = std::fs::read_to_string(place.path().join("out.jsonl")).expect("a new file");
    assert_eq!(lines.lines().count(), 3, "{told}");
}

/// Asks the child for its totals, waits for them, and lets it read three exchanges.
fn with_report(mut child: Child) -> (Option<i32>, String) {
    send_signal(&child, "USR1");
    let (mut told, mut byte) = (Vec::new(), [0]);
    let stderr = child.stderr.as_mut().expect("a pipe");
    while !told.ends_with(b"httplines: 0 exchanges in") {
        stderr.read_exact(&mut byte).expect("it answers");
        told.extend(byte);
    }
    finish(child, 3)
}

/// `timeout -s INT` sends its signal to the program, and to its process group. A third one, a
/// second later, is meant.
#[test]
fn a_second_interrupt_within_a_second_is_the_same() {
    let place = place();
    std::fs::write(place.path().join("long.pcap"), capture(5000)).expect("a file");
    let mut command = program();
    command.current_dir(place.path()).args(["-q", "-r", "long.pcap"]);
    // Nobody reads the lines, so the run waits after it was told to end.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    wait_until_it_listens(child.id());
    let begun = Instant::now();
    wait_until("it ends", || {
        let is_over = child.try_wait().expect("a child of ours").is_some();
        if !is_over {
            send_signal(&child, "INT");
        }
        is_over
    });
    assert!(begun.elapsed() >= Duration::from_secs(1), "it ended at once");
    let output = child.wait_with_output().expect("it has ended");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told, "httplines: asked twice to stop; unwritten lines are lost\n");
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::commands::root::{exchange, start};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;

    #[test]
    fn interfaces_are_named_by_commas_and_numbers() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let list = server.run(|| program().arg("-D").output().expect("it runs"));
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let veth = list.lines().find(|line| line.contains(".veth1 ")).expect("it is listed");
        let number = veth.split('.').next().expect("a number").to_string();
        let both = format!("{number},lo");
        for interfaces in [both.as_str(), "veth1,lo,1"] {
            let mut command = program();
            command.args(["-o", "-", "-i", interfaces]);
            let running = start(&server, command);
            let injector = client.run(|| Injector::new("veth0"));
            exchange(&injector, 0);
            running.wait_for_lines(1);
            let line = String::from_utf8_lossy(&running.stdout()).into_owned();
            assert!(line.contains("\"iface\":\"veth1\""), "{interfaces}: {line}");
            let finished = running.stop();
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        }
        let rows = [
            row("-i 4000 -o out.jsonl", 1, "there is no interface 4000; there are: lo, veth1"),
            row("-i lo,any -o out.jsonl", 2, "-i any includes all other interfaces: use it alone"),
            row("-i lo, -o out.jsonl", 2, "--interface needs a value"),
        ];
        server.run(move || check_all(&rows, program));
    }

    #[test]
    fn a_live_capture_ends_after_its_duration() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut command = program();
        command.args(["-i", "veth1", "--duration", "0.3"]);
        let finished = start(&server, command).wait();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
    }

    #[test]
    fn a_closed_terminal_ends_a_live_capture() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut command = program();
        command.args(["-i", "veth1"]);
        let running = start(&server, command);
        running.signal("HUP");
        let finished = running.wait();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
    }
}
