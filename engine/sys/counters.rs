//! The counters of the kernel filter: names for the numbers in `bpf/shared.h`.

/// Declares [`Reason`] with each variant's name and documentation, in the order of the C enum.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What happened to a frame in the kernel filter: exactly one of these. `enum reason` in
        /// `bpf/shared.h` is the same list.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All of them, rejections first.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The name in the totals.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// Arrived while the gate was shut; belongs to no total.
    Gated = "gated",
    /// Rejected: travels in an unwanted direction, or is loopback's second copy.
    Direction = "direction",
    /// Rejected: neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// Rejected: IP, but neither TCP nor QUIC.
    NotTcp = "not_tcp",
    /// Rejected: UDP that begins with an Initial of QUIC, to the lower port of the two: a client's.
    QuicInitial = "quic_initial",
    /// Rejected: another UDP datagram of QUIC, or of port 443.
    Quic = "quic",
    /// Rejected: a port, network or VLAN that the user does not want.
    Unwanted = "unwanted",
    /// Rejected: a connection that is not in the sample that the user wants.
    Sampled = "sampled",
    /// Rejected: a connection of the sample that is left out for now, since rings overflow.
    Shed = "shed",
    /// Rejected: a segment without data, of neither a session nor an opening.
    NoPayload = "no_payload",
    /// Rejected: both ends began with a TLS record, or these data begin like one.
    Tls = "tls",
    /// Rejected: the connection was found not to be HTTP, or these data do not begin like HTTP.
    Other = "other",
    /// Rejected: an acknowledgement without data, of a session, within a body that the filter has
    /// found. The first of a body and one in each 64 KiB pass.
    BodyAck = "body_ack",
    /// Passed: TCP, and the filter is configured to pass all of it.
    FilterOff = "filter_off",
    /// Passed: part of an HTTP session.
    Session = "session",
    /// Passed, cut to its headers: the data are known to be part of a body.
    Elided = "elided",
    /// Passed: the connection's protocol is not known yet.
    Opening = "opening",
    /// Passed: begins a message, which made its session known.
    Admitted = "admitted",
    /// Passed, if records of TLS are wanted: the beginning or the end of a TLS connection; or the
    /// headers of a segment that reaches a multiple of 1 GiB.
    TlsWanted = "tls_wanted",
    /// Passed: a fragment that may be TCP.
    Fragment = "fragment",
    /// Passed: a tunnel that only user space can decode.
    Tunnel = "tunnel",
    /// Passed: more VLAN tags or tunnels than the filter follows.
    TooDeep = "too_deep",
    /// Passed: headers that the filter could not parse exactly.
    Unparsed = "unparsed",
}

impl Reason {
    /// Number of reasons: `REASON_COUNT`.
    pub const COUNT: usize = Reason::ALL.len();

    /// Whether frames with this reason reach user space.
    pub fn is_pass(self) -> bool {
        self as usize >= Reason::FilterOff as usize
    }
}

/// Words of one CPU's slot, including unused ones: `SLOT_WORDS`.
pub(super) const SLOT_WORDS: usize = 32;

/// Counts of the filter since it was loaded, summed over all CPUs. The words are read one by one,
/// so while frames flow two of them may be a few frames apart; behind a shut gate they are exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterCounters {
    /// Frames by [`Reason`], in the order of [`Reason::ALL`].
    pub frames: [u64; Reason::COUNT],
    /// Sessions added to the map.
    pub sessions_made: u64,
    /// Sessions that were not added because the map was full.
    pub sessions_failed: u64,
    /// Sessions that the map had evicted, and that were restored because user space follows their
    /// connection.
    pub sessions_restored: u64,
    /// SYNs added to the map of openings.
    pub openings_made: u64,
    /// SYNs that were not added because the map was full.
    pub openings_failed: u64,
    /// Payload bytes that were cut off elided frames.
    pub elided_bytes: u64,
    /// Bodies whose end the filter found itself.
    pub bodies_found: u64,
    /// Frames from outside that are neither IPv4, IPv6 nor ARP. If no other protocol takes such a
    /// frame, the kernel counts it as dropped once the filter has seen it. Those before the gate
    /// opened are included.
    pub unclaimed: u64,
}

impl FilterCounters {
    /// Frames counted under `reason`.
    pub fn of(&self, reason: Reason) -> u64 {
        self.frames[reason as usize]
    }

