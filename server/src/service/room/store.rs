//! Rows of rooms, of their members and of their attributes.

use std::collections::{BTreeMap, HashMap};

use zim_protocol::{
    ListRoomMembersResult, RoomFullInfo, RoomInfo, RoomMemberAttributesInfo, RoomMemberRow, RoomRow, UserInfo,
};

use super::rules::{Attribute, Attributes};
use crate::db::{Tx, Value, params};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};
use crate::service::rows::{PAGE_BYTES, USER, user_info};

/// A login that has a connection, of the device of the member `m`.
pub(super) const IS_CONNECTED: &str = "EXISTS (SELECT 1 FROM session s WHERE s.account = m.account AND s.device = m.device \
     AND s.state = 0 AND s.connected = 1)";

/// What decides about a room.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) rev: i64,
    pub(super) room_name: String,
    pub(super) destroy_delay: i64,
    pub(super) members: i64,
}

/// A member of a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) device: [u8; 16],
    /// The change with which they entered.
    pub(super) place: i64,
    pub(super) leaves_at: i64,
}

/// Returns the room that has this ID now.
pub(super) async fn find(tx: &mut Tx<'_>, app: AppKey, room_id: &str) -> Result<Option<ConversationKey>, Error> {
    let sql = "SELECT id FROM conversation WHERE app = $1 AND type = 1 AND name = $2";
    let row = tx.fetch_one(sql, &params![app, room_id]).await?;
    Ok(row.map(|row| row.get(0)).transpose()?.map(ConversationKey))
}

/// The same, and whether what is said in it is kept.
pub(super) async fn find_to_write(
    tx: &mut Tx<'_>,
    app: AppKey,
    room_id: &str,
) -> Result<Option<(ConversationKey, bool)>, Error> {
    let sql = "SELECT c.id, r.keeps_history FROM conversation c JOIN room r ON r.conversation = c.id \
               WHERE c.app = $1 AND c.type = 1 AND c.name = $2";
    let row = tx.fetch_one(sql, &params![app, room_id]).await?;
    row.map(|row| Ok((ConversationKey(row.get(0)?), row.get::<i64>(1)? != 0))).transpose()
}

/// Returns the head of a room, unless it has ended.
pub(super) async fn head(tx: &mut Tx<'_>, room: ConversationKey) -> Result<Option<Head>, Error> {
    let sql = "SELECT c.rev, r.room_name, r.destroy_delay, r.members FROM room r \
               JOIN conversation c ON c.id = r.conversation WHERE r.conversation = $1";
    let Some(row) = tx.fetch_one(sql, &params![room]).await? else { return Ok(None) };
    Ok(Some(Head { rev: row.get(0)?, room_name: row.get(1)?, destroy_delay: row.get(2)?, members: row.get(3)? }))
}

/// Returns what a room is called.
pub(super) fn info(room_id: &str, room_name: String) -> RoomFullInfo {
    RoomFullInfo { base_info: Some(RoomInfo { room_id: room_id.to_owned(), room_name }) }
}

/// Returns the ID of a room, and its app.
pub(super) async fn name(tx: &mut Tx<'_>, room: ConversationKey) -> Result<Option<(AppKey, String)>, Error> {
    let sql = "SELECT c.app, c.name FROM room r JOIN conversation c ON c.id = r.conversation WHERE r.conversation = $1";
    let row = tx.fetch_one(sql, &params![room]).await?;
    row.map(|row| Ok((AppKey(row.get(0)?), row.get(1)?))).transpose()
}

/// Adds a room without members.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    (app, room): (AppKey, ConversationKey),
    (room_id, room_name): (&str, &str),
    (destroy_delay, keeps_history): (i64, bool),
    now: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO conversation (id, app, type, name, seq, n, rev, last_ts, touched, floor_seq, floor_n, floor_rev, blocks) \
         VALUES ($1, $2, 1, $3, 0, 0, 0, $4, $4, 0, 0, 0, 0)",
        &params![room, app, room_id, now],
    )
    .await?;
    tx.made_conversation(room);
    tx.execute(
        "INSERT INTO room (conversation, room_name, destroy_delay, created_at, members, keeps_history) \
         VALUES ($1, $2, $3, $4, 0, $5)",
        &params![room, room_name, destroy_delay, now, i64::from(keeps_history)],
    )
    .await?;
    Ok(())
}

