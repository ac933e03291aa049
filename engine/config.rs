//! All limits and options of a run. The unit is the last part of a name. [`Config::check`] states
//! how they relate.

use std::path::PathBuf;

mod active;
mod emit_checks;
mod files;
mod identity;
mod network;
mod output;
mod records;
mod restrictions;
mod sample;
mod sandbox;
mod selection;
mod watch;

pub use files::{FilesConfig, KeepFree};
pub use identity::{SensorName, SensorNameError};
pub use network::{Network, NetworkError};
pub use output::Output;
pub use records::RecordKinds;
pub use restrictions::{Choice, Restrictions};
pub use sample::{Sample, SampleError};
pub use sandbox::Sandbox;
pub use selection::{Condition, ConditionError, Field, Selection};
pub use watch::{ServiceManager, WatchConfig};

/// The name for all interfaces, including those that appear later.
pub const ANY_INTERFACE: &str = "any";

/// The extension of the file of statistics beside an output: `http.stats` beside `http.jsonl`.
pub const STATS_EXTENSION: &str = "stats";

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Interfaces by name; `any` is all of them.
    Live(Vec<String>),
    /// Capture files, read one after the other as one capture.
    Files(Vec<PathBuf>),
    /// A capture on standard input.
    Stdin,
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// A message's first line, as soon as its head is complete.
    Text {
        /// Starts with time, client and server.
        is_verbose: bool,
    },
    /// One JSON object for each exchange.
    Json,
}

/// The form of the headers of a message in a JSON line (`--headers-as`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderShape {
    /// `[[name, value], …]`, in the order in which they were sent and with names as sent. A value
    /// that is not shown exactly has a third element, `{"b64": …, "len": …}`: the bytes if they are
    /// not UTF-8, and the length on the wire if it was cut.
    #[default]
    List,
    /// `{name: value, …}`, with names in lower case, in the order in which they first appear.
    /// Headers with the same name have one key, with the list of their values. A value that is not
    /// shown exactly is `{"value": …, "b64": …, "len": …}`.
    Object,
}

/// Which frames of an interface are captured, by their direction (`-Q`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketDirection {
    /// Only frames that the host receives.
    In,
    /// Only frames that the host sends.
    Out,
    /// Both; on loopback only the received copy of each, since every packet appears twice there.
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

/// How the kernel spreads the frames of an interface over the shards (`--fanout`): packet(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanoutMode {
    /// By the innermost connection, also inside tunnels and of fragments. This is our own BPF
    /// program.
    Flow,
    /// The kernel's hash of the outermost connection. It separates the directions of a VXLAN
    /// tunnel, and fragments from their connection.
    Hash,
    /// The CPU that received the frame, for NICs that send both directions of a connection to the
    /// same CPU.
    Cpu,
    /// The queue of the NIC that received the frame, for NICs that use one queue for both
    /// directions (symmetric RSS).
    Queue,
}

/// Limits and options of the rings and the kernel filter.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// Bytes of one ring block: a power of two and a multiple of the page size. A frame that does
    /// not fit is cut. At least this much of a body reaches user space before its head is parsed,
    /// because the kernel hands over whole blocks.
    pub block_bytes: u32,
    /// Blocks of one ring (one ring for each shard and interface).
    pub block_count: u32,
    /// After this time the kernel hands over a block that is not full.
    pub retire_timeout_ms: u32,
    /// Frames are spread over more blocks, with free space between them, so that blocks fill
    /// sooner: a ring holds fewer frames, and the shards wake more often.
    pub is_low_latency: bool,
    /// HTTP sessions the filter can hold.
    pub session_count_max: u32,
    /// Connections the filter can hold whose first payload has not arrived.
    pub opening_count_max: u32,
    /// Which frames are captured.
    pub direction: PacketDirection,
    /// Whether the filter looks for HTTP.
    pub filter: FilterMode,
    /// Whether the filter passes what records of TLS need.
    pub wants_tls: bool,
    /// How frames are spread over the shards.
    pub fanout: FanoutMode,
    /// Bodies with at least this many bytes to come stay in the kernel; only packet headers are
    /// passed on. `None`: all bodies are passed to user space.
    pub elide_bytes_min: Option<u64>,
    /// Captures only a share of the connections while rings overflow, instead of losing frames of
    /// all.
    pub is_shedding: bool,
    /// Whether the interfaces are put into promiscuous mode.
    pub is_promiscuous: bool,
    /// Wait at the start for interfaces that are not there, or down (`--wait`).
    pub is_waiting: bool,
    /// Bytes of one read from a capture file.
    pub read_bytes: usize,
}

