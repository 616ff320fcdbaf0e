//! JSON documents: paths into them, exact comparison of their values, and text made of them.

mod compare;
mod path;
pub(crate) mod pointer;
pub(crate) mod template;

pub use compare::{equal, order};
pub use path::{Path, PathError, Step};
