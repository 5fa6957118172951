//! What crosses between a worker and other threads. A worker takes no lock here: it pushes to rings, sets flags, and
//! wakes tasks that wait in lists without locks (`warpline_ring::WaitList`). Tasks that receive from several workers
//! agree among themselves by a lock that no running worker takes.

mod fan_in;
mod pipe;

pub(crate) use fan_in::{FanIn, Inlet, fan_in, single};
pub(crate) use pipe::{PipeReceiver, PipeSender, pipe};
