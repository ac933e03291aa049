//! Odd interfaces, outages, what counts as a loss, and what an idle capture costs: the program, on
//! interfaces of its own namespace.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::io::{self, Write};
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use crate::support::conversation::Conversation;
    use crate::support::lab::{Running, run, wait_until};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::packet::{ACK, Packet};
    use crate::support::{records, skip};

    const TYPE_QINQ: u16 = 0x88a8;
    const TYPE_VLAN: u16 = 0x8100;

    fn start(namespace: &Namespace, arguments: &str) -> Running {
        let mut command = Command::new(crate::httplines());
        command.args(["-B", "4096"]).args(arguments.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(namespace.run(move || command.spawn().expect("it starts")), "capturing on")
    }

    /// A connection with one exchange, its request for `target`.
    fn conversation(target: &str) -> Conversation {
        let mut talk = Conversation::new("10.0.0.9:4000", "10.0.0.1:80");
        talk.handshake().client(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
        talk
    }

    /// A tun device: what is written to it arrives on it.
    struct Tun(std::fs::File);

    impl Tun {
        /// Makes it in the calling thread's namespace.
        fn new(name: &str) -> io::Result<Tun> {
            let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
            // SAFETY: zeros are a valid value.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
            // SAFETY: the kernel reads and writes the request, which lives through the call.
            match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) } {
                0 => Ok(Tun(file)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// A tun device has no address of its own, as those of WireGuard and Tailscale have none.
    #[test]
    fn a_device_without_an_address_is_listed_and_captured() {
        let Some(place) = Namespace::new() else { skip!("needs root") };
        let mut tun = match place.run(|| Tun::new("t0")) {
            Ok(tun) => tun,
            Err(error) => skip!(format!("needs /dev/net/tun: {error}")),
        };
        let listed = place.run(|| run(Command::new(crate::httplines()).arg("-D")).stdout);
        assert!(String::from_utf8_lossy(&listed).contains(".t0 [down]\n"), "it is listed");
        place.ip("link set t0 up");
        let running = start(&place, "-i t0");
        for frame in conversation("/tun").frames(0, 0) {
            tun.0.write_all(&frame.bytes[14..]).expect("the device takes an IP packet");
        }
        running.wait_for_lines(2);
        let finished = running.stop();
        assert_eq!(finished.stdout, b"GET /tun HTTP/1.1\nHTTP/1.1 204 No Content\n");
    }

    #[test]
    fn every_outage_is_reported_when_it_begins_and_when_it_ends() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut running = start(&server, "-i veth1");
        for _ in 0..2 {
            server.ip("link set veth1 down");
            running.await_stderr("veth1 is down; capturing continues when it is up again");
            server.ip("link set veth1 up");
            running.await_stderr("veth1 is up again after");
            client.ip("link set veth0 down");
            running.await_stderr("veth1 has no carrier; capturing continues when it is back");
            client.ip("link set veth0 up");
            running.await_stderr("veth1 is up again after");
        }
        let injector = client.run(|| Injector::new("veth0"));
        conversation("/again").frames(0, 0).iter().for_each(|frame| injector.send(&frame.bytes));
        running.wait_for_lines(2);
        let finished = running.stop();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }

    /// HTTP in frames with two tags: no VLAN device takes them, so the kernel counts them as
    /// dropped once we have seen them.
    #[test]
    fn frames_that_no_protocol_took_are_no_loss() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let running = start(&server, "-i veth1");
        let injector = client.run(|| Injector::new("veth0"));
        let (client, server) = ("10.0.0.9:4000", "10.0.0.1:80");
        let parse = |address: &str| address.parse().expect("an address");
        let head = b"GET /qinq HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = Packet::tcp(parse(client), parse(server)).seq(1).ack(1).flags(ACK);
        let answer = Packet::tcp(parse(server), parse(client)).seq(1).flags(ACK);
        let answer = answer.ack(1 + head.len() as u32).payload(b"HTTP/1.1 204 No Content\r\n\r\n");
        for packet in [request.payload(head), answer] {
            injector.send(&packet.tag(TYPE_VLAN, 7).tag(TYPE_QINQ, 5).ethernet());
        }
        running.wait_for_lines(2);
        let finished = running.stop();
        assert!(!finished.stderr.contains("before us"), "{}", finished.stderr);
        finished.told("after us   2 frames that no protocol of this machine took");
    }

    /// An ifb device drops what was not redirected to it, after we have seen it.
    #[test]
    fn what_an_ifb_device_drops_is_no_loss() {
        let Some(place) = Namespace::new() else { skip!("needs root") };
        let made = || Command::new("ip").args(["link", "add", "b0", "type", "ifb"]).output();
        if !place.run(made).is_ok_and(|output| output.status.success()) {
            skip!("needs ifb devices");
        }
        place.ip("link set b0 up");
        let running = start(&place, "-i b0");
        let injector = place.run(|| Injector::new("b0"));
        conversation("/ifb").frames(0, 0).iter().for_each(|frame| injector.send(&frame.bytes));
        running.wait_for_lines(2);
        let finished = running.stop();
        assert!(!finished.stderr.contains("before us"), "{}", finished.stderr);
        let frame_count = conversation("/ifb").frames(0, 0).len();
        finished.told(&format!("after us   {frame_count} frames that no protocol"));
    }

    /// Without any descriptor to spare, everything goes on: also the name of an interface that came
    /// later, the totals, and the end.
    #[test]
    fn nothing_is_opened_after_the_start() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let place = tempfile::tempdir().expect("a directory");
        let output = place.path().join("http.jsonl");
        let mut running = start(&server, &format!("-i any -o {}", output.display()));
        // The first three are in use. (poll(2) takes no more than the limit.)
        run(Command::new("prlimit").args(["--nofile=3", "--pid", &running.pid().to_string()]));
        server.ip("link add link veth1 name late type macvlan mode passthru");
        server.ip("link set late up");
        let injector = client.run(|| Injector::new("veth0"));
        conversation("/late").frames(0, 0).iter().for_each(|frame| injector.send(&frame.bytes));
        wait_until("the line is there", || {
            std::fs::read(&output).is_ok_and(|lines| lines.ends_with(b"\n"))
        });
        running.signal("USR1");
        running.await_stderr("1 lines, ");
        let begun = Instant::now();
        let finished = running.stop();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(8), "the end took {took:?}");
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.told("every frame, flow and line is accounted for");
        assert!(!finished.stderr.contains("cannot"), "{}", finished.stderr);
        let record = &records::parse(&std::fs::read(&output).expect("it is there"))[0];
        let iface = record["iface"].as_str().unwrap_or_default();
        assert!(["veth1", "late"].contains(&iface), "{record}");
    }

    /// Counts how often each thread of an idle capture went to sleep.
    #[test]
    fn an_idle_shard_wakes_at_most_ten_times_a_second() {
        let Some((_client, server)) = Namespace::pair() else { skip!("needs root") };
        let running = start(&server, "-i veth1 --shards 2");
        let sleeps = || -> Vec<(String, u64)> {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", running.pid()));
            let tasks = tasks.expect("it runs").map(|task| task.expect("its thread").path());
            let count = |task: std::path::PathBuf| {
                let read = |file: &str| std::fs::read_to_string(task.join(file)).expect("a file");
                let status = read("status");
                let line = status.lines().find(|line| line.starts_with("voluntary_ctxt"));
                let count = line.and_then(|line| line.split('\t').nth(1)?.parse().ok());
                (read("comm").trim().to_string(), count.expect("a number"))
            };
            tasks.map(count).collect()
        };
        let window = Duration::from_secs(1);
        let mut rates = Vec::new();
        // Whatever came with the start ends within a few of these.
        wait_until("its threads rest", || {
            let before = sleeps();
            std::thread::sleep(window);
            rates =
                before.into_iter().zip(sleeps()).map(|(old, new)| (new.1 - old.1, old.0)).collect();
            rates.iter().all(|(count, _)| *count <= 11)
        });
        assert_eq!(rates.iter().filter(|(_, name)| name.starts_with("shard-")).count(), 2);
        running.stop();
    }
}
