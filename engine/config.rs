//! Every limit and choice of a run, its unit last in its name. [`Config::check`] states how they
//! relate.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// The name that stands for all interfaces, those to come included.
pub const ANY_INTERFACE: &str = "any";

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Interfaces by name; `any` is all of them.
    Live(Vec<String>),
    /// A capture file.
    File(PathBuf),
    /// A capture on standard input.
    Stdin,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// A message's first line, as soon as its head is complete.
    Text {
        /// With time, client and server in front.
        is_verbose: bool,
    },
    /// One JSON object for each exchange.
    Json,
}

/// Which frames of an interface count, by the way they go through it (`-Q`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketDirection {
    /// Only those the host receives.
    In,
    /// Only those the host sends.
    Out,
    /// Both; on loopback only the received copy of each, since every packet comes twice there.
    InOut,
}

/// Whether the kernel filter admits HTTP sessions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterMode {
    /// Only HTTP sessions.
    Http,
    /// All TCP, for comparison.
    Off,
}

/// What is wanted of one kind, and what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<T> {
    /// Only these, if there are any.
    pub wanted: Vec<T>,
    /// None of these.
    pub unwanted: Vec<T>,
}

/// An IP network: all addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One of its addresses.
    pub address: IpAddr,
    /// How many bits they have in common: at most 32, or 128 for IPv6.
    pub prefix_bits: u8,
}

/// Which connections are wanted, by their innermost endpoints and all their VLANs. Of each kind
/// there is a choice; a connection is wanted where no kind refuses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// By the port of either endpoint.
    pub ports: Choice<RangeInclusive<u16>>,
    /// By the address of either endpoint.
    pub networks: Choice<Network>,
    /// By any tag.
    pub vlans: Choice<u16>,
}

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Choice { wanted: Vec::new(), unwanted: Vec::new() }
    }
}

impl<T> Choice<T> {
    /// Nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }

    /// Whether this kind refuses a connection, of which `is_of` tells whether a choice is its own.
    pub fn refuses(&self, is_of: impl Fn(&T) -> bool) -> bool {
        self.unwanted.iter().any(&is_of)
            || !self.wanted.is_empty() && !self.wanted.iter().any(&is_of)
    }
}

impl Network {
    /// Whether `address` is one of its addresses.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, all_bits) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        let host_bits = all_bits - u32::from(self.prefix_bits);
        (ours ^ theirs).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// This is no network. Its sentence is what stands behind "takes" in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address or a network such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    /// `10.0.0.0/8`, `2001:db8::/32`; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let all_bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => all_bits,
            Some(bits) => bits.parse().ok().filter(|n| *n <= all_bits).ok_or(NetworkError)?,
        };
        Ok(Network { address, prefix_bits })
    }
}

/// How the kernel spreads the frames of an interface over the shards (`--fanout`): packet(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanoutMode {
    /// Our own program: by the innermost connection, through tunnels; fragments follow their first.
    Flow,
    /// The kernel's hash of the outermost connection. It parts the directions of a VXLAN tunnel.
    Hash,
    /// The CPU that the frame came in on: for NICs that send both directions of a connection to
    /// one.
    Cpu,
    /// The queue of the NIC that it came in on, the same (symmetric RSS).
    Queue,
}

/// Of the rings and the kernel filter.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Bytes of one ring block: a power of two and a multiple of the page size. What does not fit
    /// is cut off a frame. So much of a body comes up at least before its head is read: the kernel
    /// hands over whole blocks.
    pub block_bytes: u32,
    /// Blocks of one ring (one ring a shard and interface).
    pub block_count: u32,
    /// After this time the kernel hands over a block that is not full.
    pub retire_timeout_ms: u32,
    /// HTTP sessions the filter can hold.
    pub session_count_max: u32,
    /// Connections the filter can hold whose first payload has not come.
    pub opening_count_max: u32,
    /// Which frames count.
    pub direction: PacketDirection,
    /// Whether the filter looks for HTTP.
    pub filter: FilterMode,
    /// Which shard a frame goes to.
    pub fanout: FanoutMode,
    /// Bodies of so many bytes to come stay in the kernel, but for their headers; `None`: all come
    /// up.
    pub elide_bytes_min: Option<u64>,
    /// Whether the interfaces are put into promiscuous mode.
    pub is_promiscuous: bool,
    /// Bytes of one read from a capture file.
    pub read_bytes: usize,
}

