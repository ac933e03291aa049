//! Which exchanges get a line (`--only`, `--except`), as the user writes it.

use super::network::Network;
use std::str::FromStr;

/// A field of an exchange that conditions can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The request's method.
    Method,
    /// The `Host` header of the request, in upper or lower case.
    Host,
    /// The request's target, as sent.
    Target,
    /// The status of the response.
    Status,
    /// The status of a call of gRPC.
    GrpcStatus,
    /// The client's address.
    Client,
    /// The server's address.
    Server,
    /// The server that a client of TLS asks for, in upper or lower case.
    Sni,
}

impl Field {
    /// All fields.
    pub const ALL: [Field; 8] = [
        Field::Method,
        Field::Host,
        Field::Target,
        Field::Status,
        Field::GrpcStatus,
        Field::Client,
        Field::Server,
        Field::Sni,
    ];

    /// The name in a condition.
    pub fn name(self) -> &'static str {
        match self {
            Field::Method => "method",
            Field::Host => "host",
            Field::Target => "target",
            Field::Status => "status",
            Field::GrpcStatus => "grpc_status",
            Field::Client => "client",
            Field::Server => "server",
            Field::Sni => "sni",
        }
    }
}

/// `FIELD=GLOB`. In a glob, `*` stands for any bytes, also none, and `?` for any single one. A
/// field that an exchange does not have is an empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The field.
    pub field: Field,
    /// The glob that all of it must match. For a status, `x` is like `?`; for one of gRPC, too,
    /// `none` is like an empty glob. For an address, a network is possible, too.
    pub glob: String,
}

impl Condition {
    /// The longest glob, in bytes.
    pub const GLOB_BYTES_MAX: usize = 127;
}

/// A text that is no condition. The message completes a sentence that ends with "takes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// There is no such field, or no `=`.
    #[error(
        "FIELD=GLOB with one of the fields method, host, target, status, grpc_status, client, \
         server and sni"
    )]
    Field,
    /// No status matches.
    #[error("as a status a number such as 404, a class such as 5xx, a GLOB such as 4*, or none")]
    Status,
    /// No status of gRPC matches.
    #[error("as a status of gRPC a number such as 14, a GLOB such as 1?, or none")]
    GrpcStatus,
    /// No address matches.
    #[error("as an address one such as 10.0.0.1, a network such as 10.0.0.0/8, or 10.0.*")]
    Address,
    /// The glob is longer than [`Condition::GLOB_BYTES_MAX`].
    #[error("a GLOB of at most 127 bytes")]
    Length,
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        let (name, glob) = text.split_once('=').ok_or(ConditionError::Field)?;
        let field = Field::ALL.into_iter().find(|field| field.name() == name);
        let field = field.ok_or(ConditionError::Field)?;
        if glob.len() > Condition::GLOB_BYTES_MAX {
            return Err(ConditionError::Length);
        }
        match field {
            Field::Status if !is_status(glob) => return Err(ConditionError::Status),
            Field::GrpcStatus if !is_grpc_status(glob) => return Err(ConditionError::GrpcStatus),
            Field::Client | Field::Server if !is_address(glob) => {
                return Err(ConditionError::Address);
            }
            _ => {}
        }
        Ok(Condition { field, glob: glob.to_string() })
    }
}

/// Whether a status of three digits, or none, may match.
fn is_status(glob: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_digit() || b"xX?*".contains(&byte);
    let digits = glob.bytes().filter(|byte| *byte != b'*').count();
    let is_length = if glob.contains('*') { digits <= 3 } else { digits == 3 };
    glob == "none" || glob.bytes().all(is_part) && is_length
}

/// Whether a number, or none, may match.
fn is_grpc_status(glob: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_digit() || b"?*".contains(&byte);
    glob == "none" || !glob.is_empty() && glob.bytes().all(is_part)
}

/// Whether some address may match.
fn is_address(glob: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || b".:?*".contains(&byte);
    Network::from_str(glob).is_ok() || glob.contains(['*', '?']) && glob.bytes().all(is_part)
}

/// Which exchanges get a line. An exchange needs one of the wanted conditions of each field that
/// they name, and none of the unwanted ones. The others are withheld, and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `--only`.
    pub wanted: Vec<Condition>,
    /// `--except`.
    pub unwanted: Vec<Condition>,
}

impl Selection {
    /// The most conditions, wanted and unwanted together.
    pub const CONDITION_COUNT_MAX: usize = 64;

    /// Whether all exchanges get a line.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }
}