/// Limits and options of decoding, from frames to segments. Each bound holds for one shard.
#[derive(Clone, Debug)]
pub struct DecodeConfig {
    /// Which connections are wanted; the kernel filter applies this first.
    pub restrictions: Restrictions,
    /// Connections are told apart by addresses and ports alone, and not by VLANs and by VXLAN or
    /// Geneve networks, in user space as in the kernel. For links whose two directions travel in
    /// different ones. The restrictions still apply to the tags of each packet.
    pub is_vlan_ignored: bool,
    /// UDP destination ports that carry VXLAN.
    pub vxlan_ports: Vec<u16>,
    /// Incomplete datagrams that may wait for the rest. Beyond that, the oldest is given up.
    pub fragmented_count_max: usize,
    /// Bytes that incomplete datagrams may take. Beyond that, the oldest datagrams are given up.
    pub fragment_bytes_max: usize,
    /// A datagram that is not complete after this much packet time is given up. (Linux waits 30 s.)
    pub fragment_age_ms_max: u64,
    /// Bytes of joined datagrams that may wait for the shard of their connection, if their
    /// fragments met on another one. Beyond that, they are dropped.
    pub crossing_bytes_max: usize,
}

/// Limits of the flow table and the reassemblers. Each bound holds for one shard.
#[derive(Clone, Debug)]
pub struct FlowConfig {
    /// Connections in the table.
    pub flow_count_max: usize,
    /// A connection without a packet for this long is over.
    pub idle_timeout_ms: u64,
    /// A closed connection is remembered for this long, for its late packets.
    pub closed_timeout_ms: u64,
    /// What has been under way on a connection for this long is reported, and again each time this
    /// much later ([`Event::Partial`](crate::record::Event)). `None`: only what is over is.
    pub active_timeout_ms: Option<u64>,
    /// A hole that the peer has acknowledged past is given up after this much packet time.
    pub reorder_grace_ms: u64,
    /// Bytes that may wait behind a hole, for one direction of one connection.
    pub reorder_bytes_max: usize,
    /// Bytes that may wait behind holes in all connections of the shard.
    pub reorder_bytes_shard_max: usize,
}

/// Limits of messages and exchanges.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Bytes of a head that are kept. For longer heads the record reports their length.
    pub head_bytes_max: usize,
    /// Requests of one connection that may wait for their responses.
    pub pending_count_max: usize,
    /// Bytes that open heads, exchanges and connection states may take in all connections of a
    /// shard. Beyond half of it, those that take much are cut short; beyond all of it, every one.
    pub held_bytes_shard_max: usize,
    /// Leaves out requests on connections on which nobody answered: the other side sent nothing,
    /// not even an acknowledgement, so no handshake was seen either. They are counted.
    pub is_answered_only: bool,
    /// Counts exchanges by method, status, time to the first byte and status of gRPC
    /// ([`ExchangeClasses`](crate::protocol::classes::ExchangeClasses)).
    pub is_classified: bool,
}

impl HttpConfig {
    /// The total up to which a connection may take more memory.
    pub fn held_share(&self, is_modest: bool) -> usize {
        if is_modest { self.held_bytes_shard_max } else { self.held_bytes_shard_max / 2 }
    }
}

/// Limits and options of lines and the writer.
#[derive(Clone, Debug)]
pub struct EmitConfig {
    /// Where lines go.
    pub output: Output,
    /// The format of a line.
    pub format: LineFormat,
    /// One file per shard: `http.jsonl` becomes `http.0.jsonl`, `http.1.jsonl`, …
    pub is_per_shard: bool,
    /// When files are closed, and which are kept.
    pub files: FilesConfig,
    /// Bytes at which a batch of lines is handed to the writer.
    pub batch_bytes: usize,
    /// The same if a shard writes its lines itself. The kernel keeps a file in pages as large as
    /// the writes that create it, and few large pages cost less.
    pub direct_batch_bytes: usize,
    /// Batches that may wait for the writer, for one shard.
    pub batch_count_max: usize,
    /// Maximum bytes of one line.
    pub line_bytes_max: usize,
    /// Additional request and response headers to report, by name.
    pub extra_headers: Vec<String>,
    /// Report all headers.
    pub is_all_headers: bool,
    /// The form of these headers.
    pub header_shape: HeaderShape,
    /// Show credentials and cookies instead of masking them.
    pub is_secrets_shown: bool,
    /// Additional headers to mask, by name. They are masked even if secrets are shown.
    pub masked_headers: Vec<String>,
    /// Mask the userinfo, the parameters, the query and the fragment of URIs.
    pub is_query_redacted: bool,
    /// The name of this sensor, which all records have then.
    pub sensor: Option<SensorName>,
    /// The seed of the Community ID of each record's connection; `None`: they have none.
    pub community_id_seed: Option<u16>,
    /// Which kinds of records get a line.
    pub records: RecordKinds,
    /// Which exchanges, and the talks that they open, get a line.
    pub selection: Selection,
    /// How often a line is added to the file of statistics beside the output, if the capture is
    /// live and the output is a file of JSON lines; 0: there is no such file.
    pub stats_interval_ms: u64,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where frames come from.
    pub input: Input,
    /// The number of shards.
    pub shard_count: u16,
    /// Stop after this many exchanges (`-c`).
    pub exchange_count_max: Option<u64>,
    /// Limits and options of rings and filter.
    pub capture: CaptureConfig,
    /// Limits and options of tunnels and fragments.
    pub decode: DecodeConfig,
    /// Limits of the flow table.
    pub flow: FlowConfig,
    /// Limits of messages.
    pub http: HttpConfig,
    /// Limits and options of lines.
    pub emit: EmitConfig,
    /// The rights that the run keeps.
    pub sandbox: Sandbox,
    /// Who watches the run.
    pub watch: WatchConfig,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            block_bytes: 256 << 10,
            block_count: 256,
            retire_timeout_ms: 2,
            is_low_latency: false,
            session_count_max: 1 << 18,
            opening_count_max: 1 << 16,
            direction: PacketDirection::InOut,
            filter: FilterMode::Http,
            wants_tls: false,
            fanout: FanoutMode::Flow,
            elide_bytes_min: Some(8 << 10),
            is_shedding: false,
            is_promiscuous: true,
            is_waiting: false,
            read_bytes: 1 << 20,
        }
    }
}

