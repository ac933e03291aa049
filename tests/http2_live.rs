//! HTTP/2 between two programs on a veth pair, captured live in several ways: on one shard and on
//! two, with the filter and without, with elision and without, at both ends. All tell the same
//! records, and what they tell is true. `scripts/integration http2` does the same with real clients
//! and servers.

mod root {
    use crate::http2_losses::{Dialogue, assert_true, dialogue};
    use crate::support::conversation::Side;
    use crate::support::hpack::random::Random;
    use crate::support::http2::{DATA, END_HEADERS, END_STREAM, Talk, frame, get};
    use crate::support::lab::Running;
    use crate::support::namespace::Namespace;
    use crate::support::{records, skip};
    use serde_json::Value;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// In how many ways it is captured: a name, at which end, and the options.
    const WAYS: [(&str, usize, &[&str]); 6] = [
        ("one", 1, &["--shards", "1"]),
        ("two", 1, &["--shards", "2"]),
        ("whole", 1, &["--shards", "2", "--no-elide"]),
        ("off", 1, &["--shards", "1", "--filter", "off"]),
        ("off-two", 1, &["--shards", "2", "--filter", "off"]),
        ("client", 0, &["--shards", "2"]),
    ];
    /// In what the captures differ: each has timestamps of its own, and the interface of its end.
    const OWN: [&str; 3] = ["ts", "iface", "retransmitted_bytes"];
    const CONNECTION_COUNT: u64 = 24;
    /// The body of one response and one request, so that elision has something to leave out.
    const BIG_BYTES: usize = 2 << 20;

    /// Two namespaces, and the captures in them.
    struct Wire {
        ends: [Namespace; 2],
        folder: tempfile::TempDir,
    }

    impl Wire {
        fn capture(&self, (name, end, options): (&str, usize, &[&str])) -> Running {
            let mut command = Command::new(crate::httplines());
            command.args(["-i", ["veth0", "veth1"][end], "-B", "32768", "-o"]);
            command.arg(self.lines(name)).args(["--all-headers", "--show-secrets"]).args(options);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = self.ends[end].run(move || command.spawn().expect("the program starts"));
            Running::new(child, "capturing")
        }

        fn lines(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(format!("{name}.jsonl"))
        }

        fn connect(&self) -> [TcpStream; 2] {
            let listen = || TcpListener::bind("10.0.0.1:0").expect("a port is free");
            let listener = self.ends[1].run(listen);
            let address = listener.local_addr().expect("it is bound");
            let connect = move || TcpStream::connect(address).expect("the server is there");
            let client = self.ends[0].run(connect);
            let (server, _) = listener.accept().expect("the client comes");
            for stream in [&client, &server] {
                stream.set_nodelay(true).expect("a socket of TCP");
            }
            [client, server]
        }
    }

    /// Each side sends its part, and the other one has read it before the next.
    fn play(streams: &mut [TcpStream; 2], sent: &[(Side, Vec<u8>)]) {
        for (side, bytes) in sent {
            let [client, server] = streams;
            let (from, to) =
                if *side == Side::Client { (client, server) } else { (server, client) };
            let mut read = vec![0; bytes.len()];
            std::thread::scope(|scope| {
                scope.spawn(|| from.write_all(bytes).expect("the peer reads"));
                to.read_exact(&mut read).expect("the peer writes");
            });
            assert!(read == *bytes);
        }
    }

    /// A response and a request with bodies that do not fit into a ring's block.
    fn big() -> Talk {
        let mut talk = Talk::new();
        let body = |stream| {
            let count = BIG_BYTES / (1 << 14);
            let flags = |number| if number + 1 == count { END_STREAM } else { 0 };
            let part = |number| frame(DATA, flags(number), stream, &[b'x'; 1 << 14]);
            (0..count).flat_map(part).collect::<Vec<u8>>()
        };
        talk.ask(1, END_HEADERS | END_STREAM, &get("/big"));
        talk.answer(1, END_HEADERS, &[(":status", "200")]);
        talk.server(body(1));
        talk.ask(3, END_HEADERS, &get("/upload"));
        talk.client(body(3));
        talk.answer(3, END_HEADERS | END_STREAM, &[(":status", "204")]);
        talk
    }

