//! httplines: HTTP traffic on the wire, as lines, at the rate of the link.
//!
//! ```text
//!  wire ──► socket filter ──► ring ──► decode ──► flow ──► protocol ──► record ──► output ──► file
//!           (bpf/)            Frame    Segment    Chunk    Event        lines      batches
//!                 ▲                                       │
//!                 └────────── elide until seq N ◄─────────┘
//! ```
//!
//! Data goes one way, from left to right. A shard is one thread, pinned where the input is live,
//! with one of everything on this line but the writer; shards share nothing on it. (Fragments may
//! meet on another shard than that of their connection: what they make then crosses, by a queue.
//! Where the input is a file a shard may wait, and writes its lines itself.) Both directions of a
//! connection meet one shard, which is what makes its flow table free of locks.
//!
//! A module imports only modules above it in this list and the leaves, which
//! `tests/architecture.rs` checks:
//!
//! - [`config`], [`ids`], [`time`], [`stats`] are the leaves: every limit, identity and counter;
//!   and [`simd`], which looks at sixteen bytes at once, [`line_memory`], where lines are written,
//!   [`packed_option`], small options, and [`printable`], what may be shown.
//! - [`sys`] is the only module with unsafe code: the kernel's interfaces, as safe values.
//! - [`capture`] brings a [`capture::Frame`] from a ring or a file. It knows nothing of what is in
//!   it.
//! - [`decode`] finds the [`decode::Segment`] in a frame, or the reason why there is none.
//! - [`flow`] puts the bytes of a connection in order: [`flow::Chunk`]s, and gaps to the byte.
//! - [`record`] is what is reported, whatever protocol it came from: [`record::Event`]s with named
//!   fields, and the formats that make lines of them.
//! - [`protocol`] is what a connection speaks, from chunks to events: one folder a protocol, behind
//!   one trait.
//! - [`pipeline`] is the page on which all that can be read: a segment goes in, events come out.
//! - [`output`] gathers lines into batches and appends them to files.
//! - [`shard`] is one pinned thread: a source and a pipeline.
//! - `observe` has what is reported about a run apart from its records: statistics.
//! - `engine` opens, starts, drains and stops shards and writer; `totals` adds up what they
//!   counted. (All three with the feature `live`.)
//!
//! `decode`, `flow`, `protocol` and `record` are pure: bytes and packet times in, values out; no
//! clock, no descriptor, no thread, no log. What arrives on the wire can never be an error or a
//! panic there, only a counted outcome.
//!
//! # As a library
//!
//! Stop where you like: a [`capture::FrameSource`] gives frames, a [`decode::Decoder`] segments, a
//! [`flow::FlowTable`] ordered bytes, a [`Pipeline`] events. [`pipeline`] begins with a program of
//! a few lines, `examples/` has three more.
//!
//! Two features are on by default. `live` captures from interfaces and needs clang, libelf and zlib
//! to build; `cli` is what only the program needs, and reads compressed capture files. Without them
//! (`default-features = false`) the library reads capture files that are not compressed, and needs
//! no C compiler. It installs no signal handler unasked
//! ([`capture::pcap::install_sigbus_handler`]).

#![deny(unsafe_code)]

pub mod capture;
pub mod config;
pub mod decode;
#[cfg(feature = "live")]
pub mod engine;
pub mod flow;
pub mod ids;
#[cfg(feature = "live")]
pub mod observe;
pub mod output;
pub mod packed_option;
pub mod pipeline;
pub mod printable;
pub mod protocol;
pub mod record;
pub mod shard;
pub mod stats;
#[allow(unsafe_code)]
// What its parts for `live` share with the others is not used without them.
#[cfg_attr(not(feature = "live"), allow(dead_code))]
pub mod sys;
/// Leaves for who uses them: bytes in, masks or lines out. Their home is `sys` because of
/// intrinsics and of memory that is not initialised.
pub use sys::{line_memory, simd};
pub mod time;
#[cfg(feature = "live")]
pub mod totals;

pub use capture::pcap::CaptureFile;
pub use config::Config;
pub use pipeline::Pipeline;
pub use record::{Event, EventSink};
