//! Other programs that capture, with their best settings for this task: whole frames, a large ring,
//! every request printed or written.

use std::path::Path;

/// A program to compare with.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its name; for known ones, the name of the program.
    pub name: &'a str,
    /// Its command line: for [`crate::receiver::Kind::Command`].
    pub command: &'a str,
    /// Time it takes to start, and to finish its backlog.
    pub drain_s: f64,
    /// Minimum length of a trial, so that its start and end are not most of it.
    pub trial_s: f64,
}

/// For most: libpcap's timeout delays the last packets by a second.
pub const DRAIN_S: f64 = 1.2;
/// For most.
pub const TRIAL_S: f64 = 0.5;

/// All known peers.
pub const PEERS: [Peer<'static>; 7] = [
    Peer {
        name: "tcpdump",
        // It parses nothing: whole packets of port 80 go to a file.
        command: "exec tcpdump -i {iface} -B 65536 -s 0 -Z root -w {dir}/out.pcap tcp port 80",
        drain_s: DRAIN_S,
        trial_s: TRIAL_S,
    },
    Peer {
        name: "tcpflow",
        // It leaves a report in its working directory.
        command: "cd {dir} && exec tcpflow -i {iface} -c -B tcp dst port 80",
        drain_s: DRAIN_S,
        trial_s: TRIAL_S,
    },
    Peer {
        name: "httpry",
        command: "exec httpry -q -i {iface} -o {dir}/out",
        drain_s: DRAIN_S,
        trial_s: TRIAL_S,
    },
    Peer {
        name: "ngrep",
        command: "exec ngrep -q -t -W byline -d {iface} '^(GET|POST) ' tcp dst port 80",
        drain_s: DRAIN_S,
        trial_s: TRIAL_S,
    },
    Peer {
        name: "tshark",
        // Its capture process writes to a file, which it dissects later; it starts late.
        command: "exec tshark -q -n -l -i {iface} -B 64 -Y http.request -T fields \
                  -e http.request.full_uri -e http.request.uri",
        drain_s: 1.5,
        trial_s: 2.0,
    },
    Peer {
        name: "suricata",
        // Checksums are ignored, responses are reassembled to their end, no rule is loaded.
        command: "exec suricata --af-packet={iface} -k none -l {dir} -S /dev/null \
                  --set stream.reassembly.depth=0 --set af-packet.0.ring-size=200000 \
                  --set af-packet.0.use-mmap=yes --set af-packet.0.tpacket-v3=yes",
        drain_s: 3.0,
        trial_s: 2.0,
    },
    Peer {
        name: "zeek",
        command: "cd {dir} && exec zeek -C -i {iface}",
        drain_s: 3.0,
        trial_s: 2.0,
    },
];

impl Peer<'static> {
    /// The peer of that name.
    pub fn named(name: &str) -> Option<&'static Peer<'static>> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    /// Whether its program is installed.
    pub fn is_installed(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| Path::new(&folder).join(self.name).is_file())
    }
}
