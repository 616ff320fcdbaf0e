use std::collections::BTreeMap;

use super::resource::Name;
use crate::error::{Code, Error, Result};

/// Which resource is found by which texts.
#[derive(Debug, Default)]
pub(super) struct Handles {
    holders: BTreeMap<String, Name>,
    held: BTreeMap<Name, Vec<String>>,
}

impl Handles {
    pub(super) fn holder(&self, handle: &str) -> Option<&Name> {
        self.holders.get(handle)
    }

    pub(super) fn set(&mut self, name: Name, handles: Vec<String>) {
        for gone in self.held.remove(&name).unwrap_or_default() {
            self.holders.remove(&gone);
        }
        for handle in &handles {
            self.holders.insert(handle.clone(), name.clone());
        }
        if !handles.is_empty() {
            self.held.insert(name, handles);
        }
    }

    pub(super) fn plan(&self) -> Plan<'_> {
        Plan { stored: self, set: BTreeMap::new() }
    }
}

/// What the changes of a write make of the handles, before any is made.
pub(super) struct Plan<'a> {
    stored: &'a Handles,
    set: BTreeMap<Name, Vec<String>>,
}

impl Plan<'_> {
    /// Gives `handles` to a resource, in place of those it has.
    pub(super) fn set(&mut self, name: &Name, handles: &[String]) -> Result<()> {
        if handles.iter().any(|handle| self.is_taken(name, handle)) {
            let message = "another resource is found by one of the handles; use another";
            return Err(Error::new(Code::HandleTaken, message));
        }
        self.set.insert(name.clone(), handles.to_vec());
        Ok(())
    }

    fn is_taken(&self, name: &Name, handle: &str) -> bool {
        let mut set = self.set.iter().filter(|(other, _)| *other != name);
        let stored = self.stored.holder(handle);
        set.any(|(_, handles)| handles.iter().any(|held| held == handle))
            || stored.is_some_and(|other| other != name && !self.set.contains_key(other))
    }
}
