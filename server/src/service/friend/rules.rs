//! The rules of friends and friend applications, without a store.

use std::collections::BTreeMap;

use zim_protocol::{FriendApplicationType as Kind, FriendRelationCheckType, UserRelationType};

use crate::error::Error;
use crate::service::application::{Life, State, Term};

/// The most UTF-8 bytes of a friend's attributes, keys and values together.
const MAX_ATTRIBUTE_BYTES: usize = 1_024;

/// The attributes of a friend.
pub(super) type Attributes = BTreeMap<String, String>;

/// A user's own notes about a friend: no other user sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remarks {
    pub(super) alias: String,
    pub(super) attributes: Attributes,
}

impl Remarks {
    /// Builds remarks from a request. Attributes with an empty value are not set.
    pub(super) fn new(alias: String, attributes: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { alias, attributes: attributes.into_iter().filter(|(_, value)| !value.is_empty()).collect() }
    }

    /// Replaces missing parts by those of `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            alias: if self.alias.is_empty() { other.alias } else { self.alias },
            attributes: if self.attributes.is_empty() { other.attributes } else { self.attributes },
        }
    }
}

/// Returns the attributes after `changes`: attributes that are not named stay, and an empty value removes one.
pub(super) fn merged(
    mut attributes: Attributes,
    changes: impl IntoIterator<Item = (String, String)>,
) -> Result<Attributes, Error> {
    for (key, value) in changes {
        if value.is_empty() {
            attributes.remove(&key);
        } else {
            attributes.insert(key, value);
        }
    }
    let bytes: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_ATTRIBUTE_BYTES {
        return Err(Error::friend_attributes_too_long(bytes, MAX_ATTRIBUTE_BYTES));
    }
    Ok(attributes)
}

/// Returns the result of a check: which of the two lists has the other user.
pub(super) fn relation(check: FriendRelationCheckType, on_mine: bool, on_theirs: bool) -> UserRelationType {
    match (check, on_mine, on_theirs) {
        (FriendRelationCheckType::Single, false, _) => UserRelationType::SingleNo,
        (FriendRelationCheckType::Single, true, _) => UserRelationType::SingleHave,
        (FriendRelationCheckType::Both, false, false) => UserRelationType::BothAllNo,
        (FriendRelationCheckType::Both, true, false) => UserRelationType::BothSelfHave,
        (FriendRelationCheckType::Both, false, true) => UserRelationType::BothOtherHave,
        (FriendRelationCheckType::Both, true, true) => UserRelationType::BothAllHave,
    }
}

/// The application between two users, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Application {
    pub(super) kind: Kind,
    pub(super) life: Life,
    pub(super) wording: String,
    /// The owner's remarks about the other user, in case they become friends.
    pub(super) remarks: Remarks,
}

/// Returns the two rows of a new application: that of the applicant and that of the other user. An application that is
/// still waiting is continued; if both have applied, both rows say so.
pub(super) fn new_application(
    own: Option<Application>,
    theirs: Option<Application>,
    (wording, remarks): (String, Remarks),
    term: Term,
) -> (Application, Application) {
    let life = Life::repeat(own.as_ref().map(|own| own.life), term);
    let is_mutual = own.is_some_and(|own| own.life.is_waiting(term.now) && own.kind != Kind::Sent);
    let (kind, their_kind) = if is_mutual { (Kind::Both, Kind::Both) } else { (Kind::Sent, Kind::Received) };
    let their_remarks = theirs.filter(|_| is_mutual).map(|theirs| theirs.remarks).unwrap_or_default();
    let row = |kind, remarks| Application { kind, life, wording: wording.clone(), remarks };
    (row(kind, remarks), row(their_kind, their_remarks))
}

