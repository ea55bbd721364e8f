//! How calls end.

use std::fmt;

use crate::text::terminal::for_people;

/// gRPC's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are gRPC's words")]
pub enum Code {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// In the order of their numbers.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

impl Code {
    /// Numbers that nobody knows are `Unknown`, as gRPC has it.
    pub fn from_number(number: u64) -> Self {
        let known = usize::try_from(number).ok().and_then(|number| CODES.get(number));
        known.map_or(Self::Unknown, |(code, _)| *code)
    }

    /// What an answer without gRPC's status means (gRPC's table of HTTP statuses).
    pub(super) fn from_http(status: &str) -> Self {
        match status {
            "400" => Self::Internal,
            "401" => Self::Unauthenticated,
            "403" => Self::PermissionDenied,
            "404" => Self::Unimplemented,
            "429" | "502" | "503" | "504" => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CODES[*self as usize].1)
    }
}

/// Why a call did not succeed. `host` is who was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There was no connection; waiting does not mend that.
    Unreachable {
        /// `HOST:PORT`
        host: String,
        /// In words.
        cause: String,
    },
    /// The connection broke, or nothing came for too long.
    Broken {
        /// `HOST:PORT`
        host: String,
        /// In words.
        cause: String,
    },
    /// What came is not HTTP/2, or not gRPC, or more than there may be.
    Protocol {
        /// `HOST:PORT`
        host: String,
        /// In words.
        cause: String,
    },
    /// The server said so.
    Status {
        /// `HOST:PORT`
        host: String,
        /// Its code.
        code: Code,
        /// Its words, as it wrote them.
        message: String,
    },
}

impl Error {
    /// The code that the server gave, if it gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Status { code, .. } => Some(*code),
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Protocol { .. } => None,
        }
    }

    /// Whether the same call may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Status { code, .. } => matches!(code, Code::Unavailable | Code::Aborted),
            Self::Unreachable { .. } | Self::Protocol { .. } => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { host, cause } | Self::Broken { host, cause } => {
                write!(f, "`{host}` cannot be asked: {}", for_people(cause))
            }
            Self::Protocol { host, cause } => {
                write!(f, "`{host}` does not speak gRPC: {}", for_people(cause))
            }
            Self::Status { host, code, message } => {
                let meaning = match code {
                    Code::Unauthenticated => ": it wants credentials, or others",
                    Code::PermissionDenied => ": these credentials may not do that",
                    _ => "",
                };
                write!(f, "`{host}` answers {code}{meaning}")?;
                match message.trim() {
                    "" => Ok(()),
                    message => write!(f, " ({})", for_people(message)),
                }
            }
        }
    }
}

impl std::error::Error for Error {}
