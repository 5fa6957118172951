//! What can go wrong, kept apart by whose doing it is.
//!
//! Every error of this crate answers [`fault`](EngineError::fault): the peer's doing, the caller's, or the machine's.
//! Having nothing to do is never an error: operations wait instead.

use std::io;
use warpline_proto::ConnectionError;

/// Whose doing an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer ended, refused or broke something.
    Peer,
    /// The caller asked for something that its own earlier calls or its arguments rule out.
    Caller,
    /// The machine, the network or its configuration.
    Environment,
}

/// The worker that an operation needs cannot carry it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A local handle was used on a thread that is not its worker.
    #[error("a local handle was used outside its worker")]
    OffWorker,
    /// The engine was shut down.
    #[error("the engine has been shut down")]
    Stopped,
    /// Too many commands already wait for the worker ([`limits::COMMANDS_MAX`](crate::limits::COMMANDS_MAX)).
    #[error("the worker has too many commands waiting")]
    Overloaded,
}

impl EngineError {
    /// Whose doing it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::OffWorker | Self::Stopped => Fault::Caller,
            Self::Overloaded => Fault::Environment,
        }
    }
}

/// Whose doing the end of a connection is.
#[must_use]
pub fn connection_fault(error: &ConnectionError) -> Fault {
    match error {
        ConnectionError::LocallyClosed => Fault::Caller,
        ConnectionError::TimedOut | ConnectionError::Failed(_) => Fault::Environment,
        _ => Fault::Peer,
    }
}

/// An operation on a connection failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The connection has ended.
    #[error(transparent)]
    Closed(#[from] ConnectionError),
    /// The worker cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// No connection came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The arguments do not allow an attempt.
    #[error(transparent)]
    Invalid(#[from] warpline_proto::ConnectError),
    /// The attempt failed.
    #[error(transparent)]
    Failed(#[from] ConnectionError),
    /// The worker cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A worker did not go over to another socket.
#[derive(Debug, thiserror::Error)]
pub enum RebindError {
    /// The engine accepts connections: clients would not find it any more.
    #[error("an endpoint that accepts connections keeps its address")]
    Serving,
    /// Workers come and go, and their connections move between them: all have one address.
    #[error("an endpoint whose number of workers can change keeps its address")]
    Scalable,
    /// Binding failed, or the packet back end cannot replace its socket.
    #[error("binding the new socket: {0}")]
    Io(#[from] std::io::Error),
    /// The worker cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Writing to a stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The peer asked to stop, with this code: it will not read what is written (RFC 9000 section 3.5).
    #[error("the peer stopped reading the stream (code {0})")]
    Stopped(u64),
    /// This side has already finished or reset the stream.
    #[error("the stream was already finished or reset")]
    Ended,
    /// The peer does not understand a reset that keeps a part of the stream.
    #[error("the peer cannot take a reset that keeps a part of the stream")]
    Unsupported,
    /// The connection has ended.
    #[error(transparent)]
    Closed(#[from] ConnectionError),
    /// The worker cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Reading from a stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer abandoned the stream, with this code (RFC 9000 section 3.2).
    #[error("the peer reset the stream (code {0})")]
    Reset(u64),
    /// This side has already stopped reading the stream.
    #[error("the stream was already stopped")]
    Ended,
    /// The connection has ended.
    #[error(transparent)]
    Closed(#[from] ConnectionError),
    /// The worker cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A stream could not be read to its end into memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadToEndError {
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream is longer than the caller allows; this is the bound in bytes.
    #[error("the stream is longer than {0} bytes")]
    TooLong(usize),
}

/// A stream ended before an exact number of bytes was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadExactError {
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream ended; this many bytes had been read.
    #[error("the stream ended after {0} bytes")]
    FinishedEarly(usize),
}

impl OperationError {
    /// Whose doing it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Closed(error) => connection_fault(error),
            Self::Engine(error) => error.fault(),
        }
    }
}

impl ConnectError {
    /// Whose doing it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Invalid(_) => Fault::Caller,
            Self::Failed(error) => connection_fault(error),
            Self::Engine(error) => error.fault(),
        }
    }
}

impl WriteError {
    /// Whose doing it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Stopped(_) => Fault::Peer,
            Self::Ended | Self::Unsupported => Fault::Caller,
            Self::Closed(error) => connection_fault(error),
            Self::Engine(error) => error.fault(),
        }
    }
}