/// Of the way from frames to segments; each bound holds for one shard.
#[derive(Clone, Debug)]
pub struct DecodeConfig {
    /// Which connections are wanted; the kernel filter applies this first.
    pub restrictions: Restrictions,
    /// UDP destination ports that carry VXLAN.
    pub vxlan_ports: Vec<u16>,
    /// Datagrams of which parts may wait for the rest: of more, the oldest is given up.
    pub fragmented_count_max: usize,
    /// Bytes that such parts may take: beyond it, the oldest datagrams are given up.
    pub fragment_bytes_max: usize,
    /// A datagram that is not whole after so much packet time is given up. (Linux waits 30 s.)
    pub fragment_age_ms_max: u64,
}

/// Of the flow table and the reassemblers; each bound holds for one shard.
#[derive(Clone, Debug)]
pub struct FlowConfig {
    /// Connections in the table.
    pub flow_count_max: usize,
    /// A connection without a packet for so long is over.
    pub idle_timeout_ms: u64,
    /// A connection that was closed is remembered so long, for its late packets.
    pub closed_timeout_ms: u64,
    /// A hole that the peer has acknowledged past is given up after this much packet time.
    pub reorder_grace_ms: u64,
    /// Bytes that may wait behind a hole, for one direction of one connection.
    pub reorder_bytes_max: usize,
    /// Bytes that may wait behind holes in all connections of the shard.
    pub reorder_bytes_shard_max: usize,
}

/// Of messages and exchanges.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Bytes of a head that are kept; of longer ones the record says how long they were.
    pub head_bytes_max: usize,
    /// Requests of one connection that may wait for their answers.
    pub pending_count_max: usize,
    /// Bytes that heads, exchanges and conversations under way may take in all connections of a
    /// shard. Beyond half of it those that take much are cut short, beyond all of it every one.
    pub held_bytes_shard_max: usize,
}

impl HttpConfig {
    /// Up to how many bytes in all a connection may take more.
    pub fn held_share(&self, is_modest: bool) -> usize {
        if is_modest { self.held_bytes_shard_max } else { self.held_bytes_shard_max / 2 }
    }
}

/// Of lines and the writer.
#[derive(Clone, Debug)]
pub struct EmitConfig {
    /// Where lines go.
    pub output: Output,
    /// What a line is.
    pub format: LineFormat,
    /// A file for each shard: `http.jsonl` becomes `http.0.jsonl`, `http.1.jsonl`, …
    pub is_per_shard: bool,
    /// Bytes at which a batch of lines goes to the writer.
    pub batch_bytes: usize,
    /// The same where a shard writes its lines itself. The kernel keeps a file in pages as large as
    /// the writes that make it, and few large ones cost it less.
    pub direct_batch_bytes: usize,
    /// Batches that may wait for the writer, for one shard.
    pub batch_count_max: usize,
    /// Bytes of one line at most.
    pub line_bytes_max: usize,
    /// More request and response headers to report, by name.
    pub extra_headers: Vec<String>,
    /// Report all headers.
    pub is_all_headers: bool,
    /// Show credentials and cookies instead of masking them.
    pub is_secrets_shown: bool,
    /// Mask the query part of targets.
    pub is_query_redacted: bool,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where frames come from.
    pub input: Input,
    /// How many shards.
    pub shard_count: u16,
    /// Stop after so many exchanges (`-c`).
    pub exchange_count_max: Option<u64>,
    /// Rings and filter.
    pub capture: CaptureConfig,
    /// Tunnels and fragments.
    pub decode: DecodeConfig,
    /// Flow table.
    pub flow: FlowConfig,
    /// Messages.
    pub http: HttpConfig,
    /// Lines.
    pub emit: EmitConfig,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            block_bytes: 256 << 10,
            block_count: 256,
            retire_timeout_ms: 2,
            session_count_max: 1 << 18,
            opening_count_max: 1 << 16,
            direction: PacketDirection::InOut,
            filter: FilterMode::Http,
            fanout: FanoutMode::Flow,
            elide_bytes_min: Some(8 << 10),
            is_promiscuous: true,
            read_bytes: 1 << 20,
        }
    }
}

impl Default for DecodeConfig {
    fn default() -> Self {
        DecodeConfig {
            restrictions: Restrictions::default(),
            // The registered port, and the one that Linux used before there was one.
            vxlan_ports: vec![4789, 8472],
            fragmented_count_max: 8192,
            fragment_bytes_max: 16 << 20,
            fragment_age_ms_max: 30_000,
        }
    }
}

