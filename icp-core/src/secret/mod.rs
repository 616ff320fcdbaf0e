//! Secrets: held so that they do not leak, sealed for the store, masked for people.
//!
//! A spec holds its secrets as [`Secret`]. On the way in they are plain, in the store sealed
//! ([`Sealer`]), on the way out masked; the one place that uses them opens them ([`Opener`]).

mod entropy;
mod keys;
mod seal;
mod text;
mod value;
mod visit;

pub use entropy::{Entropy, SystemEntropy};
pub use keys::{Key, KeyProvider, LocalKeys};
pub use seal::{SealContext, SealedBytes, Sealer};
pub use text::{SecretBytes, SecretString};
pub use value::{MASK, Secret};
pub use visit::{
    MaskAll, Opener, Owner, Place, Previous, RefuseSealed, Reseal, SealAll, SecretVisitor,
};
