//! What the server has of a user, in parts. Each part is a page of one of the lists that the user could ask for, so the export has
//! what the user may see and nothing else, and no more than a page is in memory.

use zim_protocol::server::{
    BlacklistService, CallService, FriendService, GroupApplicationService, GroupService, MessageService, UserService,
};
use zim_protocol::{
    BlacklistQueryConfig, CallInvitationQueryConfig, ConversationNotificationStatus, ConversationType,
    ExportUserRequest, ExportUserResult, ExportedConversation, ExportedFile, FriendApplicationListQueryConfig,
    FriendListQueryConfig, GroupApplicationListQueryConfig, GroupListQueryConfig, Message, MessageQueryConfig,
    QueryBlacklistRequest, QueryCallInvitationListRequest, QueryFriendApplicationListRequest, QueryFriendListRequest,
    QueryGroupApplicationListRequest, QueryGroupListRequest, QueryHistoryMessageRequest, QuerySelfUserInfoRequest,
};

use super::media::{File, LOG, files_of};
use crate::app::App;
use crate::connection::Caller;
use crate::db::{Tx, params};
use crate::error::Error;
use crate::key::UserKey;
use crate::tenant::Tenant;

/// The rows of a part.
const PAGE: i64 = 100;

/// Where a part begins: the list, and the place in it that the part before ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Profile,
    Friends(i64),
    FriendApplications(i64),
    Blacklist(i64),
    Groups(i64),
    GroupApplications(i64),
    Calls(i64),
    /// The first conversation after this one.
    Conversation(i64),
    /// The messages of this conversation after this position.
    Messages(i64, i64),
    Files(i64),
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::Profile);
        }
        let mut pieces = text.split('/');
        let name = pieces.next()?;
        let place = pieces.next()?.parse().ok()?;
        let part = match name {
            "friends" => Self::Friends(place),
            "friend-applications" => Self::FriendApplications(place),
            "blacklist" => Self::Blacklist(place),
            "groups" => Self::Groups(place),
            "group-applications" => Self::GroupApplications(place),
            "calls" => Self::Calls(place),
            "conversation" => Self::Conversation(place),
            "messages" => Self::Messages(place, pieces.next()?.parse().ok()?),
            "files" => Self::Files(place),
            _ => return None,
        };
        pieces.next().is_none().then_some(part)
    }

    fn text(self) -> String {
        match self {
            Self::Profile => String::new(),
            Self::Friends(place) => format!("friends/{place}"),
            Self::FriendApplications(place) => format!("friend-applications/{place}"),
            Self::Blacklist(place) => format!("blacklist/{place}"),
            Self::Groups(place) => format!("groups/{place}"),
            Self::GroupApplications(place) => format!("group-applications/{place}"),
            Self::Calls(place) => format!("calls/{place}"),
            Self::Conversation(place) => format!("conversation/{place}"),
            Self::Messages(conversation, place) => format!("messages/{conversation}/{place}"),
            Self::Files(place) => format!("files/{place}"),
        }
    }
}

/// Returns the part after a page: the next page of the list, or the next list.
fn following(list: fn(i64) -> Part, next_flag: i64, next: Part) -> Option<Part> {
    Some(if next_flag == 0 { next } else { list(next_flag) })
}

impl App {
    /// Returns a part of what the server has of a user.
    ///
    /// # Errors
    /// There is no such user, `after` is not that of a part, or the store fails.
    pub(super) async fn export_part(
        &self,
        operator: &Caller,
        tenant: &Tenant,
        request: ExportUserRequest,
    ) -> Result<ExportUserResult, Error> {
        let wrong = || Error::params_invalid("after must be `next` of the part before");
        let part = Part::parse(&request.after).ok_or_else(wrong)?;
        let caller = self.standing_for(operator, tenant, &request.user_id).await?;
        let user = caller.identity()?.user;
        if part == Part::Profile {
            self.note_call().await?;
        }
        let mut result = ExportUserResult::default();
        let next = match part {
            Part::Profile => {
                result.access = Some(self.user_access(tenant, &request.user_id).await?);
                let own = self.query_self_user_info(&caller, QuerySelfUserInfoRequest {}).await?;
                result.self_user_info = own.self_user_info;
                result.push_registrations = self.push_registrations(tenant, user).await?;
                Some(Part::Friends(0))
            }
            Part::Friends(next_flag) => {
                let config = Some(FriendListQueryConfig { next_flag, count: PAGE });
                let page = self.query_friend_list(&caller, QueryFriendListRequest { config }).await?;
                result.friends = page.friend_list;
                following(Part::Friends, page.next_flag, Part::FriendApplications(0))
            }
            Part::FriendApplications(next_flag) => {
                let config = Some(FriendApplicationListQueryConfig { next_flag, count: PAGE });
                let request = QueryFriendApplicationListRequest { config };
                let page = self.query_friend_application_list(&caller, request).await?;
                result.friend_applications = page.application_list;
                following(Part::FriendApplications, page.next_flag, Part::Blacklist(0))
            }
            Part::Blacklist(next_flag) => {
                let config = Some(BlacklistQueryConfig { next_flag, count: PAGE });
                let page = self.query_blacklist(&caller, QueryBlacklistRequest { config }).await?;
                result.blacklist = page.blacklist;
                following(Part::Blacklist, page.next_flag, Part::Groups(0))
            }
            Part::Groups(next_flag) => {
                let config = Some(GroupListQueryConfig { next_flag, ..GroupListQueryConfig::default() });
                let page = self.query_group_list(&caller, QueryGroupListRequest { count: PAGE, config }).await?;
                result.groups = page.group_list;
                following(Part::Groups, page.next_flag, Part::GroupApplications(0))
            }
            Part::GroupApplications(next_flag) => {
                let config = Some(GroupApplicationListQueryConfig { next_flag, count: PAGE });
                let request = QueryGroupApplicationListRequest { config };
                let page = self.query_group_application_list(&caller, request).await?;
                result.group_applications = page.application_list;
                following(Part::GroupApplications, page.next_flag, Part::Calls(0))
            }
            Part::Calls(next_flag) => {
                let config = Some(CallInvitationQueryConfig { count: PAGE, next_flag });
                let page = self.query_call_invitation_list(&caller, QueryCallInvitationListRequest { config }).await?;
                result.calls = page.call_list;
                following(Part::Calls, page.next_flag, Part::Conversation(0))
            }
            Part::Conversation(after) => {
                let found = self.db.read(async move |tx| conversation(tx, user, after, false).await).await?;
                match found {
                    Some((key, conversation)) => {
                        result.conversation = Some(conversation);
                        Some(Part::Messages(key, 0))
                    }
                    None => Some(Part::Files(0)),
                }
            }
            Part::Messages(key, after) => {
                result.messages = self.messages_after(&caller, (key, after)).await?;
                Some(match result.messages.last() {
                    Some(last) => Part::Messages(key, last.message_seq),
                    None => Part::Conversation(key),
                })
            }
            Part::Files(after) => {
                let files = self.db.read(async move |tx| files_of(tx, user, after, PAGE).await).await?;
                let next = files.last().map(|file| Part::Files(file.id));
                result.files = files.into_iter().map(exported).collect();
                next
            }
        };
        result.next = next.map_or_else(String::new, Part::text);
        Ok(result)
    }

