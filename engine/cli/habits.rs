//! Answers to what people type who come from tcpdump, tshark, ngrep and Suricata: options that
//! httplines does not have, and words without an option.

use super::commands;
use httplines::config::{ANY_INTERFACE, Network};
use httplines::sys::interface::index_of;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Options of other programs, and what to use here. An answer follows "there is no option -w;".
pub const ANSWERS: [(&[&str], &str); 26] = [
    (
        &["-w", "-O", "--write", "--pcap-out"],
        "-o FILE writes lines; to keep packets, run tcpdump and read its file with -r",
    ),
    (
        &["-A", "-x", "-X", "-P", "--hex", "--print", "--body", "--bodies", "--payload"],
        "bodies are counted, not stored; -o - --all-headers shows all headers",
    ),
    (&["--snaplen"], "heads are always read whole, and bodies are never stored; leave it out"),
    (
        &["--host", "--hosts", "--ip", "--address", "--network", "--networks", "--subnet"],
        "--net takes addresses and networks, such as --net 10.0.0.1,10.1.0.0/16; \
         --only host=GLOB takes the name in the request",
    ),
    (
        &["--src", "--dst", "--source", "--destination", "--client", "--server"],
        "--net and --port match either end of a connection",
    ),
    (
        &["--sport", "--dport", "--src-port", "--dst-port", "--source-port", "--dest-port"],
        "--port matches either end of a connection",
    ),
    (
        &["-j", "-J", "--json", "--jsonl", "--ndjson", "--eve"],
        "-o FILE writes JSON lines, -o - prints them",
    ),
    (
        &["-T", "-e", "--fields", "--field", "--columns"],
        "-o - prints all fields as JSON lines; choose from them with jq",
    ),
    (
        &["--follow", "--tail"],
        "a live capture goes on until it is stopped; to follow a file that grows: \
         tail -c +1 -f FILE | httplines -r -",
    ),
    (
        &["-f", "-F", "--expression", "--bpf", "--capture-filter"],
        "there are no filter expressions; choose connections with --port, --net and --vlan",
    ),
    (
        &["-Y", "-R", "--display-filter", "--read-filter", "--where"],
        "choose connections with --port, --net and --vlan, exchanges with --only and --except",
    ),
    (
        &["--method", "--status", "--url", "--uri", "--path", "--grep", "--match", "--pattern"],
        "--only and --except choose exchanges, such as --only status=5xx --except target=/healthz",
    ),
    (
        &["-d", "--dev", "--device", "--iface", "--nic", "--pcap", "--af-packet"],
        "-i names the interface; -D lists them",
    ),
    (&["-I", "--file", "--input", "--in", "--pcap-file"], "-r FILE reads a capture file"),
    (
        &["-t", "-u", "--time", "--timestamp", "--timestamps", "--time-stamp-precision"],
        "-v starts lines with the time; JSON lines have it in ts",
    ),
    (
        &["-a", "--autostop", "--timeout", "--time-limit", "--seconds"],
        "--duration S stops after S seconds, -c N after N exchanges",
    ),
    (
        &["-b", "--rotate", "--ring-buffer", "--max-files", "--file-size"],
        "-C SIZE and -G TIME close the file of -o and open a new one, -W N keeps N closed ones",
    ),
    (
        &["-S", "--rules", "--signatures"],
        "there are no rules; -o FILE writes lines for programs that have them",
    ),
    (
        &["--conf", "--config-file", "--conf-file", "--yaml", "--toml"],
        "--config FILE names a configuration file, in TOML",
    ),
    (
        &["-K", "-E", "--keylog", "--tls", "--ssl", "--https", "--decrypt"],
        "encrypted traffic cannot be read; capture behind the proxy that decrypts it",
    ),
    (
        &["--color", "--colour", "--pretty", "--table"],
        "-o - prints a JSON line for each exchange; to format them: httplines -i eth0 -o - | jq .",
    ),
    (
        &["-z", "--stats", "--statistics"],
        "the totals are printed at the end, and when SIGUSR1 comes",
    ),
    (&["--drop-privileges", "--relinquish-privileges"], "-Z USER names the user to become"),
    (
        &["--daemon", "--daemonize", "--background"],
        "start it with systemd, or with nohup and -o FILE",
    ),
    (&["--threads", "--workers", "--jobs"], "--shards N sets the number of worker threads"),
    (
        &["--exclude", "--not", "--ignore"],
        "--exclude-port, --exclude-net, --exclude-vlan leave out connections, --except exchanges",
    ),
];

