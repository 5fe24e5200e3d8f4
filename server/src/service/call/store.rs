//! Rows of calls, and what each user sees of them.

use std::collections::HashMap;

use bytes::Bytes;
use zim_protocol::{
    CallEntry, CallInfo, CallInvitationMode, CallState, CallUserInfo, CallUserState, feed_entry::Detail,
};

use super::rules::{Call, Device, Member, Outcome};
use super::timer::TIMER;
use crate::db::{Row, Tx, Value, params};
use crate::error::Error;
use crate::journal::{FeedKind, LogWriter};
use crate::key::{AppKey, CallKey, UserKey};
use crate::service::rows::{PAGE_BYTES, Page};
use crate::task;

/// Calls that one statement reads for a page.
const CALLS_AT_ONCE: usize = 10;
/// A call that has ended is kept for at least this time, milliseconds. Then its task looks for how many days it is kept.
pub(super) const DAY_MS: i64 = 86_400_000;

/// A call with everything that is stored of it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) key: CallKey,
    pub(super) app: AppKey,
    /// The ID that clients see.
    pub(super) public_id: i64,
    pub(super) checks_received: bool,
    pub(super) timeout_s: i64,
    pub(super) extended_data: String,
    pub(super) created_at: i64,
    /// 0: it has not ended.
    pub(super) ended_at: i64,
    /// Who cancelled or ended the call; 0: nobody.
    pub(super) operator: UserKey,
    pub(super) operated_data: String,
    /// The two are not stored yet.
    pub(super) has_new_operator: bool,
    /// When the task of the call runs; 0: it has none.
    pub(super) timer_at: i64,
    pub(super) place: i64,
    pub(super) call: Call,
    pub(super) people: HashMap<UserKey, Person>,
}

/// What is stored of a user besides what the rules need.
#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    pub(super) user_id: String,
    /// What the user said last.
    pub(super) said: String,
}

/// A call changed; the key is the call.
pub(crate) static CALL: FeedKind = FeedKind {
    number: 50,
    resolve: |tx, user, keys| {
        Box::pin(async move {
            let found = load_all(tx, keys).await?;
            Ok(found.into_iter().map(|(key, stored)| (key, Detail::Call(stored.entry(user)))).collect())
        })
    },
};

/// Returns a call of an app.
pub(super) async fn find(tx: &mut Tx<'_>, call: CallKey, app: AppKey) -> Result<Option<Stored>, Error> {
    Ok(load(tx, call).await?.filter(|stored| stored.app == app))
}

/// Returns a call.
pub(super) async fn load(tx: &mut Tx<'_>, call: CallKey) -> Result<Option<Stored>, Error> {
    Ok(load_all(tx, &[call.0]).await?.remove(&call.0))
}

/// Returns calls by their keys. Takes two statements, whatever the number.
async fn load_all(tx: &mut Tx<'_>, calls: &[i64]) -> Result<HashMap<i64, Stored>, Error> {
    let (list, params) = tx.dialect().in_list(calls.iter().copied(), 1);
    let sql = format!(
        "SELECT id, public_id, account, mode, state, checks_received, timeout_s, extended_data, operator, operated_data, \
         created_at, ended_at, closes_at, timer_at, place FROM chat_call WHERE id IN {list}"
    );
    let mut found = HashMap::with_capacity(calls.len());
    for row in tx.fetch(&sql, &params).await? {
        let stored = head(&row)?;
        found.insert(stored.key.0, stored);
    }
    let sql = format!(
        "SELECT u.call, u.account, u.state, u.inviter, u.device, u.accepted_at, u.expires_at, u.check_at, u.extended_data, \
         a.name, a.app FROM call_user u JOIN account a ON a.id = u.account WHERE u.call IN {list} ORDER BY u.call, u.number"
    );
    for row in tx.fetch(&sql, &params).await? {
        let Some(stored) = found.get_mut(&row.get::<i64>(0)?) else { continue };
        let user = UserKey(row.get(1)?);
        stored.call.members.push(member(&row, user)?);
        stored.app = AppKey(row.get(10)?);
        stored.people.insert(user, Person { user_id: row.get(9)?, said: row.get(8)? });
    }
    Ok(found)
}

/// Reads a call without its users.
fn head(row: &Row) -> Result<Stored, Error> {
    Ok(Stored {
        key: CallKey(row.get(0)?),
        app: AppKey(0),
        public_id: row.get(1)?,
        checks_received: row.get::<i64>(5)? == 1,
        timeout_s: row.get(6)?,
        extended_data: row.get(7)?,
        created_at: row.get(10)?,
        ended_at: row.get(11)?,
        operator: UserKey(row.get(8)?),
        operated_data: row.get(9)?,
        has_new_operator: false,
        timer_at: row.get(13)?,
        place: row.get(14)?,
        call: Call {
            is_advanced: row.get::<i32>(3)? == CallInvitationMode::Advanced as i32,
            caller: UserKey(row.get(2)?),
            has_ended: row.get::<i32>(4)? == CallState::Ended as i32,
            closes_at: row.get(12)?,
            members: Vec::new(),
        },
        people: HashMap::new(),
    })
}

