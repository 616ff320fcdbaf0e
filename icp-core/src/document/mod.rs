//! JSON documents: paths into them, and exact comparison of their values.

mod compare;
mod path;
pub(crate) mod pointer;

pub use compare::{equal, order};
pub use path::{Path, PathError, Step};
