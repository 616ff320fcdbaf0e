//! What is under way and can be called off, by queue and tag.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::status::{Failure, Status};

type Map = HashMap<(u64, u64), CancellationToken>;

/// Tokens of what can be called off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(Arc<Mutex<Map>>);

/// A token that is known for as long as this lives.
#[derive(Debug)]
pub(crate) struct Token {
    of: Tokens,
    key: (u64, u64),
    token: CancellationToken,
}

impl Tokens {
    pub(crate) fn add(&self, queue: u64, tag: u64) -> Result<Token, Failure> {
        let (key, token) = ((queue, tag), CancellationToken::new());
        let known = self.with(|map| match map.contains_key(&key) {
            true => true,
            false => map.insert(key, token.clone()).is_some(),
        });
        if known {
            let message = format!("something of the tag {tag} is under way; use another tag");
            return Err(Failure::new(Status::Conflict, message));
        }
        Ok(Token { of: self.clone(), key, token })
    }

    /// False where there is none.
    pub(crate) fn cancel(&self, queue: u64, tag: u64) -> bool {
        let token = self.with(|map| map.get(&(queue, tag)).cloned());
        token.inspect(CancellationToken::cancel).is_some()
    }

    pub(crate) fn cancel_all(&self) {
        let all: Vec<_> = self.with(|map| map.values().cloned().collect());
        all.iter().for_each(CancellationToken::cancel);
    }

    fn with<T>(&self, run: impl FnOnce(&mut Map) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Token {
    pub(crate) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.of.with(|map| map.remove(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_known_while_it_lives() {
        let tokens = Tokens::default();
        let token = tokens.add(1, 7).unwrap();
        assert_eq!(tokens.add(1, 7).unwrap_err().number(), Status::Conflict.number());
        assert!(!tokens.cancel(2, 7));
        assert!(tokens.cancel(1, 7));
        token.cancelled().await;
        drop(token);
        assert!(!tokens.cancel(1, 7));
    }
}
