//! Fuzz targets. As tests they run what was once found, and some thousand drawn inputs;
//! `make fuzz` runs them for as long as wanted, led by what code each input reaches.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a target fails by panicking")]

mod filter;
mod frame;
mod import;
mod mapping;
mod template;
mod world;