impl ReadError {
    /// Whose doing it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Reset(_) => Fault::Peer,
            Self::Ended => Fault::Caller,
            Self::Closed(error) => connection_fault(error),
            Self::Engine(error) => error.fault(),
        }
    }
}

impl From<Box<OperationError>> for WriteError {
    fn from(error: Box<OperationError>) -> Self {
        (*error).into()
    }
}

impl From<OperationError> for WriteError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Closed(error) => Self::Closed(error),
            OperationError::Engine(error) => Self::Engine(error),
        }
    }
}

impl From<OperationError> for ConnectError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Closed(error) => Self::Failed(error),
            OperationError::Engine(error) => Self::Engine(error),
        }
    }
}

impl From<Box<OperationError>> for ReadError {
    fn from(error: Box<OperationError>) -> Self {
        (*error).into()
    }
}

impl From<OperationError> for ReadError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Closed(error) => Self::Closed(error),
            OperationError::Engine(error) => Self::Engine(error),
        }
    }
}

fn connection_kind(error: &ConnectionError) -> io::ErrorKind {
    match error {
        ConnectionError::TimedOut => io::ErrorKind::TimedOut,
        ConnectionError::LocallyClosed => io::ErrorKind::NotConnected,
        ConnectionError::Reset => io::ErrorKind::ConnectionReset,
        ConnectionError::Failed(_) => io::ErrorKind::Other,
        _ => io::ErrorKind::ConnectionAborted,
    }
}

impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> Self {
        let kind = match error {
            EngineError::OffWorker => io::ErrorKind::InvalidInput,
            EngineError::Stopped => io::ErrorKind::NotConnected,
            EngineError::Overloaded => io::ErrorKind::ResourceBusy,
        };
        Self::new(kind, error)
    }
}

impl From<OperationError> for io::Error {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Closed(error) => Self::new(connection_kind(&error), error),
            OperationError::Engine(error) => error.into(),
        }
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(_) => Self::new(io::ErrorKind::BrokenPipe, error),
            WriteError::Ended => Self::new(io::ErrorKind::NotConnected, error),
            WriteError::Unsupported => Self::new(io::ErrorKind::Unsupported, error),
            WriteError::Closed(error) => Self::new(connection_kind(&error), error),
            WriteError::Engine(error) => error.into(),
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(_) => Self::new(io::ErrorKind::ConnectionReset, error),
            ReadError::Ended => Self::new(io::ErrorKind::NotConnected, error),
            ReadError::Closed(error) => Self::new(connection_kind(&error), error),
            ReadError::Engine(error) => error.into(),
        }
    }
}

/// An engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A field of the configuration has a value that cannot be honoured.
    #[error("{field}: {why}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The machine refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the machine said.
        source: io::Error,
    },
}

/// The number of workers was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// The number cannot be honoured, or a worker could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine has been shut down, or is busy with another change.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ScaleError {
    /// Whose doing it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Start(error) => error.fault(),
            Self::Engine(error) => error.fault(),
        }
    }
}

impl StartError {
    pub(crate) fn config(field: &'static str, why: impl Into<String>) -> Self {
        Self::Config { field, why: why.into() }
    }

    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        Self::Io { what, source }
    }

    /// Whose doing it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Config { .. } => Fault::Caller,
            Self::Io { .. } => Fault::Environment,
        }
    }
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config { .. } => Self::new(io::ErrorKind::InvalidInput, error),
            StartError::Io { what, source } => Self::new(source.kind(), format!("{what}: {source}")),
        }
    }
}