impl Default for DecodeConfig {
    fn default() -> Self {
        DecodeConfig {
            restrictions: Restrictions::default(),
            is_vlan_ignored: false,
            // The registered port, and the one that Linux used before it was registered.
            vxlan_ports: vec![4789, 8472],
            fragmented_count_max: 8192,
            fragment_bytes_max: 16 << 20,
            fragment_age_ms_max: 30_000,
            crossing_bytes_max: 4 << 20,
        }
    }
}

impl Default for FlowConfig {
    fn default() -> Self {
        FlowConfig {
            flow_count_max: 1 << 20,
            idle_timeout_ms: 300_000,
            closed_timeout_ms: 5_000,
            active_timeout_ms: None,
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
            is_answered_only: false,
            is_classified: false,
        }
    }
}

impl Default for EmitConfig {
    fn default() -> Self {
        EmitConfig {
            output: Output::Stdout,
            format: LineFormat::Text { is_verbose: false },
            is_per_shard: false,
            files: FilesConfig::default(),
            batch_bytes: 256 << 10,
            direct_batch_bytes: 1 << 20,
            batch_count_max: 64,
            line_bytes_max: 16 << 10,
            extra_headers: Vec::new(),
            is_all_headers: false,
            header_shape: HeaderShape::List,
            is_secrets_shown: false,
            masked_headers: Vec::new(),
            is_query_redacted: false,
            sensor: None,
            community_id_seed: None,
            records: RecordKinds::default(),
            selection: Selection::default(),
            stats_interval_ms: 10_000,
        }
    }
}

