//! httplines: HTTP traffic on the wire, as lines, at the rate of the link.

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
pub mod stats;
#[allow(unsafe_code)]
pub mod sys;
pub mod time;
pub mod totals;
