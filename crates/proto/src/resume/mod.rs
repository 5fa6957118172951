//! What is kept from one connection for the next: by a client about servers, by a server about clients.

mod lru;
mod memory;
mod memory_file;
mod path_memory;
mod saved;
mod tickets;
mod view;

pub(crate) use memory::ServerKey;
pub use memory::{ClientMemory, MemoryStats};
pub use memory_file::MemoryError;
pub use path_memory::PathMemory;
pub(crate) use path_memory::{PathKey, Refusal, SavedPath};
pub(crate) use saved::SavedSession;
pub(crate) use tickets::{Binding, SessionStore, TicketKeys, VersionTickets};
pub(crate) use view::SessionView;
