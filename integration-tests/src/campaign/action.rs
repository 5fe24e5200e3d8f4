//! What devices do in a run.

use serde::{Deserialize, Serialize};

/// An action of a device. A new noun starts here: add the action to `Action`, its execution to `bin/test-client.rs`,
/// its frequency to `plan.rs` or `live_plan.rs` and its checks to `checks.rs`.
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
    pub(super) const MORE: [Self; 16] = [
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
    ];
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
}

/// The attributes of a room with this number or a higher one go with their owner.
pub(super) const GOES_WITH_OWNER: u8 = 3;
/// The number of attributes of a room.
pub(super) const ROOM_KEYS: u8 = 4;

/// A kind of message to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Saying {
    Text,
    Command,
    Barrage,
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
