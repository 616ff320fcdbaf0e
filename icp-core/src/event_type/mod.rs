//! The catalogue of event types: what each type means, and what its events look like.
//!
//! An event type is a resource of the kind `event_type` whose id is the type itself. Its schema is
//! a program of an organization's: it is admitted only where its cost is bounded ahead, and is
//! evaluated in the host's process then.

mod admit;
mod catalogue;
mod definition;
mod infer;
mod pattern;
mod sample;
mod schema;
mod spec;

pub use catalogue::{Fit, Inferred, MAX_SEEN, TypeSample};
pub(crate) use catalogue::{fit, inferred, sample};
pub use definition::Definition;
pub(crate) use definition::check;
pub use infer::{Inference, infer};
pub use schema::{EventSchema, MAX_MISMATCHES};
pub use spec::{EventTypeSpec, Policy};