/// Returns all members of a room.
pub(super) async fn all_members(tx: &mut Tx<'_>, room: ConversationKey) -> Result<Vec<(UserKey, Member)>, Error> {
    let sql = "SELECT account, device, place, leaves_at FROM room_member WHERE conversation = $1";
    let rows = tx.fetch(sql, &params![room]).await?;
    rows.iter().map(|row| Ok((UserKey(row.get(0)?), member_of(row, 1)?))).collect()
}

/// Returns rooms of an app in the order of their IDs, after one, and whether there are more.
pub(super) async fn rooms_of_app(
    tx: &mut Tx<'_>,
    app: AppKey,
    after: &str,
    count: usize,
) -> Result<(Vec<RoomRow>, bool), Error> {
    let sql = "SELECT c.name, r.room_name, r.members, r.created_at FROM conversation c JOIN room r ON r.conversation = c.id \
               WHERE c.app = $1 AND c.type = 1 AND c.name > $2 ORDER BY c.name LIMIT $3";
    let limit = i64::try_from(count).map_err(Error::internal)? + 1;
    let rows = tx.fetch(sql, &params![app, after, limit]).await?;
    let row = |row: &crate::db::Row| -> Result<RoomRow, Error> {
        Ok(RoomRow { room_id: row.get(0)?, room_name: row.get(1)?, users: row.get(2)?, created_at: row.get(3)? })
    };
    Ok((rows.iter().take(count).map(row).collect::<Result<_, _>>()?, rows.len() > count))
}

/// Returns how many rooms an app has.
pub(super) async fn count(tx: &mut Tx<'_>, app: AppKey) -> Result<i64, Error> {
    let row = tx.fetch_one("SELECT COUNT(*) FROM conversation WHERE app = $1 AND type = 1", &params![app]).await?;
    row.map_or(Ok(0), |row| Ok(row.get(0)?))
}

/// Deletes a room with all that belongs to it, except its messages. The room is in the scope of the job.
pub(super) async fn delete(tx: &mut Tx<'_>, room: ConversationKey) -> Result<(), Error> {
    tx.assert_covers_conversation(room);
    for table in ["room_member_attribute", "room_attribute", "room_member", "room"] {
        tx.execute(&format!("DELETE FROM {table} WHERE conversation = $1"), &params![room]).await?;
    }
    tx.execute("DELETE FROM conversation WHERE id = $1", &params![room]).await?;
    Ok(())
}

/// Numbers the next change of a room, which is in the scope of the job.
pub(super) async fn next_rev(tx: &mut Tx<'_>, room: ConversationKey) -> Result<i64, Error> {
    tx.assert_covers_conversation(room);
    let sql = "UPDATE conversation SET rev = rev + 1 WHERE id = $1 RETURNING rev";
    let row = tx.fetch_one(sql, &params![room]).await?;
    row.ok_or_else(|| Error::internal_text("a room without a conversation"))?.get(0).map_err(Error::from)
}

fn member_of(row: &crate::db::Row, first: usize) -> Result<Member, Error> {
    Ok(Member {
        device: row.get::<Vec<u8>>(first)?.try_into().unwrap_or_default(),
        place: row.get(first + 1)?,
        leaves_at: row.get(first + 2)?,
    })
}

/// Returns a member.
pub(super) async fn member(tx: &mut Tx<'_>, room: ConversationKey, user: UserKey) -> Result<Option<Member>, Error> {
    let sql = "SELECT device, place, leaves_at FROM room_member WHERE conversation = $1 AND account = $2";
    let row = tx.fetch_one(sql, &params![room, user]).await?;
    row.map(|row| member_of(&row, 0)).transpose()
}

