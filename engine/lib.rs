//! httplines: HTTP traffic on the wire, as lines, at the rate of the link.
//!
//! ```text
//!  wire ─► socket filter ─► ring ─► decode ─► flow ─► http ─► emit ─► writer ─► file
//!          (bpf/)           Frame   Segment   Chunk   Exchange lines   batches
//! ```
//!
//! Data goes one way, from left to right. A shard is one thread, pinned where the input is live,
//! with one of everything on this line but the writer; shards share nothing on it. (Where the input
//! is a file a shard may wait, and writes itself.) Both directions of a connection meet one shard,
//! which is what makes its flow table free of locks.
//!
//! A room imports only rooms to its left and the leaves, and `tests/architecture.rs` holds that:
//!
//! - [`config`], [`ids`], [`time`], [`stats`] are the leaves: every limit, identity and counter;
//!   and [`lanes`], which looks at sixteen bytes at once, and [`slim`], small options.
//! - [`sys`] is the only room with unsafe code: the kernel's interfaces, as safe values.
//! - [`capture`] brings a [`capture::Frame`] from a ring or a file. It knows nothing of what is in
//!   it.
//! - [`decode`] finds the [`decode::Segment`] in a frame, or the reason why there is none.
//! - [`flow`] puts the bytes of a connection in order: [`flow::Chunk`]s, and gaps to the byte.
//! - [`http`] finds heads, follows bodies, pairs requests with responses: [`http::Exchange`]s.
//! - [`emit`] makes lines of them and appends the lines to files.
//! - [`shard`] is the page on which all that can be read, for one shard.
//! - [`engine`] opens, starts, drains and stops shards and writer; [`totals`] adds up what they
//!   counted.
//!
//! `decode`, `flow` and `http` are pure: bytes and packet times in, values out; no clock, no
//! descriptor, no thread, no log. What arrives on the wire can never be an error or a panic there,
//! only a counted outcome.
//!
//! As a library: stop at the room you need. [`capture::FrameSource`] gives frames;
//! a [`decode::Decoder`] segments; a [`flow::FlowTable`] ordered bytes; a [`http::Conversation`]
//! exchanges, told to your [`http::Listener`].
//!
//! Features, both on by default: `live` is capture from interfaces and io_uring, `cli` what only
//! the program needs. Without them capture files are read and lines are written by write(2), and
//! nothing in C is built. The library sets no handler of a signal unasked: see
//! [`capture::pcap::install_sigbus_handler`].

#![deny(unsafe_code)]

pub mod capture;
pub mod config;
pub mod decode;
pub mod emit;
pub mod engine;
pub mod flow;
pub mod http;
pub mod ids;
pub mod shard;
pub mod slim;
pub mod stats;
#[allow(unsafe_code)]
// What its parts for `live` share with the others is not used without them.
#[cfg_attr(not(feature = "live"), allow(dead_code))]
pub mod sys;
/// Bytes in, masks out: a leaf for who uses it. Its home is `sys` because of its intrinsics.
pub use sys::lanes;
pub mod time;
pub mod totals;
