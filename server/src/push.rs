//! Offline push: the rows that other nouns write. A message that is to be pushed is two rows, whatever the number of its receivers;
//! `service/push` decides later who gets it.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zim_protocol::id::login_name;
use zim_protocol::{LoggedOut, PushSource};

use crate::db::{Tx, params};
use crate::effect::{Effect, Queue};
use crate::error::Error;
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

/// The number of the entries of the outbox that decide about the receivers of a push.
pub(crate) const PUSH: i64 = 80;
/// The number of the entries of the outbox that send a push to a device.
pub(crate) const DELIVERY: i64 = 81;

/// What a push tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// A message.
    Message = 1,
    /// The revocation of a message.
    Revoke = 2,
    /// An invitation to a call.
    CallInvitation = 3,
    /// The cancellation of one.
    CallCancellation = 4,
    /// A user has left a call.
    CallQuit = 5,
    /// A call was ended.
    CallEnd = 6,
    /// A user wants to be a friend.
    FriendApplication = 7,
    /// The user accepts.
    FriendApplicationAcceptance = 8,
    /// The user does not.
    FriendApplicationRejection = 9,
    /// A user wants to join a group.
    GroupJoinApplication = 10,
    /// They may.
    GroupJoinApplicationAcceptance = 11,
    /// They may not.
    GroupJoinApplicationRejection = 12,
    /// A user is invited to a group.
    GroupInviteApplication = 13,
    /// They enter it.
    GroupInviteApplicationAcceptance = 14,
    /// They do not.
    GroupInviteApplicationRejection = 15,
}

/// All kinds, with the names that devices and operators see.
const NAMES: [(PushKind, &str); 15] = [
    (PushKind::Message, "message"),
    (PushKind::Revoke, "revoke"),
    (PushKind::CallInvitation, "callInvitation"),
    (PushKind::CallCancellation, "callCancellation"),
    (PushKind::CallQuit, "callQuit"),
    (PushKind::CallEnd, "callEnd"),
    (PushKind::FriendApplication, "friendApplication"),
    (PushKind::FriendApplicationAcceptance, "friendApplicationAcceptance"),
    (PushKind::FriendApplicationRejection, "friendApplicationRejection"),
    (PushKind::GroupJoinApplication, "groupJoinApplication"),
    (PushKind::GroupJoinApplicationAcceptance, "groupJoinApplicationAcceptance"),
    (PushKind::GroupJoinApplicationRejection, "groupJoinApplicationRejection"),
    (PushKind::GroupInviteApplication, "groupInviteApplication"),
    (PushKind::GroupInviteApplicationAcceptance, "groupInviteApplicationAcceptance"),
    (PushKind::GroupInviteApplicationRejection, "groupInviteApplicationRejection"),
];

impl PushKind {
    /// Returns the kind with a number in the store.
    pub(crate) fn of(number: i64) -> Option<Self> {
        NAMES.into_iter().map(|(kind, _)| kind).find(|kind| *kind as i64 == number)
    }

    /// Returns the name that devices and operators see.
    pub(crate) fn name(self) -> &'static str {
        NAMES.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Whether it is about a message of a conversation.
    pub(crate) fn is_of_message(self) -> bool {
        matches!(self, Self::Message | Self::Revoke)
    }

    /// Whether it is about a call.
    pub(crate) fn is_of_call(self) -> bool {
        matches!(self, Self::CallInvitation | Self::CallCancellation | Self::CallQuit | Self::CallEnd)
    }
}

/// Something that is to be pushed, unless its receivers get it in another way first.
#[derive(Clone, Debug)]
pub struct NewPush {
    /// Unique in the deployment.
    pub id: i64,
    /// The app.
    pub app: AppKey,
    /// Who caused it, and gets no push.
    pub sender: UserKey,
    /// What it tells of.
    pub kind: PushKind,
    /// An encoded `PushConfig`.
    pub config: Bytes,
    /// When it is made, Unix milliseconds.
    pub now: i64,
    /// When the receivers are decided, Unix milliseconds.
    pub due_at: i64,
}

impl NewPush {
    /// Stores it, unless no receiver has a push ID. `about` is the conversation and the position of the message; the call or the group
    /// and 0; or 0 twice. The receivers are those of the conversation if none are named: then it is enough that anybody in the app has a push ID.
    ///
    /// # Errors
    /// The store fails.
    pub async fn insert(
        &self,
        tx: &mut Tx<'_>,
        (about, seq): (impl Into<i64>, i64),
        receivers: &[UserKey],
    ) -> Result<(), Error> {
        let found = if receivers.is_empty() {
            tx.fetch_one("SELECT 1 FROM push_id WHERE app = $1 LIMIT 1", &params![self.app]).await?
        } else {
            let (list, values) = tx.dialect().in_list(receivers.iter().map(|user| user.0), 1);
            tx.fetch_one(&format!("SELECT 1 FROM push_id WHERE account IN {list} LIMIT 1"), &values).await?
        };
        if found.is_none() {
            return Ok(());
        }
        let users: Vec<u8> = match self.kind.is_of_message() {
            true => Vec::new(),
            false => receivers.iter().flat_map(|user| user.0.to_be_bytes()).collect(),
        };
        tx.execute(
            "INSERT INTO push (id, app, account, kind, conversation, seq, config, receivers, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &params![
                self.id,
                self.app,
                self.sender,
                self.kind as i64,
                about.into(),
                seq,
                self.config.clone(),
                users,
                self.now
            ],
        )
        .await?;
        enqueue(tx, PUSH, (self.id, 0), self.due_at).await
    }
}

