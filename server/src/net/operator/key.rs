//! Who comes in to the operator's service.

use ring::hmac;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Lets in who has the key.
#[derive(Clone)]
pub(crate) struct KeyCheck {
    /// Comparing tags instead of keys takes the same time whatever was sent.
    by: hmac::Key,
    tag: hmac::Tag,
}

impl std::fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCheck").finish_non_exhaustive()
    }
}

impl KeyCheck {
    /// `seed` is any secret of the server.
    pub(crate) fn new(key: &str, seed: &[u8; 32]) -> Self {
        let by = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let tag = hmac::sign(&by, key.as_bytes());
        Self { by, tag }
    }

    fn is_right(&self, authorization: &str) -> bool {
        let given = authorization.strip_prefix("Bearer ").unwrap_or_default();
        hmac::verify(&self.by, given.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl Interceptor for KeyCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        match given {
            Some(given) if self.is_right(given) => Ok(request),
            Some(_) => Err(Status::unauthenticated("the key is wrong")),
            None => Err(Status::unauthenticated("the header `authorization: Bearer KEY` is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens() {
        let check = KeyCheck::new("secret", &[3; 32]);
        assert!(check.is_right("Bearer secret"));
        for wrong in ["", "secret", "Bearer ", "Bearer Secret", "Bearer secret ", "bearer secret"] {
            assert!(!check.is_right(wrong), "{wrong:?}");
        }
        assert!(!format!("{check:?}").contains("secret"));
    }

    #[test]
    fn a_call_without_a_key_is_refused() {
        let mut check = KeyCheck::new("secret", &[3; 32]);
        assert_eq!(check.call(Request::new(())).unwrap_err().code(), tonic::Code::Unauthenticated);
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        assert!(check.call(request).is_ok());
    }
}
