//! Rows of applications. There is one for each user and group, and one for each invitation of a member; all whom it concerns see
//! the same one.

use std::collections::HashMap;

use zim_protocol::{
    GroupApplicationEntry, GroupApplicationInfo, GroupApplicationType as Kind, GroupInfo, GroupMemberSimpleInfo,
    feed_entry::Detail,
};

use crate::db::{Row, Tx, Value, params};
use crate::error::Error;
use crate::journal::FeedKind;
use crate::key::{ConversationKey, Places, UserKey};
use crate::service::application::{self, LIFE, Life, State};
use crate::service::rows::{Page, USER, user_info};

/// The inviter of somebody who applies.
pub(super) const NOBODY: UserKey = UserKey(0);

/// An application, without what only its readers need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Application {
    pub(super) id: i64,
    /// Who would enter.
    pub(super) account: UserKey,
    /// The member who asks them to; [`NOBODY`]: they apply.
    pub(super) inviter: UserKey,
    pub(super) life: Life,
}

/// Returns the application of a user, or that of an inviter for a user.
pub(super) async fn find(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    (account, inviter): (UserKey, UserKey),
) -> Result<Option<Application>, Error> {
    let sql =
        format!("SELECT id, {LIFE} FROM group_application WHERE conversation = $1 AND account = $2 AND inviter = $3");
    let Some(row) = tx.fetch_one(&sql, &params![group, account, inviter]).await? else { return Ok(None) };
    Ok(Some(Application { id: row.get(0)?, account, inviter, life: Life::read(&row, 1)? }))
}

/// Returns the applications that still wait for an answer about these users.
pub(super) async fn waiting(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    users: &[UserKey],
    now: i64,
) -> Result<Vec<Application>, Error> {
    let (list, mut params) = tx.dialect().in_list(users.iter().copied(), 4);
    params.splice(0..0, params![group, State::Waiting as i64, now]);
    let sql = format!(
        "SELECT id, account, inviter, {LIFE} FROM group_application \
         WHERE conversation = $1 AND state = $2 AND expires_at > $3 AND account IN {list} ORDER BY id"
    );
    let read = |row: &Row| {
        let (account, inviter) = (UserKey(row.get(1)?), UserKey(row.get(2)?));
        Ok(Application { id: row.get(0)?, account, inviter, life: Life::read(row, 3)? })
    };
    tx.fetch(&sql, &params).await?.iter().map(read).collect()
}

/// Returns the place of the last change.
async fn newest(tx: &mut Tx<'_>) -> Result<i64, Error> {
    let row = tx.fetch_one("SELECT COALESCE(MAX(place), 0) FROM group_application", &[]).await?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}

/// Stores an application in the place of the one before, if there is one. Returns it with its ID: that of the first.
pub(super) async fn save(
    tx: &mut Tx<'_>,
    group: ConversationKey,
    new: Application,
    wording: &str,
    places: &Places,
) -> Result<Application, Error> {
    let place = places.next(newest(tx).await?, new.life.updated_at);
    let row = tx
        .fetch_one(
            "INSERT INTO group_application \
             (id, conversation, account, inviter, state, wording, created_at, updated_at, expires_at, operator, place) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $4, $10) \
             ON CONFLICT (conversation, account, inviter) DO UPDATE SET state = excluded.state, wording = excluded.wording, \
             created_at = excluded.created_at, updated_at = excluded.updated_at, expires_at = excluded.expires_at, \
             operator = excluded.operator, place = excluded.place RETURNING id",
            &params![
                new.id,
                group,
                new.account,
                new.inviter,
                new.life.state as i64,
                wording,
                new.life.created_at,
                new.life.updated_at,
                new.life.expires_at,
                place
            ],
        )
        .await?
        .ok_or_else(|| Error::internal_text("an application without a row"))?;
    Ok(Application { id: row.get(0)?, ..new })
}

