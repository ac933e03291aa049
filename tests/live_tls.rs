//! What reaches the ring of real connections of TLS, if records of them are wanted, and what is
//! counted of QUIC: sockets on veth pairs.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};

    use httplines::config::CaptureConfig;
    use httplines::sys::counters::Reason;

    use crate::support::live_capture::{Capture, Kept, small};
    use crate::support::namespace::Namespace;
    use crate::support::skip;

    const SERVER: &str = "10.0.0.1";
    /// A ClientHello with a key share of ML-KEM.
    const HELLO_BYTES: usize = 1900;
    /// A server's flight, with certificates.
    const FLIGHT_BYTES: usize = 4200;
    const BEGIN_BYTES: usize = 16 << 10;
    /// Offset of the IPv4 header, and bytes of it.
    const IP_AT: usize = 14;
    const TCP_AT: usize = IP_AT + 20;

    /// Bytes that begin with the record of a hello.
    fn hello(bytes: usize) -> Vec<u8> {
        let length = (bytes - 5) as u16;
        let mut hello = [&[0x16, 3, 1][..], &length.to_be_bytes()].concat();
        hello.resize(bytes, 0xa5);
        hello
    }

    /// A connection: both hellos, of which the client's comes in pieces of this size; then `bytes`
    /// from the server. Returns the server's port.
    fn talk(client: &Namespace, server: &Namespace, piece_bytes: usize, bytes: usize) -> u16 {
        let port = server.run(move || {
            let listener = TcpListener::bind((SERVER, 0)).expect("a port is free");
            let port = listener.local_addr().expect("it is bound").port();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("the client comes");
                stream.read_exact(&mut [0; HELLO_BYTES]).expect("its hello");
                stream.write_all(&hello(FLIGHT_BYTES)).expect("it listens");
                let block = vec![0x17; 1 << 20];
                let mut left = bytes;
                while left > 0 {
                    let part = left.min(block.len());
                    stream.write_all(&block[..part]).expect("to the end");
                    left -= part;
                }
            });
            port
        });
        client.run(move || {
            let mut stream = TcpStream::connect((SERVER, port)).expect("the server is there");
            stream.set_nodelay(true).expect("a TCP socket");
            for piece in hello(HELLO_BYTES).chunks(piece_bytes) {
                stream.write_all(piece).expect("it listens");
            }
            let mut buffer = vec![0; 1 << 20];
            let mut got = 0;
            loop {
                match stream.read(&mut buffer).expect("it answers") {
                    0 => break,
                    bytes => got += bytes,
                }
            }
            assert_eq!(got, FLIGHT_BYTES + bytes);
            stream.shutdown(Shutdown::Both).expect("it is open");
        });
        port
    }

    /// A segment of the connection with this server's port.
    struct Seen {
        is_client: bool,
        seq: u32,
        flags: u8,
        /// Payload on the wire, and of it what was captured.
        payload_bytes: usize,
        captured_bytes: usize,
    }

    fn seen(frame: &Kept, port: u16) -> Option<Seen> {
        let bytes = &frame.bytes;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let is_tcp = bytes.len() > TCP_AT + 20 - 1 && bytes[IP_AT + 9] == 6;
        if !is_tcp || ![word(TCP_AT), word(TCP_AT + 2)].contains(&port) {
            return None;
        }
        let headers = TCP_AT + usize::from(bytes[TCP_AT + 12] >> 4) * 4;
        let total = IP_AT + usize::from(word(IP_AT + 2));
        Some(Seen {
            is_client: word(TCP_AT + 2) == port,
            seq: u32::from_be_bytes(bytes[TCP_AT + 4..TCP_AT + 8].try_into().expect("four")),
            flags: bytes[TCP_AT + 13],
            payload_bytes: total - headers,
            captured_bytes: bytes.len() - headers,
        })
    }

    /// Bytes of the stream, from its first, that whole segments cover without a hole.
    fn covered(all: &[Seen], is_client: bool) -> usize {
        let own = || all.iter().filter(|it| it.is_client == is_client);
        let syn = own().find(|it| it.flags & 2 != 0).expect("the SYN passes");
        let mut spans: Vec<(usize, usize)> = own()
            .filter(|it| it.payload_bytes > 0 && it.captured_bytes == it.payload_bytes)
            .map(|it| (it.seq.wrapping_sub(syn.seq + 1) as usize, it.payload_bytes))
            .collect();
        spans.sort_unstable();
        let reach = |end, (begin, bytes): &(usize, usize)| {
            if *begin <= end { (begin + bytes).max(end) } else { end }
        };
        spans.iter().fold(0, reach)
    }

    /// Whether the FIN of both ends was captured.
    fn has_both_ends(kept: &[Kept], port: u16) -> bool {
        let has_fin = |is_client| {
            let mut own = kept.iter().filter_map(|it| seen(it, port));
            own.any(|it| it.is_client == is_client && it.flags & 1 != 0)
        };
        has_fin(true) && has_fin(false)
    }

    #[test]
    fn both_beginnings_and_the_end_of_a_connection_reach_the_ring() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        const BYTES: usize = 4 << 20;
        for (place, device, piece_bytes) in
            [(&client, "veth0", HELLO_BYTES), (&server, "veth1", 1000), (&server, "veth1", 1)]
        {
            let config = CaptureConfig { wants_tls: true, block_count: 256, ..small() };
            let mut capture = Capture::open(place, config, &[device], 1);
            let port = talk(&client, &server, piece_bytes, BYTES);
            // A first segment that is shorter than the head of a record is user space's to judge,
            // and there is none here: 256 KiB of the connection pass, and then nothing.
            let is_found = piece_bytes >= 5;
            if is_found {
                capture.poll_until(|kept| has_both_ends(kept, port));
            }
            let totals = capture.settle();
            assert_eq!(totals.drops(), 0);
            let all: Vec<Seen> = capture.kept.iter().filter_map(|it| seen(it, port)).collect();
            assert_eq!(covered(&all, true), HELLO_BYTES, "{device}");
            assert!(covered(&all, false) >= BEGIN_BYTES, "{device} {}", covered(&all, false));
            if is_found {
                let bytes: usize = all.iter().map(|it| it.captured_bytes).sum();
                assert!(bytes < BEGIN_BYTES + (128 << 10), "{device} {bytes}");
                assert!(totals.filter.of(Reason::Tls) > 0, "{totals:?}");
                assert!(totals.filter.of(Reason::TlsWanted) > 0, "{totals:?}");
            }
        }
    }

    #[test]
    fn a_download_shows_each_gibibyte_by_headers() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        const BYTES: usize = (1 << 30) + (1 << 20);
        let config = CaptureConfig { wants_tls: true, block_count: 256, ..small() };
        let mut capture = Capture::open(&server, config, &["veth1"], 1);
        let port = talk(&client, &server, HELLO_BYTES, BYTES);
        capture.poll_until(|kept| has_both_ends(kept, port));
        let totals = capture.settle();
        assert_eq!(totals.drops(), 0);
        let all: Vec<Seen> = capture.kept.iter().filter_map(|it| seen(it, port)).collect();
        let syn = all.iter().find(|it| !it.is_client && it.flags & 2 != 0).expect("a SYN-ACK");
        let cut: Vec<(usize, usize)> = all
            .iter()
            .filter(|it| it.captured_bytes < it.payload_bytes)
            .map(|it| (it.seq.wrapping_sub(syn.seq + 1) as usize, it.payload_bytes))
            .collect();
        let [(begin, bytes)] = cut[..] else { panic!("{cut:?}") };
        assert!(begin < 1 << 30 && begin + bytes >= 1 << 30, "{begin} {bytes}");
        let fin = all.iter().find(|it| !it.is_client && it.flags & 1 != 0).expect("a FIN");
        let sent = fin.seq.wrapping_sub(syn.seq + 1) as usize + fin.payload_bytes;
        assert_eq!(sent, FLIGHT_BYTES + BYTES, "the numbers tell all bytes");
    }

    #[test]
    fn datagrams_of_quic_are_counted_where_their_payload_lies_in_pages() {
        let Some((client, server)) = Namespace::pair() else { skip!("needs root") };
        let mut capture = Capture::open(&server, small(), &["veth1"], 1);
        let mut file = tempfile::tempfile().expect("a file");
        let initial = [&[0xc0, 0, 0, 0, 1][..], &[8; 1195]].concat();
        file.write_all(&initial).expect("it has room");
        let listener = server.run(|| UdpSocket::bind((SERVER, 443)).expect("we are root"));
        client.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:50000").expect("the address is ours");
            socket.connect((SERVER, 443)).expect("it is there");
            socket.send(&initial).expect("the link is up");
            // The payload of this one is the file's page.
            let sent = rustix::fs::sendfile(&socket, &file, Some(&mut 0), initial.len());
            assert_eq!(sent, Ok(initial.len()));
            socket.send(&[0x40; 30]).expect("the link is up");
        });
        for _ in 0..3 {
            listener.recv(&mut [0; 1500]).expect("it came");
        }
        let totals = capture.settle();
        assert_eq!(totals.filter.of(Reason::QuicInitial), 2, "{totals:?}");
        assert_eq!(totals.filter.of(Reason::Quic), 1, "{totals:?}");
    }
}
