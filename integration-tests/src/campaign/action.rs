//! What devices do in a run.

use serde::{Deserialize, Serialize};

/// An action of a device. A new noun starts here: add the action to `Action`, its execution to `bin/test-client.rs`,
/// its frequency to `plan.rs` or to a plan of its own, as `live_plan.rs`, and its checks to `checks.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends a text to a user or to the group.
    Send {
        /// The receiver.
        peer: &'static str,
        /// Whether the message cannot be stored.
        is_poison: bool,
    },
    /// Clears the unread count of a conversation.
    Clear {
        /// The user or the group.
        peer: &'static str,
    },
    /// Changes the user's name.
    Rename,
    /// Changes the user's avatar.
    Avatar,
    /// Changes the user's custom status.
    CustomStatus,
    /// Changes the relation to another user.
    Social {
        /// The other user.
        peer: &'static str,
        /// The change.
        action: SocialAction,
    },
    /// Does something to one of the last messages of a conversation.
    Change {
        /// The user or the group.
        peer: &'static str,
        /// What happens to the message.
        verb: MessageVerb,
        /// Chooses the message.
        pick: u64,
    },
    /// Sets something of a conversation.
    Setting {
        /// The user or the group.
        peer: &'static str,
        /// The setting.
        verb: SettingVerb,
    },
    /// Changes the group.
    Group {
        /// The member, or whoever is to become one.
        user: &'static str,
        /// The change.
        verb: GroupVerb,
    },
    /// Does something to the second group.
    Club {
        /// The user whom it concerns.
        user: &'static str,
        /// What it is.
        verb: ClubVerb,
    },
    /// Does something in a room.
    Room {
        /// The room.
        room: &'static str,
        /// The member whom it concerns.
        user: &'static str,
        /// What it is.
        verb: RoomVerb,
    },
    /// Does something about a call.
    Call {
        /// The users whom it concerns.
        users: Vec<&'static str>,
        /// What it is.
        verb: CallVerb,
        /// Chooses among the calls that the device has heard of last.
        pick: u64,
    },
}

/// A change of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum GroupVerb {
    Join,
    Leave,
    Kick,
    Invite,
    Transfer,
    /// Makes a member an administrator.
    Promote,
    Demote,
    Rename,
    Nickname,
}

impl GroupVerb {
    /// The weights of the verbs, by repetition: those who left come back soon.
    pub(super) const ALL: [Self; 16] = [
        Self::Join,
        Self::Join,
        Self::Join,
        Self::Join,
        Self::Leave,
        Self::Kick,
        Self::Kick,
        Self::Invite,
        Self::Invite,
        Self::Invite,
        Self::Transfer,
        Self::Promote,
        Self::Demote,
        Self::Rename,
        Self::Rename,
        Self::Nickname,
    ];
}

/// What happens to the second group, which is muted, changes who enters it, and may end: the first one is spared that, so that much is
/// said in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum ClubVerb {
    Join,
    Leave,
    Kick,
    /// Makes a member an administrator.
    Promote,
    /// Mutes everybody, for good or for a second.
    MuteAll {
        lasts: bool,
    },
    /// Mutes those who are only members.
    MuteMembers,
    /// Mutes members and administrators by their roles.
    MuteRoles,
    /// Ends any of these.
    Unmute,
    /// Mutes a member, for good or for a second.
    MuteUser {
        lasts: bool,
    },
    UnmuteUser,
    /// Sets who joins, a `GroupJoinMode`.
    JoinMode(u8),
    /// Sets whether administrators alone invite.
    InviteMode {
        is_restricted: bool,
    },
    /// Sets whether those who are invited must agree.
    BeInviteMode {
        is_asked: bool,
    },
    /// Applies to join.
    Apply,
    AcceptApplicant,
    RejectApplicant,
    /// Asks a user to enter.
    Ask,
    AcceptInvitation,
    RejectInvitation,
    Dismiss,
}

impl ClubVerb {
    /// Whether it begins or ends a mute of the group.
    pub(super) const fn mutes_group(self) -> bool {
        matches!(self, Self::MuteAll { .. } | Self::MuteMembers | Self::MuteRoles | Self::Unmute)
    }

    /// Whether it begins or ends a mute of one member.
    pub(super) const fn mutes_user(self) -> bool {
        matches!(self, Self::MuteUser { .. } | Self::UnmuteUser)
    }
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum MessageVerb {
    Revoke,
    Edit,
    React,
    /// Takes a reaction back.
    TakeBack,
    Pin,
    Unpin,
    Reply,
    Receipt,
    /// Deletes it for the user.
    Delete,
    /// Deletes several for the user.
    DeleteSome,
    /// Deletes all messages of the conversation for the user.
    DeleteAll,
    /// Deletes the conversation from the user's list.
    DeleteConversation,
    /// Sends a receipt for everything in the conversation.
    ReceiptAll,
    /// Sends a message that combines some.
    Combine,
    /// Adds a message on this device only.
    Insert,
    /// Sets data of a message that only this device has.
    LocalData,
    /// Deletes it on this device only.
    DeleteHere,
    /// Deletes all messages of the conversation on this device only.
    DeleteAllHere,
    /// Deletes all messages of all conversations for the user.
    DeleteEverything,
    /// Deletes all messages of all conversations on this device only.
    DeleteEverythingHere,
    /// Takes all reactions back.
    TakeBackAll,
    /// Reacts by more than one, also again.
    ReactMore,
    /// Sends a message that does not count as unread.
    Uncounted,
}

impl MessageVerb {
    /// The weights of the verbs, by repetition: most messages stay.
    pub(super) const ALL: [Self; 14] = [
        Self::Revoke,
        Self::Edit,
        Self::Edit,
        Self::React,
        Self::React,
        Self::React,
        Self::TakeBack,
        Self::Pin,
        Self::Pin,
        Self::Unpin,
        Self::Reply,
        Self::Receipt,
        Self::Receipt,
        Self::Delete,
    ];

