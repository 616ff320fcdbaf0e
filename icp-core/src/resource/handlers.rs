//! What a host registers for the engine to call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Handlers of one seam, by the names that resources give.
///
/// A program that learns at run time which names it answers to, as one behind the C ABI does, has
/// one handler for all of them.
pub struct Handlers<T: ?Sized> {
    named: BTreeMap<String, Arc<T>>,
    others: Option<Arc<T>>,
}

impl<T: ?Sized> Handlers<T> {
    /// Adds a handler; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, handler: Arc<T>) -> Self {
        self.named.insert(name.into(), handler);
        self
    }

    /// Has this handler called for every name that no other is known by.
    #[must_use]
    pub fn with_others(mut self, handler: Arc<T>) -> Self {
        self.others = Some(handler);
        self
    }

    /// The handler of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.named.get(name).or(self.others.as_ref())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.others.is_none()
    }
}

impl<T: ?Sized> Clone for Handlers<T> {
    fn clone(&self) -> Self {
        Self { named: self.named.clone(), others: self.others.clone() }
    }
}

impl<T: ?Sized> Default for Handlers<T> {
    fn default() -> Self {
        Self { named: BTreeMap::new(), others: None }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Handlers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.others.iter().map(|handler| ("*", handler));
        let named = self.named.iter().map(|(name, handler)| (name.as_str(), handler));
        f.debug_map().entries(named.chain(others)).finish()
    }
}