/// Stores how applications have ended, and who did it.
pub(super) async fn end(
    tx: &mut Tx<'_>,
    ended: &[Application],
    operator: UserKey,
    places: &Places,
) -> Result<(), Error> {
    let newest = newest(tx).await?;
    let row = |one: &Application| {
        let Life { state, updated_at, .. } = one.life;
        params![one.id, state as i64, operator, updated_at, places.next(newest, updated_at)]
    };
    let rows: Vec<[Value; 5]> = ended.iter().map(row).collect();
    let sql = |rows: &str| {
        format!(
            "UPDATE group_application SET state = v.column2, operator = v.column3, updated_at = v.column4, \
             place = v.column5 FROM ({rows}) AS v WHERE group_application.id = v.column1"
        )
    };
    tx.execute_rows(&rows, sql).await?;
    Ok(())
}

/// An application changed; the key is its ID.
pub(crate) static GROUP_APPLICATION: FeedKind = FeedKind {
    number: 41,
    resolve: |tx, user, keys| {
        Box::pin(async move {
            let entries = entries(tx, user, keys).await?;
            Ok(entries.into_iter().map(|(key, entry)| (key, Detail::GroupApplication(entry))).collect())
        })
    },
};

/// What an application `p` is for the user $1: a `GroupApplicationType`, 0 if it does not concern them. `r` is their membership.
const KIND: &str = "CASE WHEN p.account = $1 AND p.inviter = 0 THEN 1 WHEN p.account = $1 THEN 3 \
     WHEN p.inviter = $1 AND r.role <= 2 THEN 2 WHEN p.inviter = 0 AND r.role <= 2 THEN 1 ELSE 0 END";

/// The state of an application `p` to a group `c`: what waited when the group ended, ended with it. What had expired by then stays
/// expired. Nothing happens in a group after its end, so the last time of the conversation is that of the end.
const STATE: &str =
    "CASE WHEN c.end_seq IS NOT NULL AND p.state = 1 AND p.expires_at > c.last_ts THEN 5 ELSE p.state END";

/// Selects applications `p` for the user $1. `a` is the other user: the inviter for somebody who is invited, or who would enter.
fn select(condition: &str) -> String {
    format!(
        "SELECT p.place, p.id, {KIND}, {STATE}, c.name, \
         g.group_name, g.avatar_url, {USER}, p.created_at, p.updated_at, p.expires_at, p.wording, \
         o.name, o.user_name, o.avatar_url, o.extended_data, n.nickname, n.role \
         FROM group_application p JOIN conversation c ON c.id = p.conversation \
         JOIN chat_group g ON g.conversation = p.conversation \
         JOIN account a ON a.id = CASE WHEN p.account = $1 AND p.inviter <> 0 THEN p.inviter ELSE p.account END \
         LEFT JOIN account o ON o.id = p.operator \
         LEFT JOIN group_member n ON n.conversation = p.conversation AND n.account = p.operator \
         LEFT JOIN group_member r ON r.conversation = p.conversation AND r.account = $1 \
         WHERE {condition}"
    )
}

