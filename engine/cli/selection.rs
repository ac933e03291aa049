//! The options that choose what is reported.

use super::values::RecordsArg;
use httplines::config::{Condition, Selection};
use std::str::FromStr;

#[derive(Debug, clap::Args)]
pub struct SelectionArgs {
    /// Kinds of records: http [default: http]
    ///
    /// `http`: exchanges of HTTP/1 and HTTP/2. There is no other kind yet.
    #[arg(long, value_name = "KINDS", help_heading = "Output", hide_short_help = true)]
    #[arg(value_delimiter = ',', hide_possible_values = true)]
    records: Vec<RecordsArg>,

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

    /// The conditions.
    pub fn selection(&self) -> Selection {
        Selection { wanted: self.only.clone(), unwanted: self.except.clone() }
    }
}