    /// The records of all captures, of which the first is returned.
    fn told(wire: &Wire, running: Vec<Running>, is_late: bool) -> Vec<Value> {
        let ended: Vec<_> = running.into_iter().map(Running::stop).collect();
        let records_of = |name: &str, ended: &crate::support::lab::Finished| {
            let mut all = ended.records(Path::new(&wire.lines(name)));
            for record in all.iter_mut().filter_map(Value::as_object_mut) {
                // It has the time of the first payload, if the connection was joined late.
                record.retain(|name, _| {
                    let is_own = OWN.contains(&name.as_str()) || is_late && name == "flow";
                    !is_own && !name.ends_with("_ns")
                });
            }
            all
        };
        let all: Vec<_> = WAYS.iter().zip(&ended).map(|(way, it)| records_of(way.0, it)).collect();
        for (way, others) in WAYS.iter().zip(&all).skip(1) {
            records::assert_same(&format!("{} and {}", WAYS[0].0, way.0), &all[0], others);
        }
        all.into_iter().next().expect("the first one")
    }

    /// The records that are true of these dialogues, by the client's port.
    fn assert_all_true(told: &[Value], dialogues: &[(u16, Dialogue)]) -> usize {
        let truth = |record: &Value| {
            let of_port = |(port, _): &&(u16, Dialogue)| record["client_port"] == *port;
            &dialogues.iter().find(of_port).unwrap_or_else(|| panic!("invented: {record}")).1
        };
        told.iter().filter(|record| assert_true(record, truth(record))).count()
    }

    fn port_of(streams: &[TcpStream; 2]) -> u16 {
        streams[0].local_addr().expect("it is connected").port()
    }

    #[test]
    fn all_captures_tell_the_same_of_http2() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let folder = tempfile::tempdir().expect("a temporary directory");
        let wire = Wire { ends: [client, server], folder };
        let mut random = Random(20);
        let dialogues: Vec<_> = (0..CONNECTION_COUNT).map(|_| dialogue(&mut random)).collect();

        let running = WAYS.map(|way| wire.capture(way)).into();
        let mut all = Vec::new();
        for dialogue in dialogues {
            let mut streams = wire.connect();
            play(&mut streams, &dialogue.sent);
            all.push((port_of(&streams), dialogue));
        }
        let mut streams = wire.connect();
        play(&mut streams, &big().sent);
        let big_port = port_of(&streams);
        drop(streams);
        let (of_big, told): (Vec<_>, Vec<_>) =
            told(&wire, running, false).into_iter().partition(|it| it["client_port"] == big_port);
        let exchange_count: usize = all.iter().map(|(_, it)| it.exchange_count()).sum();
        assert_eq!((assert_all_true(&told, &all), told.len()), (exchange_count, exchange_count));
        let bodies = ["request_body_bytes", "response_body_bytes"]
            .map(|name| of_big.iter().filter_map(|it| it[name].as_u64()).sum::<u64>());
        assert_eq!((of_big.len(), bodies), (2, [BIG_BYTES as u64; 2]));
    }

    #[test]
    fn all_captures_tell_the_same_of_connections_joined_late() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let folder = tempfile::tempdir().expect("a temporary directory");
        let wire = Wire { ends: [client, server], folder };
        let mut random = Random(21);
        let mut all = Vec::new();
        for _ in 0..CONNECTION_COUNT {
            let (dialogue, mut streams) = (dialogue(&mut random), wire.connect());
            let half = dialogue.sent.len() / 2;
            play(&mut streams, &dialogue.sent[..half]);
            all.push((half, streams, dialogue));
        }
        let running = WAYS.map(|way| wire.capture(way)).into();
        for (half, streams, dialogue) in &mut all {
            play(streams, &dialogue.sent[*half..]);
        }
        let all: Vec<_> =
            all.into_iter().map(|(_, it, dialogue)| (port_of(&it), dialogue)).collect();
        let told = told(&wire, running, true);
        assert_all_true(&told, &all);
        let is_known = |it: &&Value| it["target"].is_string() && it["status"].is_u64();
        let known_count = told.iter().filter(is_known).count();
        assert!(known_count > CONNECTION_COUNT as usize, "{known_count} of {}", told.len());
    }
}