impl Default for FlowConfig {
    fn default() -> Self {
        FlowConfig {
            flow_count_max: 1 << 20,
            idle_timeout_ms: 300_000,
            closed_timeout_ms: 5_000,
            reorder_grace_ms: 10,
            reorder_bytes_max: 1 << 20,
            reorder_bytes_shard_max: 256 << 20,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            head_bytes_max: 64 << 10,
            pending_count_max: 1024,
            held_bytes_shard_max: 256 << 20,
        }
    }
}

impl Default for EmitConfig {
    fn default() -> Self {
        EmitConfig {
            output: Output::Stdout,
            format: LineFormat::Text { is_verbose: false },
            is_per_shard: false,
            batch_bytes: 256 << 10,
            direct_batch_bytes: 1 << 20,
            batch_count_max: 64,
            line_bytes_max: 16 << 10,
            extra_headers: Vec::new(),
            is_all_headers: false,
            is_secrets_shown: false,
            is_query_redacted: false,
        }
    }
}

/// What contradicts itself in a [`Config`]: a sentence for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// [`CaptureConfig::block_bytes`].
    #[error("a ring block must be a power of two and at least 16 KiB")]
    BlockBytes,
    /// [`CaptureConfig::block_count`].
    #[error("a ring needs at least 2 blocks: one fills while one is read")]
    BlockCount,
    /// [`CaptureConfig::retire_timeout_ms`].
    #[error("the retire timeout must be at least 1 ms")]
    RetireTimeout,
    /// [`FlowConfig::flow_count_max`] and [`HttpConfig::pending_count_max`].
    #[error("a shard must hold at least one connection with one request")]
    NoRoom,
    /// [`Input::Live`] names none.
    #[error("there is no interface to capture on; name one")]
    NoInterface,
    /// [`Input::Live`] names [`ANY_INTERFACE`] and others.
    #[error("-i any includes all other interfaces: use it alone")]
    AnyAndOthers,
    /// [`Config::shard_count`].
    #[error("at least one shard is needed")]
    NoShard,
    /// [`DecodeConfig::fragmented_count_max`] and [`DecodeConfig::fragment_bytes_max`].
    #[error("the memory for fragments must hold one datagram: at least 128 KiB")]
    FragmentBytes,
    /// [`EmitConfig::batch_bytes`] and [`EmitConfig::direct_batch_bytes`].
    #[error("a batch must hold at least two lines of maximum length")]
    BatchBytes,
    /// [`HttpConfig::head_bytes_max`].
    #[error("the limit for a head must be at least 1024 bytes")]
    HeadBytes,
}

impl Default for Config {
    /// The defaults, for a capture on standard input. Who brings frames to a
    /// [`Pipeline`](crate::pipeline::Pipeline) needs no other input.
    fn default() -> Config {
        Config::new(Input::Stdin)
    }
}

impl Config {
    /// The defaults, for `input`, on one shard.
    pub fn new(input: Input) -> Config {
        Config {
            input,
            shard_count: 1,
            exchange_count_max: None,
            capture: CaptureConfig::default(),
            decode: DecodeConfig::default(),
            flow: FlowConfig::default(),
            http: HttpConfig::default(),
            emit: EmitConfig::default(),
        }
    }

    /// The relations between limits that the code relies on.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        let capture = &self.capture;
        if !capture.block_bytes.is_power_of_two() || capture.block_bytes < 16 << 10 {
            return Err(ConfigError::BlockBytes);
        }
        if capture.block_count < 2 {
            return Err(ConfigError::BlockCount);
        }
        if capture.retire_timeout_ms == 0 {
            return Err(ConfigError::RetireTimeout);
        }
        if self.flow.flow_count_max == 0 || self.http.pending_count_max == 0 {
            return Err(ConfigError::NoRoom);
        }
        if let Input::Live(names) = &self.input {
            if names.is_empty() {
                return Err(ConfigError::NoInterface);
            }
            if names.iter().any(|name| name == ANY_INTERFACE)
                && names.iter().any(|name| name != ANY_INTERFACE)
            {
                return Err(ConfigError::AnyAndOthers);
            }
        }
        if self.shard_count == 0 {
            return Err(ConfigError::NoShard);
        }
        if self.decode.fragmented_count_max == 0 || self.decode.fragment_bytes_max < 128 << 10 {
            return Err(ConfigError::FragmentBytes);
        }
        let batch_bytes_least = self.emit.batch_bytes.min(self.emit.direct_batch_bytes);
        if batch_bytes_least < 2 * self.emit.line_bytes_max {
            return Err(ConfigError::BatchBytes);
        }
        if self.http.head_bytes_max < 1024 {
            return Err(ConfigError::HeadBytes);
        }
        Ok(())
    }
}