/// What to use instead of `option`, which does not exist.
pub fn answer_to_option(option: &str) -> Option<&'static str> {
    ANSWERS.iter().find(|(options, _)| options.contains(&option)).map(|(_, answer)| *answer)
}

/// Whether `typed` is `option` with one letter missing, added or changed, or two swapped; or a
/// beginning of it.
pub fn is_meant(typed: &str, option: &str) -> bool {
    let (typed, option) = (typed.as_bytes(), option.as_bytes());
    let same = typed.iter().zip(option).take_while(|(a, b)| a == b).count();
    let (typed_rest, option_rest) = (&typed[same..], &option[same..]);
    let after = |bytes: &[u8], count: usize| bytes.get(count..).map(<[u8]>::to_vec);
    let is_swapped = matches!((typed_rest, option_rest), ([a, b, x @ ..], [c, d, y @ ..])
        if (a, b, x) == (d, c, y));
    typed_rest.is_empty()
        || is_swapped
        || after(typed_rest, 1) == after(option_rest, 1)
        || after(typed_rest, 1).as_deref() == Some(option_rest)
        || Some(typed_rest) == after(option_rest, 1).as_deref()
}

/// Whether a capture may be waiting on standard input: it is a file or a pipe.
pub fn is_input_on_stdin() -> bool {
    let input = std::io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let metadata = input.and_then(|input| input.metadata());
    metadata.is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_fifo())
}

/// The sentence for words that belong to no option.
pub fn answer_to_words(words: &[String]) -> String {
    let first = words.first().map(String::as_str).unwrap_or_default();
    if let Some(answer) = commands::answer_to_late(words) {
        return answer;
    }
    let is_alone = words.len() == 1;
    if is_alone && (first == ANY_INTERFACE || index_of(first).is_some()) {
        return format!("{first:?} is not an option; put -i before an interface: -i {first}");
    }
    // Suricata's -l names a directory.
    if is_alone && Path::new(first).is_dir() {
        return format!("{first:?} is not an option; -o FILE names the file for JSON lines");
    }
    if words.iter().all(|word| Path::new(word).is_file()) {
        return format!("{first:?} is not an option; put -r before a capture file: -r {first}");
    }
    answer_to_expression(words).unwrap_or_else(|| {
        format!(
            "{first:?} is not an option; put -i before an interface, -r before a capture file, \
             and choose connections with --port, --net and --vlan instead of a filter expression"
        )
    })
}

/// The sentence for words that are a filter expression, if it is a simple one.
pub fn answer_to_expression(words: &[String]) -> Option<String> {
    let (first, expression) = (words.first()?, words.join(" "));
    let options = options_of(&expression)?;
    Some(format!(
        "{first:?} is not an option, and there are no filter expressions; instead of \
         `{expression}` type {options}"
    ))
}

