//! Who owns which slot, and how slots move between workers while traffic flows.
//!
//! Work is divided into slots; a [`Table`] says which worker owns each. A [change](Plan) replaces the table by another
//! one without a lock, without stopping anybody, and so that at every moment at most one worker acts for a slot. One
//! coordinator publishes changes, one at a time; every worker follows them with a [`Member`], which says of each slot
//! whether to act for it, to hold what comes for it, or to whom to pass it on, and which steps are due.
//!
//! What moves along with a slot (connections) and what comes for it (packets) goes through the workers' own rings; the
//! protocol only says when. `docs/scaling.md` has it as a numbered list with its argument.

mod member;
mod plan;
mod table;

pub use member::{Duty, Member, Route};
pub use plan::{Plan, Point, Stage};
pub use table::Table;