    /// Returns messages of a conversation after a position, as a user sees them.
    async fn messages_after(&self, caller: &Caller, (key, after): (i64, i64)) -> Result<Vec<Message>, Error> {
        let user = caller.identity()?.user;
        let found = self.db.read(async move |tx| conversation(tx, user, key, true).await).await?;
        let Some((_, conversation)) = found else { return Ok(Vec::new()) };
        let next_message = Message { message_seq: after, ..Message::default() };
        let config =
            MessageQueryConfig { next_message: Some(next_message), count: PAGE, ..MessageQueryConfig::default() };
        let request = QueryHistoryMessageRequest {
            conversation_id: conversation.conversation_id,
            conversation_type: conversation.conversation_type,
            config: Some(config),
        };
        Ok(self.query_history_message(caller, request).await?.message_list)
    }
}

/// Returns a conversation of a user with this key, or the first one after it.
async fn conversation(
    tx: &mut Tx<'_>,
    user: UserKey,
    key: i64,
    is_exact: bool,
) -> Result<Option<(i64, ExportedConversation)>, Error> {
    let which = if is_exact { "=" } else { ">" };
    let sql = format!(
        "SELECT c.id, c.type, c.name, p.name, s.pinned_at, s.notification, s.marks, m.to_seq, c.end_seq \
         FROM member m JOIN conversation c ON c.id = m.conversation LEFT JOIN account p ON p.id = m.peer \
         LEFT JOIN conversation_setting s ON s.account = m.account AND s.conversation = m.conversation \
         WHERE m.account = $1 AND m.conversation {which} $2 ORDER BY m.conversation LIMIT 1"
    );
    let Some(row) = tx.fetch_one(&sql, &params![user, key]).await? else { return Ok(None) };
    let conversation_type: i32 = row.get(1)?;
    let peer: Option<String> = row.get(3)?;
    let conversation_id = match peer {
        Some(peer) if conversation_type == ConversationType::Peer as i32 => peer,
        _ => row.get(2)?,
    };
    let marks: i64 = row.get::<Option<i64>>(6)?.unwrap_or(0);
    let notify = ConversationNotificationStatus::Notify as i32;
    let (to_seq, end_seq): (Option<i64>, Option<i64>) = (row.get(7)?, row.get(8)?);
    let conversation = ExportedConversation {
        conversation_id,
        conversation_type,
        pinned_time: row.get::<Option<i64>>(4)?.unwrap_or(0),
        notification_status: row.get::<Option<i32>>(5)?.unwrap_or(notify),
        marks: (0..i64::from(i64::BITS)).filter(|mark| (marks >> mark) & 1 == 1).collect(),
        has_left: to_seq.is_some() || end_seq.is_some(),
    };
    Ok(Some((row.get(0)?, conversation)))
}

fn exported(file: File) -> ExportedFile {
    let url = if file.kind == LOG { String::new() } else { file.url() };
    ExportedFile {
        url,
        size: file.size,
        uploaded_at: file.created_at,
        file_name: file.name,
        media_type: file.media_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_part_begins_is_read_as_it_is_written() {
        for part in [
            Part::Profile,
            Part::Friends(0),
            Part::FriendApplications(1),
            Part::Blacklist(2),
            Part::Groups(3),
            Part::GroupApplications(4),
            Part::Calls(5),
            Part::Conversation(6),
            Part::Messages(7, i64::MAX),
            Part::Files(8),
        ] {
            assert_eq!(Part::parse(&part.text()), Some(part));
        }
        for wrong in ["friends", "friends/x", "messages/1", "friends/1/2", "coffee/1", "/"] {
            assert_eq!(Part::parse(wrong), None, "{wrong}");
        }
    }
}
