//! The users for whom a request for several users failed.

use zim_protocol::{ErrorCode, ErrorUserInfo};

use super::Error;

/// The users for whom a request for several users failed, each with the reason.
#[derive(Debug, Default)]
pub struct LeftOut(Vec<(String, Error)>);

impl LeftOut {
    /// Whether nobody is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a user.
    pub fn add(&mut self, user_id: String, why: Error) {
        self.0.push((user_id, why));
    }

    /// Returns the list for the response, if the request succeeded for `served` other users. If it succeeded for none, the request
    /// fails with the first error.
    ///
    /// # Errors
    /// The first error, if the request succeeded for no user.
    pub fn finish(mut self, served: usize) -> Result<Vec<ErrorUserInfo>, Error> {
        if served == 0 && !self.0.is_empty() {
            return Err(self.0.swap_remove(0).1);
        }
        Ok(self.list())
    }

    /// The same as [`LeftOut::finish`], but if the reasons differ and the request succeeded for no user, it fails with the
    /// code `various`.
    ///
    /// # Errors
    /// The request succeeded for no user.
    pub fn finish_or(mut self, served: usize, various: ErrorCode) -> Result<Vec<ErrorUserInfo>, Error> {
        if served > 0 || self.0.is_empty() {
            return Ok(self.list());
        }
        let first = self.0[0].1.code();
        if self.0.iter().all(|(_, reason)| reason.code() == first) {
            return Err(self.0.swap_remove(0).1);
        }
        let each = self.0.iter().map(|(user_id, why)| format!("{user_id} ({})", why.code() as i32));
        let message = format!("the request failed for all users: {}", each.collect::<Vec<_>>().join(", "));
        Err(Error::new(various, message))
    }

    fn list(self) -> Vec<ErrorUserInfo> {
        let left_out = self.0.into_iter();
        left_out.map(|(user_id, why)| ErrorUserInfo { user_id, reason: i64::from(why.code() as i32) }).collect()
    }
}