    /// Those of `message_plan.rs`. What a user has deleted says little about what is lost, so few delete everything.
    pub(super) const MORE: [Self; 27] = [
        Self::DeleteSome,
        Self::DeleteSome,
        Self::DeleteAll,
        Self::DeleteConversation,
        Self::DeleteConversation,
        Self::ReceiptAll,
        Self::ReceiptAll,
        Self::ReceiptAll,
        Self::Combine,
        Self::Combine,
        Self::Combine,
        Self::Combine,
        Self::Insert,
        Self::Insert,
        Self::LocalData,
        Self::LocalData,
        Self::DeleteHere,
        Self::DeleteHere,
        Self::DeleteAllHere,
        Self::DeleteEverything,
        Self::DeleteEverythingHere,
        Self::TakeBackAll,
        Self::TakeBackAll,
        Self::ReactMore,
        Self::ReactMore,
        Self::Uncounted,
        Self::Uncounted,
    ];

    /// Whether it deletes on one device only.
    pub(super) const fn is_here(self) -> bool {
        matches!(self, Self::DeleteHere | Self::DeleteAllHere | Self::DeleteEverythingHere)
    }

    /// Whether it concerns all conversations of the user.
    pub(super) const fn is_everywhere(self) -> bool {
        matches!(self, Self::DeleteEverything | Self::DeleteEverythingHere)
    }

    /// Whether it deletes all messages of a conversation for the user.
    pub(super) const fn deletes_all(self) -> bool {
        matches!(self, Self::DeleteAll | Self::DeleteEverything)
    }
}

/// A setting of a conversation, on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingVerb {
    /// It is pinned.
    Pin(bool),
    /// It has a mark.
    Mark(bool),
    /// It is set to do-not-disturb.
    Quiet(bool),
}

/// A change of the relation to another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum SocialAction {
    AddFriend,
    Apply,
    Accept,
    Reject,
    /// Deletes from both lists, or from the own list only.
    DeleteFriend {
        is_mutual: bool,
    },
    /// Changes a friend's alias.
    Alias,
    Block,
    Unblock,
    /// Subscribes to the other user's status.
    Subscribe,
    Unsubscribe,
}

impl SocialAction {
    /// The weights of the actions, by repetition: few users stay blocked for long.
    pub(super) const ALL: [Self; 18] = [
        Self::AddFriend,
        Self::Apply,
        Self::Apply,
        Self::Apply,
        Self::Accept,
        Self::Accept,
        Self::Reject,
        Self::DeleteFriend { is_mutual: true },
        Self::DeleteFriend { is_mutual: false },
        Self::Alias,
        Self::Alias,
        Self::Block,
        Self::Unblock,
        Self::Unblock,
        Self::Subscribe,
        Self::Subscribe,
        Self::Subscribe,
        Self::Unsubscribe,
    ];
}

/// What a device does in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum RoomVerb {
    /// Enters it; creates it if there is none.
    Enter,
    Join,
    Leave,
    LeaveAll,
    Say(Saying),
    /// Sets an attribute.
    Set {
        key: u8,
        is_forced: bool,
        /// The attribute belongs to the caller from now on.
        takes: bool,
    },
    Remove {
        key: u8,
        is_forced: bool,
    },
    /// Sets an attribute of a member.
    SetOf {
        key: u8,
        /// It is there again when the member returns.
        stays: bool,
    },
    /// Enters it and leaves the other room.
    Switch,
    /// Changes several attributes at once.
    Batch(Batching),
}

/// What a batch does to the attributes of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batching {
    /// Sets all of them to one value.
    SetsAll,
    /// Sets all but the last, which it removes.
    RemovesLast,
    /// Removes all of them.
    RemovesAll,
}

/// The attributes that batches change, and nothing else. The first two are always equal; the last one is equal to them or absent.
pub(super) const BATCH_KEYS: [&str; 3] = ["b0", "b1", "b2"];

/// The attributes of a room with this number or a higher one go with their owner.
pub(super) const GOES_WITH_OWNER: u8 = 3;
/// The number of attributes of a room.
pub(super) const ROOM_KEYS: u8 = 4;

/// A kind of message to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Saying {
    Text,
    /// A text of high priority.
    High,
    /// A text of low priority.
    Low,
    Command,
    Barrage,
}

impl Saying {
    /// Whether a room that keeps its history keeps it.
    pub(super) const fn is_kept(self) -> bool {
        matches!(self, Self::Text | Self::High | Self::Low)
    }
}

/// What a device does about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum CallVerb {
    Invite {
        is_advanced: bool,
        timeout_s: i64,
        /// Whether the others are told of an invitation that is not received.
        is_checked: bool,
    },
    Accept,
    Reject,
    /// Cancels it as a whole.
    Cancel,
    /// Takes back some invitations.
    TakeBack,
    /// Invites more users.
    Add,
    Join,
    Quit,
    End,
}
