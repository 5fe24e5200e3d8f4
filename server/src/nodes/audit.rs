//! Compares the connections of this node with the database, when hints of other nodes were missed: once after a gap, and every
//! few seconds while there is no bus. It reads what moved once for all connections, and tells the clients what to pull.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use zim_protocol::{ConversationRef, ConversationType, SessionEndReason};

use crate::app::App;
use crate::connection::{ConnectionState, PushTarget};
use crate::db::Tx;
use crate::effect::GroupStay;
use crate::error::Error;
use crate::fanout::Knows;
use crate::key::{ConversationKey, LoginKey, UserKey};
use crate::tenant;

/// Connections that are compared at once.
const PAGE: usize = 500;
/// Clocks of nodes differ a little, and a transaction takes a moment until it is committed.
const MARGIN_MS: i64 = 30_000;

/// The state of a login that was kicked out, and of one that is active.
const KICKED_OUT: i64 = 1;
const ACTIVE: i64 = 0;

/// A conversation that moved, and its name for one user.
#[derive(Debug)]
struct Moved {
    user: UserKey,
    key: ConversationKey,
    conversation: ConversationRef,
    /// The user's last stay.
    stay: (GroupStay, Knows),
}

/// What the database says about some connections.
#[derive(Debug, Default)]
struct Page {
    states: HashMap<LoginKey, i64>,
    positions: HashMap<UserKey, i64>,
    moved: Vec<Moved>,
}

