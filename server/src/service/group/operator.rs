//! What the operator asks and does about groups. They are no member of them, and no user: 0 stands for them.

use std::collections::HashMap;

use zim_protocol::{
    ConversationRef, ConversationType, GroupDetails, GroupMemberKickedResult, GroupRow, KickServerGroupMembersRequest,
    ListGroupMembersRequest, ListGroupMembersResult, ListGroupsRequest, ListGroupsResult,
};

use super::membership::Group;
use super::store::{self, Which};
use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::{Scope, Tx, params};
use crate::error::Error;
use crate::journal::LogWriter;
use crate::key::{AppKey, UserKey};
use crate::service::rows::{operators_count, operators_place};
use crate::tenant::Tenant;

/// The operator as the user who does something.
pub(super) const OPERATOR: UserKey = UserKey(0);

/// A page of groups; the parameters are the app, where the page begins, and the number of rows. The page is taken before anything is
/// joined to it, or PostgreSQL would read and sort all groups. The second condition on the role is that of the index.
const GROUPS: &str = "SELECT c.id, c.name, g.group_name, g.members, g.created_at, \
     (SELECT a.name FROM account a WHERE a.id = (SELECT o.account FROM group_member o \
      WHERE o.conversation = c.id AND o.role = 1 AND o.role <= 2 LIMIT 1)) \
     FROM (SELECT id, name FROM conversation WHERE app = $1 AND type = 2 AND end_seq IS NULL AND id < $2 \
           ORDER BY id DESC LIMIT $3) c \
     JOIN chat_group g ON g.conversation = c.id ORDER BY c.id DESC";

impl App {
    /// Returns a page of the groups of an app.
    ///
    /// # Errors
    /// `after` is not that of a page, or the store fails.
    pub(crate) async fn groups_of(
        &self,
        tenant: &Tenant,
        request: ListGroupsRequest,
    ) -> Result<ListGroupsResult, Error> {
        let (app, before) = (tenant.key, operators_place(&request.after, i64::MAX)?);
        let count = operators_count(request.count);
        self.db.read(async move |tx| groups(tx, app, (before, count)).await).await
    }

    /// Returns what a group is.
    ///
    /// # Errors
    /// There is no such group, or the store fails.
    pub(crate) async fn group_details(&self, tenant: &Tenant, group_id: &str) -> Result<GroupDetails, Error> {
        let group = self.group_to_operate(tenant, group_id).await?;
        let details = self.db.read(async move |tx| {
            let members = group.head(tx).await?.members.try_into().unwrap_or_default();
            let owner = store::owner(tx, group.conversation.key).await?;
            let owner_user_id = owner.map(|(_, user_id)| user_id).unwrap_or_default();
            Ok(GroupDetails { group_info: Some(group.info(tx).await?), owner_user_id, members })
        });
        details.await
    }

    /// Returns a page of the members of a group.
    ///
    /// # Errors
    /// There is no such group, `after` is not that of a page, or the store fails.
    pub(crate) async fn members_of_group(
        &self,
        tenant: &Tenant,
        request: ListGroupMembersRequest,
    ) -> Result<ListGroupMembersResult, Error> {
        let page = (operators_place(&request.after, 0)?, operators_count(request.count));
        let group = self.group_to_operate(tenant, &request.group_id).await?;
        let found = self.db.read(async move |tx| {
            group.head(tx).await?;
            store::members(tx, group.conversation.key, Which::All, page, group.now).await
        });
        let (members, next) = found.await?;
        Ok(ListGroupMembersResult { members, next: if next == 0 { String::new() } else { next.to_string() } })
    }

    /// Dismisses a group.
    ///
    /// # Errors
    /// There is no such group, or the store fails.
    pub(crate) async fn dismiss_as_server(
        &self,
        operator: &Caller,
        tenant: &Tenant,
        group_id: &str,
    ) -> Result<(), Error> {
        let job = async |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| {
            group.head(tx).await?;
            group.end(tx, log).await
        };
        self.operate(operator, tenant, group_id, job).await
    }

    /// Removes members from a group. Returns who is removed, and who could not be.
    ///
    /// # Errors
    /// There is no such group, nobody could be removed, or the store fails.
    pub(crate) async fn kick_as_server(
        &self,
        operator: &Caller,
        tenant: &Tenant,
        request: KickServerGroupMembersRequest,
    ) -> Result<GroupMemberKickedResult, Error> {
        let KickServerGroupMembersRequest { group_id, user_ids, .. } = request;
        let mut named = self.resolve_users_of(tenant.key, user_ids, Error::user_not_found).await?;
        let users = named.found.clone();
        let job = async move |tx: &mut Tx<'_>, log: &mut LogWriter, group: Group| group.expel(tx, log, users).await;
        let refused = self.operate(operator, tenant, &group_id, job).await?;
        let mut refused: HashMap<UserKey, Error> = refused.into_iter().collect();
        named.leave_out(|user, _| refused.remove(&user));
        let kicked_user_ids = named.found.iter().map(|(_, user_id)| user_id.clone()).collect();
        Ok(GroupMemberKickedResult { group_id, kicked_user_ids, error_user_list: named.finish()? })
    }

    async fn group_to_operate(&self, tenant: &Tenant, group_id: &str) -> Result<Group, Error> {
        let key = self.group_key(tenant.key, group_id).await?.ok_or_else(|| Error::group_not_found(group_id))?;
        self.group_for((tenant.key, key, group_id), OPERATOR)
    }

    /// Runs a job on a group.
    async fn operate<T: Send + 'static>(
        &self,
        operator: &Caller,
        tenant: &Tenant,
        group_id: &str,
        job: impl AsyncFnOnce(&mut Tx<'_>, &mut LogWriter, Group) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let group = self.group_to_operate(tenant, group_id).await?;
        let name = ConversationRef { r#type: ConversationType::Group as i32, id: group_id.to_owned() };
        let target = WriteTo::conversation(Scope::conversation(group.conversation.key), name);
        operator.write(&self.db, target, async move |tx, log| job(tx, log, group).await).await
    }
}

async fn groups(tx: &mut Tx<'_>, app: AppKey, (before, count): (i64, usize)) -> Result<ListGroupsResult, Error> {
    let limit = i64::try_from(count).map_err(Error::internal)? + 1;
    let rows = tx.fetch(GROUPS, &params![app, before, limit]).await?;
    let mut result = ListGroupsResult::default();
    for row in rows.iter().take(count) {
        result.next = row.get::<i64>(0)?.to_string();
        result.groups.push(GroupRow {
            group_id: row.get(1)?,
            group_name: row.get(2)?,
            members: row.get(3)?,
            created_at: row.get(4)?,
            owner_user_id: row.get::<Option<String>>(5)?.unwrap_or_default(),
        });
    }
    if rows.len() <= count {
        result.next.clear();
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Database;
    use crate::journal::tests::Fixture;

    /// A page costs the same, however many conversations and dismissed groups there are, and however large the groups are.
    #[tokio::test]
    async fn a_page_of_groups_is_read_from_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::open(Database::Sqlite(dir.path().join("test.db"))).await;
        let plan = fixture.plan(GROUPS, params![7, 1_000, 10].to_vec()).await;
        assert!(plan.contains("SEARCH conversation USING INDEX conversation_group (app=? AND id<?)"), "{plan}");
        assert!(plan.contains("SEARCH g USING INTEGER PRIMARY KEY"), "{plan}");
        assert!(plan.contains("SEARCH o USING INDEX group_member_rank (conversation=? AND role=?)"), "{plan}");
        fixture.db.close().await;
    }
}