/// The options that mean the same as a simple filter expression, for either end of a connection.
fn options_of(expression: &str) -> Option<String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('!', " not ");
    let mut words = spaced.split_whitespace().peekable();
    let (mut options, mut is_not, mut has_or) = (Vec::<(String, Vec<&str>)>::new(), false, false);
    while let Some(word) = words.next() {
        let kind = match word {
            "not" => {
                is_not = true;
                continue;
            }
            "or" | "||" => {
                has_or = true;
                continue;
            }
            "and" | "&&" | "tcp" | "ip" | "ip6" | "src" | "dst" | "(" | ")" => continue,
            "port" | "portrange" => "port",
            "host" | "net" => "net",
            "vlan" => "vlan",
            _ => return None,
        };
        // A list: `port 80 or 8080`.
        let mut values = vec![words.next()?];
        while words.peek() == Some(&"or") {
            let mut ahead = words.clone();
            ahead.next();
            match ahead.next() {
                Some(value) if is_value(kind, value) => values.push(value),
                _ => break,
            }
            words = ahead;
        }
        if !values.iter().all(|value| is_value(kind, value)) {
            return None;
        }
        let option = format!("--{}{kind}", if is_not { "exclude-" } else { "" });
        match options.iter_mut().find(|(known, _)| *known == option) {
            Some((_, known)) => known.extend(values),
            None => options.push((option, values)),
        }
        is_not = false;
    }
    // Options of different kinds must all hold.
    let is_same = !has_or || options.len() == 1;
    let texts: Vec<_> =
        options.iter().map(|(it, values)| format!("{it} {}", values.join(","))).collect();
    (is_same && !texts.is_empty()).then(|| texts.join(" "))
}

fn is_value(kind: &str, text: &str) -> bool {
    match kind {
        "port" => super::ports(text).is_ok(),
        "net" => text.parse::<Network>().is_ok(),
        _ => text.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Args;
    use super::*;
    use clap::CommandFactory;

    /// All options, also those that help hides, as they are typed.
    fn options() -> Vec<String> {
        let command = Args::command();
        let mut options = Vec::new();
        for arg in command.get_arguments() {
            let shorts = arg.get_short_and_visible_aliases().into_iter().flatten();
            options.extend(shorts.map(|short| format!("-{short}")));
            options.extend(
                arg.get_all_short_aliases().into_iter().flatten().map(|it| format!("-{it}")),
            );
            options.extend(arg.get_long().map(|long| format!("--{long}")));
            options.extend(arg.get_all_aliases().into_iter().flatten().map(|it| format!("--{it}")));
        }
        options
    }

    #[test]
    fn options_of_others_are_answered_with_options_of_ours() {
        let ours = options();
        let mut all: Vec<&str> = Vec::new();
        for (names, answer) in ANSWERS {
            for name in names {
                assert!(!ours.contains(&name.to_string()), "{name} exists");
                assert!(!all.contains(name), "{name} has two answers");
                all.push(name);
            }
            for word in
                answer.split([' ', ',', ';', ':', '\'']).filter(|word| word.starts_with('-'))
            {
                let is_known = ours.contains(&word.to_string());
                assert!(is_known || ["-", "-c", "-f"].contains(&word), "{word}: {answer}");
            }
        }
    }

    #[test]
    fn a_slip_is_told_from_another_word() {
        for typed in ["--sesions", "--sessoins", "--sessionss", "--sessiins", "--ses"] {
            assert!(is_meant(typed, "--sessions"), "{typed}");
        }
        for (typed, option) in [("--follow", "--flows"), ("--host", "--port"), ("--set", "--netz")]
        {
            assert!(!is_meant(typed, option), "{typed}");
        }
    }

    #[test]
    fn simple_expressions_have_options() {
        for (expression, options) in [
            ("port 80", "--port 80"),
            ("tcp port 80", "--port 80"),
            ("tcp and dst port 80 or 8080", "--port 80,8080"),
            ("port 80 or port 443", "--port 80,443"),
            ("portrange 8000-8100", "--port 8000-8100"),
            ("host 10.0.0.1 and not port 22", "--net 10.0.0.1 --exclude-port 22"),
            ("!(port 22)", "--exclude-port 22"),
            ("vlan 5 and net 10.0.0.0/8", "--vlan 5 --net 10.0.0.0/8"),
        ] {
            assert_eq!(options_of(expression).as_deref(), Some(options), "{expression}");
        }
        for expression in [
            "",
            "tcp",
            "udp",
            "host example.org",
            "port",
            "host 10.0.0.1 or port 80",
            "tcp[13] = 2",
        ] {
            assert_eq!(options_of(expression), None, "{expression}");
        }
    }
}
