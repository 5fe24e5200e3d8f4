//! Groups.

use std::ops::Deref;

use zim_protocol::{GroupFullInfo, GroupMemberInfo, GroupMemberKickedResult, GroupMemberQueryConfig};

use super::{Chat, Items, present};
use crate::error::Error;

/// The size of the pages of members.
const PAGE: i64 = 100;

/// A group: a [`Chat`], whose methods it has too, with members.
///
/// ```no_run
/// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
/// let crew = zim.group("crew");
/// crew.join().await?;
/// crew.send("hi all").await?;
/// let mut members = crew.members();
/// while let Some(member) = members.next().await {
///     println!("{}", member?.user_id);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Group(Chat);

impl Deref for Group {
    type Target = Chat;

    fn deref(&self) -> &Chat {
        &self.0
    }
}

impl Group {
    pub(super) fn new(chat: Chat) -> Self {
        Self(chat)
    }

    /// Joins the group and returns what it is. For a member this changes nothing.
    ///
    /// # Errors
    /// See [`Zim::join_group`](crate::Zim::join_group).
    pub async fn join(&self) -> Result<GroupFullInfo, Error> {
        present(self.zim().join_group(self.id()).await?.group_info, "group")
    }

    /// Leaves the group. Its messages stay readable.
    ///
    /// # Errors
    /// See [`Zim::leave_group`](crate::Zim::leave_group).
    pub async fn leave(&self) -> Result<(), Error> {
        self.zim().leave_group(self.id()).await.map(drop)
    }

    /// Dismisses the group, for its owner. Its messages stay readable.
    ///
    /// # Errors
    /// See [`Zim::dismiss_group`](crate::Zim::dismiss_group).
    pub async fn dismiss(&self) -> Result<(), Error> {
        self.zim().dismiss_group(self.id()).await.map(drop)
    }

    /// Removes up to 100 members. The result lists those who were removed, and those who could not be.
    ///
    /// # Errors
    /// See [`Zim::kick_group_members`](crate::Zim::kick_group_members).
    pub async fn kick<I>(&self, user_ids: I) -> Result<GroupMemberKickedResult, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.zim().kick_group_members(user_ids, self.id()).await
    }

    /// Returns what the group is. Who is no member may ask, too.
    ///
    /// # Errors
    /// See [`Zim::query_group_info`](crate::Zim::query_group_info).
    pub async fn info(&self) -> Result<GroupFullInfo, Error> {
        present(self.zim().query_group_info(self.id()).await?.group_info, "group")
    }

    /// Returns a stream of the members, in the order in which they entered.
    ///
    /// # Errors
    /// Its items fail as [`Zim::query_group_member_list`](crate::Zim::query_group_member_list) does.
    pub fn members(&self) -> Items<GroupMemberInfo> {
        let group = self.clone();
        Items::of_pages(0, move |next_flag| {
            let config = GroupMemberQueryConfig { next_flag, count: PAGE };
            let page = group.zim().query_group_member_list(group.id(), config);
            async move {
                let page = page.await?;
                Ok((page.user_list, Some(page.next_flag).filter(|next| *next != 0)))
            }
        })
    }
}