fn member(row: &Row, user: UserKey) -> Result<Member, Error> {
    let device: Vec<u8> = row.get(4)?;
    Ok(Member {
        user,
        state: CallUserState::try_from(row.get::<i32>(2)?).unwrap_or(CallUserState::Unknown),
        device: Device::try_from(device).ok(),
        inviter: UserKey(row.get(3)?),
        accepted_at: row.get(5)?,
        expires_at: row.get(6)?,
        check_at: row.get(7)?,
    })
}

impl Stored {
    /// Returns the ID that clients see.
    pub(super) fn call_id(&self) -> String {
        self.public_id.to_string()
    }

    pub(super) fn user_id(&self, user: UserKey) -> String {
        self.people.get(&user).map(|person| person.user_id.clone()).unwrap_or_default()
    }

    /// Notes what a user says about the call; users who are new to it are added.
    pub(super) fn say(&mut self, user: UserKey, user_id: &str, said: &str) {
        let person =
            self.people.entry(user).or_insert_with(|| Person { user_id: user_id.to_owned(), ..Person::default() });
        said.clone_into(&mut person.said);
    }

    /// Notes who cancels or ends the call, or cancels some invitations.
    pub(super) fn note_operator(&mut self, user: UserKey, said: &str) {
        self.operator = user;
        said.clone_into(&mut self.operated_data);
        self.has_new_operator = true;
    }

    /// Returns the users of the call.
    pub(super) fn users(&self) -> Vec<CallUserInfo> {
        let info = |member: &Member| {
            let person = self.people.get(&member.user).cloned().unwrap_or_default();
            CallUserInfo { user_id: person.user_id, state: member.state as i32, extended_data: person.said }
        };
        self.call.members.iter().map(info).collect()
    }

    /// Returns the call as a user sees it.
    fn info(&self, viewer: UserKey) -> CallInfo {
        let inviter = self.call.member(viewer).map_or(self.call.caller, |member| member.inviter);
        let mode = if self.call.is_advanced { CallInvitationMode::Advanced } else { CallInvitationMode::General };
        let state = if self.call.has_ended { CallState::Ended } else { CallState::Started };
        CallInfo {
            call_id: self.call_id(),
            caller: self.user_id(self.call.caller),
            inviter: self.user_id(inviter),
            create_time: self.created_at,
            end_time: self.ended_at,
            state: state as i32,
            mode: mode as i32,
            extended_data: self.extended_data.clone(),
            call_user_list: self.users(),
        }
    }

    /// Returns the entry of a user's feed.
    fn entry(&self, viewer: UserKey) -> CallEntry {
        let member = self.call.member(viewer);
        let device = member.and_then(|member| member.device);
        CallEntry {
            info: Some(self.info(viewer)),
            timeout: self.timeout_s,
            expires_at: member.map_or(0, |member| member.expires_at),
            main_device: device.map_or_else(Bytes::new, |device| Bytes::copy_from_slice(&device)),
            operated_user_id: self.user_id(self.operator),
            operated_extended_data: self.operated_data.clone(),
        }
    }

    /// Stores a new call, whose users the job has locked, and tells them.
    pub(super) async fn insert(mut self, tx: &mut Tx<'_>, log: &mut LogWriter) -> Result<(), Error> {
        tx.made_call(self.key);
        self.timer_at = self.call.next_at().unwrap_or(0);
        tx.execute(
            "INSERT INTO chat_call (id, public_id, account, mode, state, checks_received, timeout_s, extended_data, operator, \
             operated_data, created_at, ended_at, closes_at, timer_at, place) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '', $9, 0, $10, $11, $12)",
            &params![
                self.key,
                self.public_id,
                self.call.caller,
                i64::from(self.call.is_advanced),
                CallState::Started as i64,
                i64::from(self.checks_received),
                self.timeout_s,
                self.extended_data.clone(),
                self.created_at,
                self.call.closes_at,
                self.timer_at,
                self.place
            ],
        )
        .await?;
        let users: Vec<UserKey> = self.call.members.iter().map(|member| member.user).collect();
        self.save_members(tx, &users).await?;
        task::schedule(tx, &TIMER, self.key, self.timer_at).await?;
        self.tell(tx, log, &users).await
    }