/// Reads a row of [`select`].
fn info(row: &Row) -> Result<GroupApplicationInfo, Error> {
    let operated_user = match row.get::<Option<String>>(15)? {
        Some(user_id) => Some(GroupMemberSimpleInfo {
            user_id,
            user_name: row.get(16)?,
            user_avatar_url: row.get(17)?,
            user_extended_data: row.get(18)?,
            member_nickname: row.get::<Option<String>>(19)?.unwrap_or_default(),
            member_role: row.get::<Option<i64>>(20)?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(GroupApplicationInfo {
        r#type: row.get(2)?,
        state: row.get(3)?,
        group_info: Some(GroupInfo { group_id: row.get(4)?, group_name: row.get(5)?, group_avatar_url: row.get(6)? }),
        apply_user: Some(user_info(row, 7)?),
        create_time: row.get(11)?,
        update_time: row.get(12)?,
        wording: row.get(14)?,
        operated_user,
    })
}

/// Returns these applications as a user sees them now.
async fn entries(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, GroupApplicationEntry>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let rows = tx.fetch(&select(&format!("p.id IN {list}")), &params).await?;
    let entry = |row: &Row| {
        let (id, is_seen) = (row.get(1)?, row.get::<i64>(2)? != Kind::None as i64);
        let info = if is_seen { Some(info(row)?) } else { None };
        Ok((id, GroupApplicationEntry { id, info, place: row.get(0)?, expires_at: row.get(13)? }))
    };
    let mut found = rows.iter().map(entry).collect::<Result<HashMap<i64, GroupApplicationEntry>, Error>>()?;
    // One that is gone, with the user who was erased, concerns nobody.
    for id in keys {
        found.entry(*id).or_insert_with(|| GroupApplicationEntry { id: *id, ..GroupApplicationEntry::default() });
    }
    Ok(found)
}

/// Selects a page of the applications that concern the user $1, the last changed first: $3 of those whose place is below $2. Each of the
/// three lists that it consists of is read by an index, as far as the page reaches. The third one begins at the groups in which the user
/// decides, and goes as far in each of them: the applications of others to join other groups are by far the most.
fn page_sql() -> String {
    let rest = "p.place < $2 ORDER BY p.place DESC LIMIT $3";
    let above = "JOIN group_member r ON r.conversation = p.conversation AND r.account = $1 AND r.role <= 2";
    let as_far = "COALESCE((SELECT q.place FROM group_application q WHERE q.conversation = r.conversation AND q.inviter = 0 \
                  AND q.place < $2 ORDER BY q.place DESC LIMIT 1 OFFSET $3 - 1), 0)";
    let decides = "FROM group_member r CROSS JOIN group_application p \
                   WHERE r.account = $1 AND r.role <= 2 AND p.conversation = r.conversation AND p.inviter = 0";
    select(&format!(
        "p.id IN (SELECT id FROM (SELECT p.id FROM group_application p WHERE p.account = $1 AND {rest}) AS own \
         UNION SELECT id FROM (SELECT p.id FROM group_application p {above} WHERE p.inviter = $1 AND {rest}) AS sent \
         UNION SELECT id FROM (SELECT p.id {decides} AND p.place >= {as_far} AND {rest}) AS got) \
         ORDER BY p.place DESC LIMIT $3"
    ))
}

/// Returns a page of the applications that concern a user, the last changed first, and the flag of the next page.
pub(super) async fn page(
    tx: &mut Tx<'_>,
    user: UserKey,
    page: Page,
    now: i64,
) -> Result<(Vec<GroupApplicationInfo>, i64), Error> {
    application::page(tx, user, (page, now), &page_sql(), |row| Ok((info(row)?, row.get(13)?))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Database;
    use crate::journal::tests::Fixture;

    /// Rows of applications stay. A page of somebody who decides nowhere does not read those of all groups.
    #[tokio::test]
    async fn a_page_of_applications_is_read_from_indexes() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
        let plan = fixture.plan(page_sql(), params![UserKey(1), i64::MAX, 10].to_vec()).await;
        assert!(plan.contains("SEARCH p USING COVERING INDEX group_application_of (account=? AND place<?)"), "{plan}");
        assert!(plan.contains("SEARCH p USING INDEX group_application_by (inviter=? AND place<?)"), "{plan}");
        let decides = "SEARCH r USING INDEX group_member_decides (account=?)";
        let got =
            "SEARCH p USING COVERING INDEX group_application_to (conversation=? AND inviter=? AND place>? AND place<?)";
        assert!(plan.contains(decides) && plan.contains(got), "{plan}");
        let as_far = "SEARCH q USING COVERING INDEX group_application_to (conversation=? AND inviter=? AND place<?)";
        assert!(plan.contains(as_far), "{plan}");
        fixture.db.close().await;
    }
}