    /// Frames that the filter judged: those that arrived while its gate was open.
    pub fn offered(&self) -> u64 {
        self.rejected() + self.passed()
    }

    /// Frames that were rejected while the gate was open.
    pub fn rejected(&self) -> u64 {
        self.sum(|reason| !reason.is_pass() && reason != Reason::Gated)
    }

    /// Frames that went to the ring; the kernel's `tp_packets` has the same number.
    pub fn passed(&self) -> u64 {
        self.sum(Reason::is_pass)
    }

    /// Name and number of every counter.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let frames = Reason::ALL.iter().map(|reason| (reason.name(), self.of(*reason)));
        frames.chain([
            ("sessions_made", self.sessions_made),
            ("sessions_failed", self.sessions_failed),
            ("sessions_restored", self.sessions_restored),
            ("openings_made", self.openings_made),
            ("openings_failed", self.openings_failed),
            ("elided_bytes", self.elided_bytes),
            ("bodies_found", self.bodies_found),
            ("unclaimed", self.unclaimed),
        ])
    }

    /// Adds one CPU's slot.
    pub(super) fn add_slot(&mut self, words: &[u64; SLOT_WORDS]) {
        for (sum, word) in self.frames.iter_mut().zip(words) {
            *sum += word;
        }
        let rest = &words[Reason::COUNT..];
        self.sessions_made += rest[0];
        self.sessions_failed += rest[1];
        self.sessions_restored += rest[2];
        self.openings_made += rest[3];
        self.openings_failed += rest[4];
        self.elided_bytes += rest[5];
        self.bodies_found += rest[6];
        self.unclaimed += rest[7];
    }

    fn sum(&self, is_wanted: impl Fn(Reason) -> bool) -> u64 {
        Reason::ALL.iter().filter(|reason| is_wanted(**reason)).map(|reason| self.of(*reason)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = include_str!("../../bpf/shared.h");

    /// The first word of each line of `text` between `from` and `to`, without anything after a
    /// comma.
    fn entries<'a>(from: &str, to: &str) -> Vec<&'a str> {
        let text = SHARED.split_once(from).expect("shared.h has it").1;
        let text = text.split_once(to).expect("and its end").0;
        text.lines().filter_map(|line| line.trim().split_once([',', ';'])).map(|(w, _)| w).collect()
    }

    #[test]
    fn reasons_are_those_of_the_kernel_half() {
        let theirs = entries("enum reason {", "};");
        let ours =
            Reason::ALL.iter().map(|reason| format!("REASON_{}", reason.name().to_uppercase()));
        assert_eq!(ours.chain(["REASON_COUNT".into()]).collect::<Vec<_>>(), theirs);
        let first = SHARED.lines().find_map(|line| line.strip_prefix("#define REASON_PASS_FIRST "));
        let pass = Reason::ALL.iter().find(|reason| reason.is_pass()).expect("some pass");
        assert_eq!(first, Some(format!("REASON_{}", pass.name().to_uppercase()).as_str()));
    }

    #[test]
    fn counters_are_those_of_the_kernel_half() {
        let theirs = entries("enum counter {", "};");
        let counters = FilterCounters::default();
        let ours = counters.each().skip(Reason::COUNT).map(|(name, _)| name.to_uppercase());
        let mut ours: Vec<String> = ours.map(|name| format!("COUNTER_{name}")).collect();
        ours[0] += " = REASON_COUNT";
        ours.push("COUNTER_COUNT".into());
        assert_eq!(theirs, ours);
        assert!(SHARED.lines().any(|line| line == format!("#define SLOT_WORDS {SLOT_WORDS}")));
    }

    #[test]
    fn totals_leave_out_what_came_before_the_gate_opened() {
        let mut counters = FilterCounters::default();
        let slot = std::array::from_fn(|index| 1 << index);
        counters.add_slot(&slot);
        assert_eq!(counters.of(Reason::Gated), 1);
        assert_eq!(counters.rejected(), 0b1_1111_1111_1110);
        assert_eq!(counters.passed(), 0b111_1111_1110_0000_0000_0000);
        assert_eq!(counters.offered(), counters.rejected() + counters.passed());
        assert_eq!(counters.sessions_made, 1 << 23);
        assert_eq!(counters.each().last(), Some(("unclaimed", 1 << 30)));
    }
}