/// Returns the last change of a room, if the user is in it, or is 0, which stands for the server: what a message needs.
pub(crate) async fn rev_for_member(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    user: UserKey,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT c.rev FROM conversation c WHERE c.id = $1 AND c.end_rev IS NULL AND \
               (EXISTS (SELECT 1 FROM room_member m WHERE m.conversation = c.id AND m.account = $2) OR $2 = 0)";
    let row = tx.fetch_one(sql, &params![room, user]).await?;
    row.map(|row| Ok(row.get(0)?)).transpose()
}

/// Returns the last change of a room, unless it has ended.
pub(crate) async fn rev(tx: &mut Tx<'_>, room: ConversationKey) -> Result<Option<i64>, Error> {
    let row = tx.fetch_one("SELECT rev FROM conversation WHERE id = $1 AND type = 1", &params![room]).await?;
    row.map(|row| Ok(row.get(0)?)).transpose()
}

/// Lets a user in with a device, or changes the device.
pub(super) async fn put_member(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    (user, device): (UserKey, [u8; 16]),
    place: i64,
    is_new: bool,
) -> Result<(), Error> {
    let sql = "INSERT INTO room_member (conversation, account, device, place, leaves_at) VALUES ($1, $2, $3, $4, 0) \
               ON CONFLICT (conversation, account) DO UPDATE SET device = $3, place = $4, leaves_at = 0";
    tx.execute(sql, &params![room, user, device.to_vec(), place]).await?;
    if is_new {
        tx.execute("UPDATE room SET members = members + 1 WHERE conversation = $1", &params![room]).await?;
    }
    Ok(())
}

/// Sets when a member leaves; 0: their device has a connection.
pub(super) async fn set_leaves_at(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    user: UserKey,
    leaves_at: i64,
) -> Result<(), Error> {
    let sql = "UPDATE room_member SET leaves_at = $3 WHERE conversation = $1 AND account = $2";
    tx.execute(sql, &params![room, user, leaves_at]).await?;
    Ok(())
}

/// Removes members, who are in the room, and the attributes that go with them.
pub(super) async fn remove(tx: &mut Tx<'_>, room: ConversationKey, users: &[UserKey]) -> Result<(), Error> {
    let (list, mut values) = tx.dialect().in_list(users.iter().copied(), 2);
    values.insert(0, room.into());
    tx.execute(&format!("DELETE FROM room_member WHERE conversation = $1 AND account IN {list}"), &values).await?;
    let sql = format!(
        "DELETE FROM room_member_attribute WHERE conversation = $1 AND account IN {list} AND goes_with_owner = 1"
    );
    tx.execute(&sql, &values).await?;
    let fewer = i64::try_from(users.len()).map_err(Error::internal)?;
    tx.execute("UPDATE room SET members = members - $2 WHERE conversation = $1", &params![room, fewer]).await?;
    Ok(())
}

/// Returns up to `limit` members whose time has come.
pub(super) async fn leaving(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    now: i64,
    limit: i64,
) -> Result<Vec<(UserKey, Member)>, Error> {
    let sql = "SELECT account, device, place, leaves_at FROM room_member \
               WHERE conversation = $1 AND leaves_at > 0 AND leaves_at <= $2 ORDER BY leaves_at LIMIT $3";
    let rows = tx.fetch(sql, &params![room, now, limit]).await?;
    rows.iter().map(|row| Ok((UserKey(row.get(0)?), member_of(row, 1)?))).collect()
}

/// Returns when the next member leaves.
pub(super) async fn next_leave(tx: &mut Tx<'_>, room: ConversationKey) -> Result<Option<i64>, Error> {
    let sql = "SELECT leaves_at FROM room_member WHERE conversation = $1 AND leaves_at > 0 ORDER BY leaves_at";
    let row = tx.fetch_one(sql, &params![room]).await?;
    row.map(|row| Ok(row.get(0)?)).transpose()
}

/// Lets the members leave at a time whose devices have no connection, by the store. Returns how many.
pub(super) async fn mark_lost(tx: &mut Tx<'_>, room: ConversationKey, leaves_at: i64) -> Result<u64, Error> {
    let sql = format!(
        "UPDATE room_member SET leaves_at = $2 WHERE conversation = $1 AND leaves_at = 0 AND account IN \
         (SELECT m.account FROM room_member m WHERE m.conversation = $1 AND NOT {IS_CONNECTED})"
    );
    Ok(tx.execute(&sql, &params![room, leaves_at]).await?)
}

