//! What the operator asks about the users of an app.

use zim_protocol::{ListUsersRequest, ListUsersResult, UserOnlineStatus, UserRow};

use crate::app::App;
use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::AppKey;
use crate::service::rows::operators_count;
use crate::tenant::Tenant;

/// Follows all that begins as it does: no ID has such a character.
const LAST: char = char::MAX;

impl App {
    /// Returns a page of the users of an app.
    ///
    /// # Errors
    /// `after` is of another list, or the store fails.
    pub(crate) async fn users_of(&self, tenant: &Tenant, request: ListUsersRequest) -> Result<ListUsersResult, Error> {
        let (app, now) = (tenant.key, self.clock.now_ms());
        if !request.after.is_empty() && !request.after.starts_with(&request.prefix) {
            return Err(Error::params_invalid("after must be `next` of the page before, with the same prefix"));
        }
        self.db.read(async move |tx| page(tx, app, request, now).await).await
    }
}

async fn page(tx: &mut Tx<'_>, app: AppKey, request: ListUsersRequest, now: i64) -> Result<ListUsersResult, Error> {
    let ListUsersRequest { after, count, prefix, .. } = request;
    let count = operators_count(count);
    // The first page has the user whose ID is the prefix, too.
    let (comparison, from) = if after.is_empty() { (">=", &prefix) } else { (">", &after) };
    let sql = statement(tx.dialect().by_bytes(), comparison);
    let limit = i64::try_from(count).map_err(Error::internal)? + 1;
    let rows = tx.fetch(&sql, &params![app, from.as_str(), format!("{prefix}{LAST}"), now, limit]).await?;
    let mut result = ListUsersResult::default();
    for row in rows.iter().take(count) {
        result.users.push(UserRow {
            user_id: row.get(0)?,
            user_name: row.get(1)?,
            registered_at: row.get(2)?,
            is_banned: row.get(3)?,
            is_online: row.get::<i32>(4)? == UserOnlineStatus::Online as i32,
            seen_at: row.get(5)?,
        });
    }
    if rows.len() > count {
        result.next = result.users.last().map(|user| user.user_id.clone()).unwrap_or_default();
    }
    Ok(result)
}

/// The statement for a page; its parameters are the app, where the page begins, where the list ends, the time, and the number of rows.
fn statement(by_bytes: &str, comparison: &str) -> String {
    format!(
        "SELECT a.name, a.user_name, a.created_at, \
         CASE WHEN a.banned_at > 0 AND (a.ban_ends_at = 0 OR a.ban_ends_at > $4) THEN 1 ELSE 0 END, \
         COALESCE(p.online, 1), COALESCE(p.online_at, 0) FROM account a LEFT JOIN presence p ON p.account = a.id \
         WHERE a.app = $1 AND a.name{by_bytes} {comparison} $2 AND a.name{by_bytes} < $3 \
         ORDER BY a.name{by_bytes} LIMIT $5"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Database;
    use crate::journal::tests::Fixture;

    /// A page costs the same, however many users there are before it and in other apps.
    #[tokio::test]
    async fn a_page_of_users_is_read_from_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
        let plan = fixture.plan(statement("", ">"), params![7, "a", "b", 0, 10].to_vec()).await;
        assert!(plan.contains("SEARCH a USING INDEX account_name (app=? AND name>? AND name<?)"), "{plan}");
        assert!(plan.contains("SEARCH p USING INTEGER PRIMARY KEY"), "{plan}");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{plan}");
        fixture.db.close().await;
    }
}
