//! How many rows of a kind a user has. The number stands in the user's row: a limit is checked on the thread that writes, and
//! counting a long list there would delay all other writes.

use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::UserKey;

/// A counter in the row of a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    column: &'static str,
}

impl Counter {
    pub(crate) const FRIENDS: Self = Self { column: "friend_count" };
    pub(crate) const BLOCKED: Self = Self { column: "block_count" };
    pub(crate) const SUBSCRIPTIONS: Self = Self { column: "subscription_count" };

    /// Returns the number. It stays true until the commit if the job's scope has the user.
    pub(crate) async fn get(self, tx: &mut Tx<'_>, user: UserKey) -> Result<i64, Error> {
        let row = tx.fetch_one(&format!("SELECT {} FROM account WHERE id = $1", self.column), &params![user]).await?;
        Ok(row.map_or(Ok(0), |row| row.get(0))?)
    }

    /// Adds rows, or removes them if `rows` is negative. The job's scope has the user.
    pub(crate) async fn add(self, tx: &mut Tx<'_>, user: UserKey, rows: i64) -> Result<(), Error> {
        if rows != 0 {
            tx.assert_covers_user(user);
            let sql = format!("UPDATE account SET {0} = {0} + $2 WHERE id = $1", self.column);
            tx.execute(&sql, &params![user, rows]).await?;
        }
        Ok(())
    }
}