impl App {
    /// Compares everything that changed at or after `since` with what the clients of this node may know. `snapshots`: profiles and
    /// statuses as well, which costs each client a sync.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn audit(&self, since: i64, snapshots: bool) -> Result<(), Error> {
        self.refresh_apps().await?;
        let since = since.saturating_sub(MARGIN_MS);
        for page in self.fanout.online().chunks(PAGE) {
            self.audit_page(page, since, snapshots).await?;
        }
        self.audit_one_shots().await
    }

    async fn refresh_apps(&self) -> Result<(), Error> {
        let rows = self.db.read(async move |tx| tenant::app_rows(tx).await).await?;
        let mut apps: HashSet<_> = rows.iter().map(tenant::NewApp::key).collect();
        apps.extend(self.tenants.list().iter().map(|tenant| tenant.key));
        for app in apps {
            self.refresh_app(app).await?;
        }
        Ok(())
    }

    async fn audit_page(&self, sessions: &[Arc<ConnectionState>], since: i64, snapshots: bool) -> Result<(), Error> {
        let identities: Vec<_> =
            sessions.iter().filter_map(|session| Some((session, Arc::clone(session.identity()?)))).collect();
        let logins: Vec<i64> = identities.iter().map(|(_, identity)| identity.login.0).collect();
        let mut users: Vec<i64> = identities.iter().map(|(_, identity)| identity.user.0).collect();
        users.sort_unstable();
        users.dedup();
        let page = self.db.read(async move |tx| read(tx, &logins, &users, since).await).await?;
        let mut moved: HashMap<UserKey, Vec<Moved>> = HashMap::new();
        for one in page.moved {
            moved.entry(one.user).or_default().push(one);
        }
        for (session, identity) in identities {
            match page.states.get(&identity.login) {
                Some(&ACTIVE) => {}
                Some(&KICKED_OUT) => self.fanout.end_login(identity.user, identity.login, SessionEndReason::KickedOut),
                Some(_) => self.fanout.end_login(identity.user, identity.login, SessionEndReason::EndedByOperator),
                // It was resumed on another node, with another key, or logged out there.
                None => self.fanout.end_login(identity.user, identity.login, SessionEndReason::Unspecified),
            }
            let changed = moved.get(&identity.user).map_or(&[][..], Vec::as_slice);
            let groups = || changed.iter().filter(|one| one.conversation.r#type() == ConversationType::Group);
            if groups().next().is_some() {
                self.enter_groups(identity.user, session).await?;
            }
            for left in groups().filter(|one| one.stay.0.to.is_some()) {
                self.fanout.enter_group((left.key, &left.conversation.id.as_str().into()), session, left.stay);
            }
            for one in changed {
                session.queue.mark_dirty(&PushTarget::Conversation(one.conversation.clone()));
            }
            // Their changes are in no log.
            for (_, room_id) in session.rooms() {
                let conversation = ConversationRef { r#type: ConversationType::Room as i32, id: room_id.to_string() };
                session.queue.mark_dirty(&PushTarget::Conversation(conversation));
            }
            if let Some(pos) = page.positions.get(&identity.user).filter(|pos| **pos > session.fed()) {
                session.set_fed(*pos);
                session.queue.mark_dirty(&PushTarget::Feed);
            }
            if snapshots {
                session.queue.mark_dirty(&PushTarget::Snapshot);
            }
        }
        Ok(())
    }

    /// Ends one-shot logins, of which nothing is stored, that the operator has ended.
    async fn audit_one_shots(&self) -> Result<(), Error> {
        let sessions = self.fanout.one_shots.all();
        for page in sessions.chunks(PAGE) {
            let users: Vec<i64> =
                page.iter().filter_map(|session| session.identity()).map(|identity| identity.user.0).collect();
            let restricted = self.db.read(async move |tx| restricted(tx, users).await).await?;
            let now = self.clock.now_ms();
            for identity in page.iter().filter_map(|session| session.identity()) {
                let ends = restricted.get(&identity.user).is_some_and(|(banned_at, ban_ends_at, revoked_at)| {
                    let is_banned = *banned_at > 0 && (*ban_ends_at == 0 || now < *ban_ends_at);
                    is_banned || identity.login_at.div_euclid(1_000) <= *revoked_at
                });
                if ends {
                    self.fanout.one_shots.end(identity.user, SessionEndReason::EndedByOperator);
                }
            }
        }
        Ok(())
    }
}

async fn read(tx: &mut Tx<'_>, logins: &[i64], users: &[i64], since: i64) -> Result<Page, Error> {
    let mut page = Page::default();
    let (list, values) = tx.dialect().in_list(logins.iter().copied(), 1);
    for row in tx.fetch(&format!("SELECT id, state FROM session WHERE id IN {list}"), &values).await? {
        page.states.insert(LoginKey(row.get(0)?), row.get(1)?);
    }
    let (list, values) = tx.dialect().in_list(users.iter().copied(), 1);
    for row in tx.fetch(&format!("SELECT id, pos FROM account WHERE id IN {list}"), &values).await? {
        page.positions.insert(UserKey(row.get(0)?), row.get(1)?);
    }
    let (list, mut values) = tx.dialect().in_list(users.iter().copied(), 2);
    values.insert(0, since.into());
    let sql = format!(
        "SELECT m.account, c.id, c.type, CASE WHEN c.type = 0 THEN p.name ELSE c.name END, m.from_seq, m.from_rev, m.to_seq, \
         m.to_rev, c.ended_rev, m.entered_seq FROM member m JOIN conversation c ON c.id = m.conversation LEFT JOIN account p ON p.id = m.peer \
         WHERE m.account IN {list} AND c.touched >= $1"
    );
    for row in tx.fetch(&sql, &values).await? {
        let Some(id) = row.get::<Option<String>>(3)? else { continue };
        let to = row.get::<Option<i64>>(6)?.zip(row.get::<Option<i64>>(7)?);
        // If it is over, the one before it does not matter.
        let [from_seq, from_rev, entered_seq] = [row.get(4)?, row.get(5)?, row.get(9)?];
        let stay = GroupStay { from_seq, entered_seq, from_rev, to, is_return: false };
        page.moved.push(Moved {
            user: UserKey(row.get(0)?),
            key: ConversationKey(row.get(1)?),
            conversation: ConversationRef { r#type: row.get(2)?, id },
            stay: (stay, Knows::Read(row.get(8)?)),
        });
    }
    Ok(page)
}

type Restrictions = (i64, i64, i64);

/// Returns what the operator has decided about those of these users about whom there is a decision.
async fn restricted(tx: &mut Tx<'_>, users: Vec<i64>) -> Result<HashMap<UserKey, Restrictions>, Error> {
    let (list, values) = tx.dialect().in_list(users, 1);
    let sql = format!(
        "SELECT id, banned_at, ban_ends_at, tokens_revoked_at FROM account WHERE id IN {list} \
         AND (banned_at > 0 OR tokens_revoked_at > 0)"
    );
    let rows = tx.fetch(&sql, &values).await?;
    rows.iter().map(|row| Ok((UserKey(row.get(0)?), (row.get(1)?, row.get(2)?, row.get(3)?)))).collect()
}