/// Whether another login of the member's device has a connection.
pub(super) async fn is_connected(
    tx: &mut Tx<'_>,
    (user, device): (UserKey, [u8; 16]),
    except: LoginKey,
) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM session WHERE account = $1 AND device = $2 AND state = 0 AND connected = 1 AND id <> $3";
    Ok(tx.fetch_one(sql, &params![user, device.to_vec(), except]).await?.is_some())
}

/// Returns up to `limit` members of all rooms, by user, after a user: the room, the user, and whether they have to be marked as
/// without a connection.
pub(super) async fn lost(
    tx: &mut Tx<'_>,
    after: UserKey,
    limit: i64,
) -> Result<Vec<(ConversationKey, UserKey, bool)>, Error> {
    let sql = format!(
        "SELECT m.conversation, m.account, CASE WHEN m.leaves_at = 0 AND NOT {IS_CONNECTED} THEN 1 ELSE 0 END \
         FROM room_member m WHERE m.account > $1 ORDER BY m.account, m.conversation LIMIT $2"
    );
    let rows = tx.fetch(&sql, &params![after, limit]).await?;
    rows.iter().map(|row| Ok((ConversationKey(row.get(0)?), UserKey(row.get(1)?), row.get::<i64>(2)? != 0))).collect()
}

/// Returns the rooms of a user with their IDs, in which they are with this device, or with any.
pub(super) async fn rooms(
    tx: &mut Tx<'_>,
    user: UserKey,
    device: Option<[u8; 16]>,
) -> Result<Vec<(ConversationKey, String)>, Error> {
    let sql = "SELECT m.conversation, c.name, m.device FROM room_member m JOIN conversation c ON c.id = m.conversation \
               WHERE m.account = $1 ORDER BY c.name";
    let mut rooms = Vec::new();
    for row in tx.fetch(sql, &params![user]).await? {
        if device.is_none_or(|device| row.get::<Vec<u8>>(2).is_ok_and(|own| own == device)) {
            rooms.push((ConversationKey(row.get(0)?), row.get(1)?));
        }
    }
    Ok(rooms)
}

/// Returns the profiles of these users.
pub(super) async fn users(tx: &mut Tx<'_>, users: &[UserKey]) -> Result<Vec<UserInfo>, Error> {
    let (list, values) = tx.dialect().in_list(users.iter().copied(), 1);
    let rows = tx.fetch(&format!("SELECT {USER} FROM account a WHERE a.id IN {list} ORDER BY a.id"), &values).await?;
    rows.iter().map(|row| user_info(row, 0)).collect()
}

/// Returns up to `count` of the first `most` members, after a place, in the order in which they entered, and the place to go on
/// from; 0: there are no more.
pub(super) async fn members(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    (after, count): (i64, usize),
    most: i64,
) -> Result<(Vec<UserInfo>, i64), Error> {
    let sql =
        "SELECT COUNT(*) FROM (SELECT 1 FROM room_member WHERE conversation = $1 AND place <= $2 LIMIT $3) AS listed";
    let before = tx.fetch_one(sql, &params![room, after, most]).await?;
    let before: i64 = before.map_or(Ok(0), |row| row.get(0))?;
    let sql = format!(
        "SELECT {USER}, m.place FROM room_member m JOIN account a ON a.id = m.account \
         WHERE m.conversation = $1 AND m.place > $2 ORDER BY m.place LIMIT $3"
    );
    let limit = i64::try_from(count + 1).map_err(Error::internal)?.min(most - before);
    let rows = tx.fetch(&sql, &params![room, after, limit]).await?;
    let (mut members, mut bytes, mut last) = (Vec::with_capacity(rows.len()), 0, 0);
    for row in rows.iter().take(count) {
        let member = user_info(row, 0)?;
        bytes += prost::Message::encoded_len(&member);
        if bytes > PAGE_BYTES && !members.is_empty() {
            break;
        }
        members.push(member);
        last = row.get(4)?;
    }
    let is_last = members.len() == rows.len();
    Ok((members, if is_last { 0 } else { last }))
}

