//! What crosses between a worker and other threads. A worker never waits for a lock here: it pushes to rings, sets
//! flags, and where a list of waiting tasks is guarded it only tries the guard, leaving the rest to its holder.

mod fan_in;
mod pipe;
mod wait_list;

pub(crate) use fan_in::{FanIn, Inlet, fan_in, single};
pub(crate) use pipe::{PipeReceiver, PipeSender, pipe};
pub(crate) use wait_list::WaitList;
