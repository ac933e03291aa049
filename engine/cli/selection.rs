//! The options that choose what is reported.

use super::values::RecordsArg;
use httplines::config::{Condition, RecordKinds, Selection};
use std::str::FromStr;

/// Why talks are refused in text.
pub const NEEDS_JSON: &str = "talks of WebSocket and connections of TLS (--records) have JSON \
     lines only: add -o FILE, or -o - for standard output";

/// Why an early record is refused without records of TLS.
pub const NEEDS_TLS: &str = "--tls-early is about connections of TLS: add tls to --records";

/// Why a number of exchanges is refused without exchanges.
pub const NEEDS_HTTP: &str = "-c counts exchanges: add http to --records";

#[derive(Debug, clap::Args)]
pub struct SelectionArgs {
    /// Kinds of records: http,websocket,tls [default: http]
    ///
    /// `http`: exchanges of HTTP/1 and HTTP/2. The others are for JSON lines. `websocket`: talks of
    /// WebSocket, each with a record at its end that counts what both sides have sent. Without it,
    /// a connection is left in the kernel once it has switched to WebSocket. `tls`: connections of
    /// TLS, each with a record at its end that tells what is in clear of its handshake. -c counts
    /// exchanges only.
    #[arg(long, value_name = "KINDS", help_heading = "Output", hide_short_help = true)]
    #[arg(value_delimiter = ',', hide_possible_values = true)]
    records: Vec<RecordsArg>,

    /// TLS records when the handshake has ended, not at the end
    ///
    /// The record of a connection of TLS is then without what only its end tells: duration_ns,
    /// client_bytes, server_bytes, outcome and end_reason. A handshake that does not end well is
    /// told at the end of its connection, with all of these.
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    tls_early: bool,

    /// Only exchanges that match: status=5xx (repeatable; JSON)
    ///
    /// FIELD is method, host, target, status, grpc_status, client or server. In GLOB, * stands for
    /// any text and ? for any single byte; the whole field must match. Conditions on one field are
    /// alternatives, and each field that is named must match. status takes 404, 5xx, 4*, and none
    /// if there was no response; grpc_status takes 14, ?*, and none; client and server take an
    /// address, a network or a GLOB. Exchanges that do not match are counted as withheld; -c does
    /// not count them.
    #[arg(long, value_name = "FIELD=GLOB", help_heading = "Output", hide_short_help = true)]
    #[arg(value_parser = Condition::from_str)]
    only: Vec<Condition>,

    /// No exchanges that match: target=/healthz (repeatable; JSON)
    ///
    /// Like --only. An exchange that any of these conditions matches is withheld.
    #[arg(long, value_name = "FIELD=GLOB", help_heading = "Output", hide_short_help = true)]
    #[arg(value_parser = Condition::from_str)]
    except: Vec<Condition>,
}

impl SelectionArgs {
    /// Whether there is a condition.
    pub fn is_given(&self) -> bool {
        !self.only.is_empty() || !self.except.is_empty()
    }

    /// Whether `kind` was named. If none was, there are exchanges.
    fn names(&self, kind: RecordsArg) -> bool {
        self.records.contains(&kind) || self.records.is_empty() && kind == RecordsArg::Http
    }

    /// The kinds of records.
    pub fn records(&self) -> RecordKinds {
        RecordKinds {
            http: self.names(RecordsArg::Http),
            websocket: self.names(RecordsArg::Websocket),
            tls: self.names(RecordsArg::Tls),
            is_tls_early: self.tls_early,
        }
    }

    /// Whether there are records that have JSON lines only.
    pub fn names_others(&self) -> bool {
        self.names(RecordsArg::Websocket) || self.names(RecordsArg::Tls)
    }

    /// Whether --tls-early is given without records of TLS.
    pub fn is_early_alone(&self) -> bool {
        self.tls_early && !self.names(RecordsArg::Tls)
    }

    /// The conditions.
    pub fn selection(&self) -> Selection {
        Selection { wanted: self.only.clone(), unwanted: self.except.clone() }
    }
}
