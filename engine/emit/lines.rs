//! temporary
use super::{Format, JsonFormat, TextFormat};
use crate::capture::Polled;
use crate::http::{Exchange, FlowIdentity, Listener, Message};
use crate::stats::EmitStats;
use crate::time::TimestampNs;
use std::io::Write;

#[allow(missing_docs)]
#[derive(Debug)]
pub enum AnyFormat {
    Json(JsonFormat),
    Text(TextFormat),
}
/// temporary
#[derive(Debug)]
pub struct Lines {
    format: AnyFormat,
    out: Vec<u8>,
    stats: EmitStats,
}
#[allow(missing_docs)]
impl Lines {
    pub fn new(format: AnyFormat) -> Lines {
        Lines { format, out: Vec::new(), stats: EmitStats::default() }
    }
    pub fn rest(&mut self, _p: Polled) {
        let _ = std::io::stdout().write_all(&self.out);
        self.out.clear();
    }
    pub fn close(&mut self) {
        self.rest(Polled::End)
    }
    pub fn is_enough(&self) -> bool {
        false
    }
    pub fn stats(&self) -> &EmitStats {
        &self.stats
    }
}
impl Listener for Lines {
    fn message(&mut self, f: &FlowIdentity<'_>, m: &Message, w: TimestampNs) {
        match &mut self.format {
            AnyFormat::Json(j) => j.message(f, m, w, &mut self.out),
            AnyFormat::Text(j) => j.message(f, m, w, &mut self.out),
        }
    }
    fn exchange(&mut self, f: &FlowIdentity<'_>, e: &Exchange) {
        match &mut self.format {
            AnyFormat::Json(j) => j.exchange(f, e, &mut self.out),
            AnyFormat::Text(j) => j.exchange(f, e, &mut self.out),
        }
    }
}