/// Stores what a request wants pushed to these users, if it wants that.
///
/// # Errors
/// The store fails.
pub(crate) async fn insert(
    push: Option<NewPush>,
    tx: &mut Tx<'_>,
    about: impl Into<i64>,
    receivers: &[UserKey],
) -> Result<(), Error> {
    match push {
        // Without receivers it would be for a whole conversation.
        Some(push) if !receivers.is_empty() => push.insert(tx, (about, 0), receivers).await,
        _ => Ok(()),
    }
}

/// Adds an entry to a lane of the outbox, whose cause is its own ID.
///
/// # Errors
/// The store fails.
pub(crate) async fn enqueue(tx: &mut Tx<'_>, kind: i64, (id, lane): (i64, i64), at: i64) -> Result<(), Error> {
    let sql = "INSERT INTO outbox (id, kind, cause, cursor, next_at, attempts, last_error, lane) \
               VALUES ($1, $2, $1, 0, $3, 0, '', $4) ON CONFLICT (id) DO NOTHING";
    tx.execute(sql, &params![id, kind, at, lane]).await?;
    tx.emit(Effect::Due { queue: Queue::Outbox, at });
    Ok(())
}

/// Forgets what the push of a message says, because the message was revoked.
///
/// # Errors
/// The store fails.
pub(crate) async fn forget(tx: &mut Tx<'_>, conversation: ConversationKey, seq: i64) -> Result<(), Error> {
    let sql = "UPDATE push SET config = $4 WHERE conversation = $1 AND seq = $2 AND kind = $3";
    tx.execute(sql, &params![conversation, seq, PushKind::Message as i64, Bytes::new()]).await?;
    Ok(())
}

/// Ends the pushes to the device of a login that is about to end.
///
/// # Errors
/// The store fails.
pub(crate) async fn unbind_login(tx: &mut Tx<'_>, login: LoginKey) -> Result<(), Error> {
    let sql = "DELETE FROM push_id WHERE account = (SELECT account FROM session WHERE id = $1) \
               AND device = (SELECT device FROM session WHERE id = $1)";
    tx.execute(sql, &params![login]).await?;
    Ok(())
}

/// Ends the pushes to a device for a user.
///
/// # Errors
/// The store fails.
pub(crate) async fn unbind(tx: &mut Tx<'_>, device: [u8; 16], user: UserKey) -> Result<(), Error> {
    let sql = "DELETE FROM push_id WHERE account = $1 AND device = $2";
    tx.execute(sql, &params![user, device.to_vec()]).await?;
    Ok(())
}

/// Ends the pushes to a device for all users of the app but the one who logs in on it.
///
/// # Errors
/// The store fails.
pub(crate) async fn unbind_others(tx: &mut Tx<'_>, app: AppKey, device: [u8; 16], user: UserKey) -> Result<(), Error> {
    let sql = "DELETE FROM push_id WHERE app = $1 AND device = $2 AND account <> $3";
    tx.execute(sql, &params![app, device.to_vec(), user]).await?;
    Ok(())
}

/// Ends the pushes to a device for users of the app who have logged out on it, unless they have logged in again since.
///
/// # Errors
/// The store fails.
pub(crate) async fn unbind_logged_out(
    tx: &mut Tx<'_>,
    app: AppKey,
    device: [u8; 16],
    logged_out: &[LoggedOut],
) -> Result<(), Error> {
    let any = "DELETE FROM push_id WHERE device = $2 \
               AND account = (SELECT a.id FROM account a WHERE a.app = $1 AND a.name = $3)";
    for LoggedOut { user_id, login } in logged_out {
        if login.is_empty() {
            tx.execute(any, &params![app, device.to_vec(), user_id.as_str()]).await?;
        } else {
            let of_login = format!("{any} AND (login = $4 OR login IS NULL)");
            tx.execute(&of_login, &params![app, device.to_vec(), user_id.as_str(), login.clone()]).await?;
        }
    }
    Ok(())
}

/// The pushes to a device for a user belong to this login of the user on it from now on.
///
/// # Errors
/// The store fails.
pub(crate) async fn bind_to_login(
    tx: &mut Tx<'_>,
    device: [u8; 16],
    user: UserKey,
    ticket: &[u8; 16],
) -> Result<(), Error> {
    let sql = "UPDATE push_id SET login = $3 WHERE account = $1 AND device = $2";
    tx.execute(sql, &params![user, device.to_vec(), login_name(ticket).to_vec()]).await?;
    Ok(())
}

/// Returns what identifies a token within an app.
pub(crate) fn token_hash(source: PushSource, token: &str) -> Vec<u8> {
    Sha256::new().chain_update((source as i32).to_be_bytes()).chain_update(token).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_number_and_a_name() {
        for (index, (kind, name)) in NAMES.into_iter().enumerate() {
            assert_eq!((kind as usize, kind.name()), (index + 1, name));
            assert_eq!(PushKind::of(kind as i64), Some(kind));
        }
        assert_eq!(PushKind::of(0), None);
    }
}