    /// Stores what has changed, sets the timer anew, and tells whom it concerns.
    pub(super) async fn save(
        &mut self,
        tx: &mut Tx<'_>,
        log: &mut LogWriter,
        outcome: &Outcome,
        now: i64,
    ) -> Result<(), Error> {
        self.save_members(tx, &outcome.changed).await?;
        let timer_at = if self.call.has_ended { now + DAY_MS } else { self.call.next_at().unwrap_or(0) };
        if self.call.has_ended || timer_at != self.timer_at || self.has_new_operator {
            if self.call.has_ended {
                self.ended_at = now;
            }
            self.set_timer(tx, timer_at).await?;
            let state = if self.call.has_ended { CallState::Ended } else { CallState::Started };
            tx.execute(
                "UPDATE chat_call SET state = $2, operator = $3, operated_data = $4, ended_at = $5, timer_at = $6 WHERE id = $1",
                &params![
                    self.key,
                    state as i64,
                    self.operator,
                    self.operated_data.clone(),
                    self.ended_at,
                    self.timer_at
                ],
            )
            .await?;
        }
        self.tell(tx, log, &outcome.told).await
    }

    async fn set_timer(&mut self, tx: &mut Tx<'_>, at: i64) -> Result<(), Error> {
        match at {
            same if same == self.timer_at => {}
            0 => drop(task::cancel(tx, &TIMER, self.key).await?),
            at => task::schedule(tx, &TIMER, self.key, at).await?,
        }
        self.timer_at = at;
        Ok(())
    }

    /// Stores the rows of users. Takes one statement for 16 of them.
    async fn save_members(&self, tx: &mut Tx<'_>, users: &[UserKey]) -> Result<(), Error> {
        let rows = self.call.members.iter().zip(0_i64..).filter(|(member, _)| users.contains(&member.user));
        let row = |(member, number): (&Member, i64)| -> [Value; 11] {
            let said = self.people.get(&member.user).map(|person| person.said.clone()).unwrap_or_default();
            let device = member.device.map_or_else(Bytes::new, |device| Bytes::copy_from_slice(&device));
            params![
                self.key,
                member.user,
                number,
                member.state as i64,
                said,
                member.inviter,
                device,
                member.accepted_at,
                member.expires_at,
                member.check_at,
                self.place
            ]
        };
        let rows: Vec<[Value; 11]> = rows.map(row).collect();
        let sql = |rows: &str| {
            format!(
                "INSERT INTO call_user (call, account, number, state, extended_data, inviter, device, accepted_at, expires_at, \
                 check_at, place) {rows} ON CONFLICT (call, account) DO UPDATE SET state = excluded.state, \
                 extended_data = excluded.extended_data, inviter = excluded.inviter, device = excluded.device, \
                 accepted_at = excluded.accepted_at, expires_at = excluded.expires_at, check_at = excluded.check_at"
            )
        };
        tx.execute_rows(&rows, sql).await?;
        Ok(())
    }

    /// Adds the call, as it is now, to the feeds of these users.
    async fn tell(&self, tx: &mut Tx<'_>, log: &mut LogWriter, users: &[UserKey]) -> Result<(), Error> {
        tx.assert_covers_call(self.key);
        let entries = users.iter().map(|user| (*user, Detail::Call(self.entry(*user)))).collect();
        log.feed_each(tx, &CALL, self.key, entries).await
    }
}

/// Removes a call, which the job has locked. Entries of feeds about it tell nothing then.
pub(super) async fn remove(tx: &mut Tx<'_>, call: CallKey) -> Result<(), Error> {
    tx.assert_covers_call(call);
    tx.execute("DELETE FROM call_user WHERE call = $1", &params![call]).await?;
    tx.execute("DELETE FROM chat_call WHERE id = $1", &params![call]).await?;
    Ok(())
}

/// Returns a page of the calls of a user, the newest first, and the flag of the next page.
pub(super) async fn page(tx: &mut Tx<'_>, user: UserKey, page: Page) -> Result<(Vec<CallInfo>, i64), Error> {
    let sql = "SELECT place, call FROM call_user WHERE account = $1 AND place < $2 ORDER BY place DESC LIMIT $3";
    let (rows, most) = page.rows(tx, user, sql).await?;
    let places = rows.iter().map(|row| Ok((row.get(1)?, row.get(0)?))).collect::<Result<Vec<(i64, i64)>, Error>>()?;
    let (mut calls, mut bytes, mut last) = (Vec::new(), 0, 0);
    for some in places[..most.min(places.len())].chunks(CALLS_AT_ONCE) {
        let keys: Vec<i64> = some.iter().map(|(call, _)| *call).collect();
        let mut found = load_all(tx, &keys).await?;
        for (call, place) in some {
            if bytes > PAGE_BYTES {
                return Ok((calls, last));
            }
            let Some(stored) = found.remove(call) else { continue };
            let info = stored.info(user);
            bytes += prost::Message::encoded_len(&info);
            calls.push(info);
            last = *place;
        }
    }
    Ok((calls, if places.len() > most { last } else { 0 }))
}