/// Returns up to `count` members after a place, in the order in which they entered, for the operator.
pub(super) async fn member_rows(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    (after, count): (i64, usize),
) -> Result<ListRoomMembersResult, Error> {
    let sql = "SELECT a.name, a.user_name, m.leaves_at, m.place FROM room_member m JOIN account a ON a.id = m.account \
               WHERE m.conversation = $1 AND m.place > $2 ORDER BY m.place LIMIT $3";
    let limit = i64::try_from(count).map_err(Error::internal)? + 1;
    let rows = tx.fetch(sql, &params![room, after, limit]).await?;
    let mut result = ListRoomMembersResult::default();
    for row in rows.iter().take(count) {
        let is_connected = row.get::<i64>(2)? == 0;
        result.members.push(RoomMemberRow { user_id: row.get(0)?, user_name: row.get(1)?, is_connected });
        result.next = row.get::<i64>(3)?.to_string();
    }
    if rows.len() <= count {
        result.next.clear();
    }
    Ok(result)
}

/// Returns those of these users who are in the room, with their profiles.
pub(super) async fn members_among(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    users: &[UserKey],
) -> Result<HashMap<UserKey, UserInfo>, Error> {
    let (list, mut values) = tx.dialect().in_list(users.iter().copied(), 2);
    values.insert(0, room.into());
    let sql = format!(
        "SELECT {USER}, m.account FROM room_member m JOIN account a ON a.id = m.account \
         WHERE m.conversation = $1 AND m.account IN {list}"
    );
    let rows = tx.fetch(&sql, &values).await?;
    rows.iter().map(|row| Ok((UserKey(row.get(4)?), user_info(row, 0)?))).collect()
}

/// Returns how many members have a connection.
pub(super) async fn online_count(tx: &mut Tx<'_>, room: ConversationKey) -> Result<i64, Error> {
    let sql = "SELECT r.members - (SELECT COUNT(*) FROM room_member m WHERE m.conversation = $1 AND m.leaves_at > 0) \
               FROM room r WHERE r.conversation = $1";
    let row = tx.fetch_one(sql, &params![room]).await?;
    row.map_or(Ok(0), |row| Ok(row.get(0)?))
}

/// Returns the attributes of a room.
pub(super) async fn attributes(tx: &mut Tx<'_>, room: ConversationKey) -> Result<Attributes, Error> {
    let sql = "SELECT key, value, owner, goes_with_owner FROM room_attribute WHERE conversation = $1";
    let rows = tx.fetch(sql, &params![room]).await?;
    rows.iter()
        .map(|row| {
            let attribute =
                Attribute { value: row.get(1)?, owner: UserKey(row.get(2)?), goes_with_owner: row.get::<i64>(3)? != 0 };
            Ok((row.get(0)?, attribute))
        })
        .collect()
}

/// Writes what differs between the attributes before and after.
pub(super) async fn write_attributes(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    before: &Attributes,
    after: &Attributes,
) -> Result<(), Error> {
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        let sql = "DELETE FROM room_attribute WHERE conversation = $1 AND key = $2";
        tx.execute(sql, &params![room, key.as_str()]).await?;
    }
    for (key, attribute) in after.iter().filter(|(key, attribute)| before.get(*key) != Some(attribute)) {
        let sql = "INSERT INTO room_attribute (conversation, key, value, owner, goes_with_owner) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (conversation, key) DO UPDATE SET value = $3, owner = $4, goes_with_owner = $5";
        let goes = i64::from(attribute.goes_with_owner);
        tx.execute(sql, &params![room, key.as_str(), attribute.value.as_str(), attribute.owner, goes]).await?;
    }
    Ok(())
}