/// Returns the application if its owner may answer it now.
pub(super) fn answerable(own: Option<Application>, now: i64) -> Result<Application, Error> {
    let own = own.filter(|own| own.kind != Kind::Sent).ok_or_else(Error::no_application_waits)?;
    match own.life.state_at(now) {
        State::Waiting => Ok(own),
        State::Expired => Err(Error::application_expired()),
        _ => Err(Error::no_application_waits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn remarks(alias: &str) -> Remarks {
        Remarks::new(alias.to_owned(), [])
    }

    fn waiting(kind: Kind, expires_at: i64) -> Application {
        let life = Life { state: State::Waiting, created_at: 1, updated_at: 2, expires_at };
        Application { kind, life, wording: "before".to_owned(), remarks: remarks("before") }
    }

    /// The same in another state.
    fn ended(row: Application, state: State) -> Application {
        Application { life: Life { state, ..row.life }, ..row }
    }

    fn apply(own: Option<Application>, theirs: Option<Application>) -> (Application, Application) {
        new_application(own, theirs, ("hi".to_owned(), remarks("bob")), Term { now: NOW, expires_at: 2_000 })
    }

    #[test]
    fn a_first_application_is_sent_and_received() {
        let (own, theirs) = apply(None, None);
        assert_eq!((own.kind, theirs.kind), (Kind::Sent, Kind::Received));
        assert_eq!((own.remarks.alias.as_str(), theirs.remarks.alias.as_str()), ("bob", ""));
        assert_eq!((own.life.created_at, own.life.updated_at, own.life.expires_at), (NOW, NOW, 2_000));
    }

    #[test]
    fn a_repeated_application_keeps_its_creation_time() {
        let (own, theirs) = apply(Some(waiting(Kind::Sent, 1_500)), Some(waiting(Kind::Received, 1_500)));
        assert_eq!((own.kind, theirs.kind), (Kind::Sent, Kind::Received));
        assert_eq!((own.life.created_at, own.life.updated_at, own.wording.as_str()), (1, NOW, "hi"));
        assert_eq!(theirs.remarks, Remarks::default());
    }

    #[test]
    fn applications_in_both_directions_become_mutual() {
        let (own, theirs) = apply(Some(waiting(Kind::Received, 1_500)), Some(waiting(Kind::Sent, 1_500)));
        assert_eq!((own.kind, theirs.kind), (Kind::Both, Kind::Both));
        assert_eq!((own.remarks.alias.as_str(), theirs.remarks.alias.as_str()), ("bob", "before"));
        let (again, _) = apply(Some(own), Some(theirs));
        assert_eq!(again.kind, Kind::Both);
    }

    #[test]
    fn an_expired_or_answered_application_begins_anew() {
        let rejected = ended(waiting(Kind::Received, 1_500), State::Rejected);
        for before in [waiting(Kind::Received, NOW), rejected] {
            let (own, theirs) = apply(Some(before.clone()), Some(before));
            assert_eq!((own.kind, theirs.kind, own.life.created_at), (Kind::Sent, Kind::Received, NOW));
        }
    }

    #[test]
    fn only_a_waiting_received_application_can_be_answered() {
        let refusal = |row| answerable(row, NOW).unwrap_err().code();
        use zim_protocol::ErrorCode::{FriendModuleFriendApplicationExpired, FriendModuleFriendApplicationStatusError};
        assert_eq!(refusal(None), FriendModuleFriendApplicationStatusError);
        assert_eq!(refusal(Some(waiting(Kind::Sent, 1_001))), FriendModuleFriendApplicationStatusError);
        let accepted = ended(waiting(Kind::Received, 1_001), State::Accepted);
        assert_eq!(refusal(Some(accepted)), FriendModuleFriendApplicationStatusError);
        assert_eq!(refusal(Some(waiting(Kind::Received, NOW))), FriendModuleFriendApplicationExpired);
        for kind in [Kind::Received, Kind::Both] {
            assert!(answerable(Some(waiting(kind, NOW + 1)), NOW).is_ok());
        }
    }

    #[test]
    fn attributes_are_merged_and_bounded() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let before = Attributes::from([pair("k0", "a"), pair("k1", "b")]);
        let after = merged(before, [pair("k1", ""), pair("k2", "c")]).unwrap();
        assert_eq!(after, Attributes::from([pair("k0", "a"), pair("k2", "c")]));
        let most = "x".repeat(MAX_ATTRIBUTE_BYTES - 4 - 1);
        assert!(merged(Attributes::from([pair("k0", "a")]), [pair("k1", &most)]).is_ok());
        assert!(merged(Attributes::from([pair("k0", "ab")]), [pair("k1", &most)]).is_err());
    }
}
