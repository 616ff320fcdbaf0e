use std::sync::Arc;

use http::HeaderMap;

use super::{Message, Signer};
use crate::error::Result;

/// Signs one request in several ways at once; all of them, or none.
#[derive(Debug)]
pub struct Several(Vec<Arc<dyn Signer>>);

impl Several {
    /// A signer that adds the signatures of all of `signers`, in order.
    #[must_use]
    pub fn new(signers: Vec<Arc<dyn Signer>>) -> Self {
        Self(signers)
    }
}

impl Signer for Several {
    fn sign(&self, message: &Message<'_>, headers: &mut HeaderMap) -> Result<()> {
        // Apart, so that a signer that fails leaves nothing of those before it.
        let mut made = HeaderMap::new();
        for signer in &self.0 {
            signer.sign(message, &mut made)?;
        }
        for (name, value) in &made {
            headers.insert(name, value.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};
    use crate::time::Timestamp;

    #[derive(Debug)]
    struct Fixed(&'static str, bool);

    impl Signer for Fixed {
        fn sign(&self, _: &Message<'_>, headers: &mut HeaderMap) -> Result<()> {
            if !self.1 {
                return Err(Error::new(Code::SigningFailed, "no"));
            }
            headers.insert(self.0, "signed".parse().unwrap());
            Ok(())
        }
    }

    fn sign(second: bool) -> (Result<()>, HeaderMap) {
        let several = Several::new(vec![Arc::new(Fixed("a", true)), Arc::new(Fixed("b", second))]);
        let mut headers = HeaderMap::new();
        headers.insert("a", "old".parse().unwrap());
        let message = Message { id: "m", timestamp: Timestamp::EPOCH, body: b"" };
        (several.sign(&message, &mut headers), headers)
    }

    #[test]
    fn all_sign() {
        let (signed, headers) = sign(true);
        assert!(signed.is_ok());
        assert_eq!((&headers["a"], &headers["b"]), (&"signed".parse().unwrap(), &headers["a"]));
    }

    #[test]
    fn one_that_cannot_sign_leaves_the_headers_as_they_were() {
        let (signed, headers) = sign(false);
        assert_eq!(signed.unwrap_err().code(), Code::SigningFailed);
        assert_eq!((headers.len(), &headers["a"]), (1, &"old".parse().unwrap()));
    }
}