/// Removes all attributes, of the room and of its members: nobody is in it any more.
pub(super) async fn clear_attributes(tx: &mut Tx<'_>, room: ConversationKey) -> Result<(), Error> {
    for table in ["room_attribute", "room_member_attribute"] {
        tx.execute(&format!("DELETE FROM {table} WHERE conversation = $1"), &params![room]).await?;
    }
    Ok(())
}

/// The attributes of members.
pub(super) type MemberAttributes = HashMap<UserKey, BTreeMap<String, String>>;

/// Returns the attributes of these users; those who have none are left out.
pub(super) async fn member_attributes(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    users: &[UserKey],
) -> Result<MemberAttributes, Error> {
    let (list, mut values) = tx.dialect().in_list(users.iter().copied(), 2);
    values.insert(0, room.into());
    let sql =
        format!("SELECT account, key, value FROM room_member_attribute WHERE conversation = $1 AND account IN {list}");
    let mut found = MemberAttributes::new();
    for row in tx.fetch(&sql, &values).await? {
        found.entry(UserKey(row.get(0)?)).or_default().insert(row.get(1)?, row.get(2)?);
    }
    Ok(found)
}

/// Returns how many users have attributes. Those of users who have left count as well: they are there again when the users return.
pub(super) async fn attributed(tx: &mut Tx<'_>, room: ConversationKey) -> Result<i64, Error> {
    let sql = "SELECT COUNT(DISTINCT account) FROM room_member_attribute WHERE conversation = $1";
    let row = tx.fetch_one(sql, &params![room]).await?;
    row.map_or(Ok(0), |row| Ok(row.get(0)?))
}

/// Sets attributes of users; their others stay.
pub(super) async fn set_member_attributes(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    users: &[UserKey],
    (attributes, goes_with_owner): (&HashMap<String, String>, bool),
) -> Result<(), Error> {
    let goes = i64::from(goes_with_owner);
    let of_user = |user: &UserKey| {
        let user = *user;
        attributes.iter().map(move |(key, value)| -> [Value; 5] {
            [room.into(), user.into(), key.as_str().into(), value.as_str().into(), goes.into()]
        })
    };
    let rows: Vec<_> = users.iter().flat_map(of_user).collect();
    let sql = |rows: &str| {
        format!(
            "INSERT INTO room_member_attribute (conversation, account, key, value, goes_with_owner) \
             SELECT v.column1, v.column2, v.column3, v.column4, v.column5 FROM ({rows}) AS v WHERE true \
             ON CONFLICT (conversation, account, key) \
             DO UPDATE SET value = excluded.value, goes_with_owner = excluded.goes_with_owner"
        )
    };
    tx.execute_rows(&rows, sql).await?;
    Ok(())
}

/// Returns up to `count` members with attributes after a place, and the place to go on from; 0: there are no more.
pub(super) async fn members_with_attributes(
    tx: &mut Tx<'_>,
    room: ConversationKey,
    (after, count): (i64, i64),
) -> Result<(Vec<RoomMemberAttributesInfo>, i64), Error> {
    let sql = "SELECT m.account, a.name, m.place FROM room_member m JOIN account a ON a.id = m.account \
               WHERE m.conversation = $1 AND m.place > $2 AND EXISTS (SELECT 1 FROM room_member_attribute t \
               WHERE t.conversation = m.conversation AND t.account = m.account) ORDER BY m.place LIMIT $3";
    let values: [Value; 3] = [room.into(), after.into(), (count + 1).into()];
    let rows = tx.fetch(sql, &values).await?;
    let most = usize::try_from(count).unwrap_or(0);
    let (mut users, mut last) = (Vec::new(), 0);
    for row in rows.iter().take(most) {
        users.push((UserKey(row.get(0)?), row.get::<String>(1)?));
        last = row.get(2)?;
    }
    let keys: Vec<UserKey> = users.iter().map(|(user, _)| *user).collect();
    let mut found = member_attributes(tx, room, &keys).await?;
    let infos = users.into_iter().map(|(user, user_id)| RoomMemberAttributesInfo {
        user_id,
        attributes: found.remove(&user).unwrap_or_default().into_iter().collect(),
    });
    Ok((infos.collect(), if rows.len() > most { last } else { 0 }))
}
