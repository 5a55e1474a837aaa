//! What goes wrong: towards the program that starts the services, and towards a client.

use std::path::PathBuf;

/// The services could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Another process holds the data directory. Stop it, or choose another directory.
    #[error("the data directory {} is in use by another process (it holds {}/lock): stop it, or name another directory", .0.display(), .0.display())]
    InUse(PathBuf),
    /// The data directory cannot be read or written.
    #[error("cannot use the data directory {}: {reason}", .path.display())]
    Data {
        /// The file or directory in question.
        path: PathBuf,
        /// What the operating system or the file's content says.
        reason: String,
    },
    /// A port cannot be opened. Choose another, or 0 for a free one.
    #[error("cannot listen on {address} for {service}: {source}")]
    Listen {
        /// Which of the two services.
        service: &'static str,
        /// The address that was asked for.
        address: std::net::SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A thread or the embedded database could not be started.
    #[error("cannot start {what}: {reason}")]
    Start {
        /// The part that did not start.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The service refused what was asked of it through the Rust API.
    #[error("{code}: {message}")]
    Refused {
        /// The service's name of the error, such as `ResourceInUseException`.
        code: String,
        /// The service's message.
        message: String,
    },
}

/// An error as the service answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceError {
    pub(crate) status: u16,
    pub(crate) code: std::borrow::Cow<'static, str>,
    pub(crate) message: String,
}

/// Shorthand for what every operation returns.
pub(crate) type Outcome<T> = Result<T, ServiceError>;

impl ServiceError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let status = if code == "InternalFailure" { 500 } else { 400 };
        Self {
            status,
            code: code.into(),
            message: message.into(),
        }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    pub(crate) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    pub(crate) fn throughput(message: impl Into<String>) -> Self {
        Self::new("ProvisionedThroughputExceededException", message)
    }

    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// The service itself failed: its disk, not the request.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new("InternalFailure", message)
    }
}

impl From<ServiceError> for LocalError {
    fn from(error: ServiceError) -> Self {
        Self::Refused {
            code: error.code.into_owned(),
            message: error.message,
        }
    }
}