/// A contradiction in a [`Config`]. The message is a sentence for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// [`CaptureConfig::block_bytes`] is out of range.
    #[error("a ring block must be a power of two and at least 16 KiB (--block-kib)")]
    BlockBytes,
    /// [`CaptureConfig::block_count`] is too small.
    #[error("a ring needs at least 2 blocks (-B, --block-kib): one fills while one is read")]
    BlockCount,
    /// [`CaptureConfig::retire_timeout_ms`] is zero.
    #[error("the retire timeout must be at least 1 ms")]
    RetireTimeout,
    /// [`FlowConfig::flow_count_max`] or [`HttpConfig::pending_count_max`] is zero.
    #[error("a shard must hold at least one connection with one request")]
    NoRoom,
    /// [`Input::Live`] names no interface.
    #[error("there is no interface to capture on; name one")]
    NoInterface,
    /// [`Input::Live`] names [`ANY_INTERFACE`] and others.
    #[error("-i any includes all other interfaces: use it alone")]
    AnyAndOthers,
    /// [`WatchConfig::metrics`] without [`Input::Live`].
    #[error(
        "--metrics is for capturing with -i; a file is read once, and then the run is over: leave \
             it out"
    )]
    MetricsOfFile,
    /// [`Config::shard_count`] is zero.
    #[error("at least one shard is needed")]
    NoShard,
    /// [`DecodeConfig::fragmented_count_max`], [`DecodeConfig::fragment_bytes_max`] or
    /// [`DecodeConfig::crossing_bytes_max`] is too small.
    #[error("the memory for fragments must hold one datagram: at least 128 KiB")]
    FragmentBytes,
    /// [`FlowConfig::active_timeout_ms`] is out of range.
    #[error("what is under way is reported after a second at the earliest, a week at the latest")]
    ActiveTimeout,
    /// [`FlowConfig::active_timeout_ms`] with [`LineFormat::Text`].
    #[error("a text line is written as soon as its head is complete: only JSON lines are partial")]
    ActiveTimeoutText,
    /// [`HttpConfig::is_answered_only`] with [`LineFormat::Text`].
    #[error(
        "a text line is written before an answer can come: leave out unanswered requests only \
             from JSON lines"
    )]
    AnsweredOnlyText,
    /// [`EmitConfig::selection`] with [`LineFormat::Text`].
    #[error(
        "a text line is written before its exchange is over: choose among exchanges only for JSON \
             lines"
    )]
    SelectionText,
    /// [`EmitConfig::selection`] has more than [`Selection::CONDITION_COUNT_MAX`] conditions.
    #[error("--only and --except take 64 conditions together; * and ? may join some of them")]
    ConditionCount,
    /// [`EmitConfig::files`] closes files, and lines go to standard output or are text.
    #[error(
        "standard output and text lines are not rotated: -C, -G, -W, --keep-size, --keep-free and \
             --compress need JSON lines in a file; add -o FILE, without --format text"
    )]
    RotateNoFile,
    /// [`EmitConfig::files`] says what becomes of closed files, and no file is closed.
    #[error(
        "-W, --keep-size, --keep-free and --compress are for closed files: add -C SIZE or -G TIME"
    )]
    KeepWithoutRotation,
    /// [`FilesConfig::rotate_interval`] is shorter than a second, or a limit of [`FilesConfig`] is
    /// zero.
    #[error("files are rotated at least one byte or one second apart, and at least one is kept")]
    RotateZero,
    /// [`FilesConfig::is_compressed`] without the feature `cli`.
    #[error("this build cannot compress files: it has no zstd (the feature cli)")]
    NoCompression,
    /// [`EmitConfig::batch_bytes`] or [`EmitConfig::direct_batch_bytes`] is too small.
    #[error("a batch must hold at least two lines of maximum length")]
    BatchBytes,
    /// [`EmitConfig::output`] has the name of the file of statistics.
    #[error(
        "the name of the output (-o) ends with .stats, as that of the file of statistics beside it \
         does: name another, such as http.jsonl, or do without statistics (--stats-interval 0)"
    )]
    StatsName,
    /// [`HttpConfig::head_bytes_max`] is too small.
    #[error("the limit for a head must be at least 1024 bytes")]
    HeadBytes,
}

impl Default for Config {
    /// The defaults, for a capture on standard input. Callers that pass frames to a
    /// [`Pipeline`](crate::pipeline::Pipeline) themselves need no other input.
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
            sandbox: Sandbox::default(),
            watch: WatchConfig::default(),
        }
    }

    /// The relations between limits that the code relies on.
    ///
    /// # Errors
    /// Returns the first relation that does not hold.
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
        if self.watch.metrics.is_some() && !matches!(self.input, Input::Live(_)) {
            return Err(ConfigError::MetricsOfFile);
        }
        if self.shard_count == 0 {
            return Err(ConfigError::NoShard);
        }
        let bytes_least = self.decode.fragment_bytes_max.min(self.decode.crossing_bytes_max);
        if self.decode.fragmented_count_max == 0 || bytes_least < 128 << 10 {
            return Err(ConfigError::FragmentBytes);
        }
        let batch_bytes_least = self.emit.batch_bytes.min(self.emit.direct_batch_bytes);
        if batch_bytes_least < 2 * self.emit.line_bytes_max {
            return Err(ConfigError::BatchBytes);
        }
        if self.http.head_bytes_max < 1024 {
            return Err(ConfigError::HeadBytes);
        }
        if self.http.is_answered_only && matches!(self.emit.format, LineFormat::Text { .. }) {
            return Err(ConfigError::AnsweredOnlyText);
        }
        self.flow.check_active(self.emit.format)?;
        self.emit.check_files()?;
        if self.has_statistics()
            && let Output::File(path) = &self.emit.output
            && *path == path.with_extension(STATS_EXTENSION)
        {
            return Err(ConfigError::StatsName);
        }
        self.emit.check_selection()
    }

    /// Whether there is a file of statistics beside the output, if that is a file and no FIFO or
    /// device.
    pub fn has_statistics(&self) -> bool {
        matches!(self.input, Input::Live(_))
            && matches!(self.emit.output, Output::File(_))
            && self.emit.format == LineFormat::Json
            && self.emit.stats_interval_ms > 0
    }
}
