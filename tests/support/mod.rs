//! Shared by the integration tests: packets, conversations, capture files, records, and a lab of
//! namespaces. The tests of the benchmark harness use a part of it.

pub mod attack_harness;
pub mod attacks;
pub mod calls;
pub mod capture_file;
pub mod confine;
pub mod conversation;
pub mod exchange;
pub mod exposition;
pub mod fault_site;
pub mod faulty_disk;
pub mod fields;
pub mod found;
pub mod fragment;
pub mod hpack;
pub mod http2;
pub mod http2_attacks;
pub mod kernel_flow;
pub mod kernel_packet;
pub mod keys;
pub mod lab;
pub mod live_capture;
pub mod lossy;
pub mod namespace;
pub mod oracle;
pub mod packet;
pub mod pages;
pub mod program;
pub mod records;
pub mod reported;
pub mod schema;
pub mod service_manager;
pub mod skip;
pub mod stats_schema;
pub mod stopped_thread;
pub mod strangers;
pub mod terminal;
pub mod tls;
pub mod traffic;
pub mod tshark;
pub mod tunnel;
pub mod websocket;
pub mod wire;

pub(crate) use skip::skip;
