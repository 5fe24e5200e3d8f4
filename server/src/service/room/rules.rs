//! The rules of the attributes of rooms and of their members, without a store.

use std::collections::{BTreeMap, HashMap};

use zim_protocol::{RoomAttributesUpdateAction, RoomAttributesUpdateInfo};

use crate::error::Error;
use crate::key::UserKey;

/// Attributes of one room, as in the reference.
const MAX_ATTRIBUTES: usize = 20;
const MAX_KEY: usize = 16;
const MAX_VALUE: usize = 1_024;
/// Bytes of all keys and values of a room.
const MAX_TOTAL: usize = 5_120;

/// The same of one member.
const MAX_MEMBER_ATTRIBUTES: usize = 30;
const MAX_MEMBER_KEY: usize = 8;
const MAX_MEMBER_VALUE: usize = 64;
const MAX_MEMBER_TOTAL: usize = 144;

/// An attribute of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) value: String,
    pub(super) owner: UserKey,
    /// It is removed when the owner leaves.
    pub(super) goes_with_owner: bool,
}

pub(super) type Attributes = BTreeMap<String, Attribute>;

/// How attributes are changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// Also those of others.
    pub(super) is_force: bool,
    pub(super) goes_with_owner: bool,
    /// The attributes belong to the one who changes them, from now on.
    pub(super) updates_owner: bool,
}

/// What becomes of the attributes of a room.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) after: Attributes,
    /// What the members learn: nothing, what was set, what was removed, or both.
    pub(super) infos: Vec<RoomAttributesUpdateInfo>,
    /// The keys that could not be changed.
    pub(super) error_keys: Vec<String>,
}

/// Sets and removes attributes, in this order, for a member.
///
/// # Errors
/// A key or a value has a wrong length, or there would be too many attributes.
pub(super) fn change(
    before: &Attributes,
    me: UserKey,
    operations: Vec<RoomAttributesUpdateInfo>,
    how: How,
) -> Result<Outcome, Error> {
    let (mut after, mut error_keys) = (before.clone(), Vec::new());
    for operation in operations {
        let is_set = operation.action() == RoomAttributesUpdateAction::Set;
        let mut attributes: Vec<_> = operation.room_attributes.into_iter().collect();
        attributes.sort_unstable();
        for (key, value) in attributes {
            if is_set {
                check_length(&key, &value)?;
            }
            let known = after.get(&key);
            if known.is_some_and(|known| known.owner != me && !how.is_force) || (!is_set && known.is_none()) {
                error_keys.push(key);
                continue;
            }
            if !is_set {
                after.remove(&key);
                continue;
            }
            let owner = known.map(|known| known.owner).filter(|_| !how.updates_owner).unwrap_or(me);
            after.insert(key, Attribute { value, owner, goes_with_owner: how.goes_with_owner });
        }
    }
    check_size(&after)?;
    let infos = difference(before, &after);
    Ok(Outcome { after, infos, error_keys })
}

/// Removes what goes with owners who leave.
pub(super) fn without_owners(mut attributes: Attributes, owners: &[UserKey]) -> Attributes {
    attributes.retain(|_, attribute| !attribute.goes_with_owner || !owners.contains(&attribute.owner));
    attributes
}

fn check_length(key: &str, value: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Error::room_attribute_key(MAX_KEY));
    }
    if value.len() > MAX_VALUE {
        return Err(Error::room_attribute_value(MAX_VALUE));
    }
    check_text(key, value)
}

/// No text of the store has a NUL.
fn check_text(key: &str, value: &str) -> Result<(), Error> {
    if key.contains('\0') || value.contains('\0') {
        return Err(Error::params_invalid("an attribute must not contain U+0000"));
    }
    Ok(())
}

fn check_size(attributes: &Attributes) -> Result<(), Error> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(Error::too_many_room_attributes(MAX_ATTRIBUTES));
    }
    let total: usize = attributes.iter().map(|(key, attribute)| key.len() + attribute.value.len()).sum();
    if total > MAX_TOTAL {
        return Err(Error::room_attributes_total(MAX_TOTAL));
    }
    Ok(())
}

/// Returns what differs: what was set, what was removed, or both.
pub(super) fn difference(before: &Attributes, after: &Attributes) -> Vec<RoomAttributesUpdateInfo> {
    let is_same = |(key, attribute): &(&String, &Attribute)| {
        before.get(*key).is_some_and(|earlier| earlier.value == attribute.value)
    };
    let own = |(key, attribute): (&String, &Attribute)| (key.clone(), attribute.value.clone());
    let set: HashMap<_, _> = after.iter().filter(|one| !is_same(one)).map(own).collect();
    let removed: HashMap<_, _> = before.iter().filter(|(key, _)| !after.contains_key(*key)).map(own).collect();
    let info = |action: RoomAttributesUpdateAction, room_attributes: HashMap<String, String>| {
        (!room_attributes.is_empty()).then_some(RoomAttributesUpdateInfo { action: action as i32, room_attributes })
    };
    let set = info(RoomAttributesUpdateAction::Set, set);
    set.into_iter().chain(info(RoomAttributesUpdateAction::Delete, removed)).collect()
}

/// Checks the attributes of a new room, and makes them the creator's.
///
/// # Errors
/// A key or a value has a wrong length, or there are too many.
pub(super) fn initial(attributes: HashMap<String, String>, creator: UserKey) -> Result<Attributes, Error> {
    let operation =
        RoomAttributesUpdateInfo { action: RoomAttributesUpdateAction::Set as i32, room_attributes: attributes };
    Ok(change(&Attributes::new(), creator, vec![operation], How::default())?.after)
}

/// Checks attributes that members get.
///
/// # Errors
/// A key or a value has a wrong length.
pub(super) fn check_member_attributes(attributes: &HashMap<String, String>) -> Result<(), Error> {
    for (key, value) in attributes {
        if key.is_empty() || key.len() > MAX_MEMBER_KEY {
            return Err(Error::room_member_attribute_key(MAX_MEMBER_KEY));
        }
        if value.len() > MAX_MEMBER_VALUE {
            return Err(Error::room_member_attribute_value(MAX_MEMBER_VALUE));
        }
        check_text(key, value)?;
    }
    Ok(())
}

/// Checks what a member has together.
///
/// # Errors
/// It is too much.
pub(super) fn check_member_total<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), Error> {
    let (count, total) = all.fold((0, 0), |(count, total), (key, value)| (count + 1, total + key.len() + value.len()));
    if count > MAX_MEMBER_ATTRIBUTES {
        return Err(Error::too_many_room_member_attributes(MAX_MEMBER_ATTRIBUTES));
    }
    if total > MAX_MEMBER_TOTAL {
        return Err(Error::room_member_attributes_total(MAX_MEMBER_TOTAL));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use zim_protocol::ErrorCode;

    use super::*;

    const ANN: UserKey = UserKey(1);
    const BOB: UserKey = UserKey(2);
    const FORCE: How = How { is_force: true, goes_with_owner: false, updates_owner: false };

    fn operation(action: RoomAttributesUpdateAction, pairs: &[(&str, &str)]) -> RoomAttributesUpdateInfo {
        let room_attributes = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        RoomAttributesUpdateInfo { action: action as i32, room_attributes }
    }

    fn set(pairs: &[(&str, &str)]) -> RoomAttributesUpdateInfo {
        operation(RoomAttributesUpdateAction::Set, pairs)
    }

    fn delete(keys: &[&str]) -> RoomAttributesUpdateInfo {
        let pairs: Vec<_> = keys.iter().map(|key| (*key, "")).collect();
        operation(RoomAttributesUpdateAction::Delete, &pairs)
    }

    fn owned(pairs: &[(&str, &str, UserKey, bool)]) -> Attributes {
        let attribute = |(key, value, owner, goes_with_owner): &(&str, &str, UserKey, bool)| {
            (
                (*key).to_owned(),
                Attribute { value: (*value).to_owned(), owner: *owner, goes_with_owner: *goes_with_owner },
            )
        };
        pairs.iter().map(attribute).collect()
    }

    #[test]
    fn an_attribute_is_its_owners_and_others_need_force() {
        let before = owned(&[("a", "1", ANN, false), ("b", "1", BOB, false)]);
        let outcome = change(&before, BOB, vec![set(&[("a", "2"), ("b", "2"), ("c", "2")])], How::default()).unwrap();
        assert_eq!(outcome.error_keys, ["a"]);
        assert_eq!(outcome.after, owned(&[("a", "1", ANN, false), ("b", "2", BOB, false), ("c", "2", BOB, false)]));
        assert_eq!(outcome.infos, [set(&[("b", "2"), ("c", "2")])]);
        let forced = change(&before, BOB, vec![set(&[("a", "2")])], FORCE).unwrap();
        assert_eq!(forced.after["a"], owned(&[("a", "2", ANN, false)])["a"], "it stays Ann's");
        let how = How { updates_owner: true, ..FORCE };
        let taken = change(&before, BOB, vec![set(&[("a", "2")])], how).unwrap();
        assert_eq!(taken.after["a"].owner, BOB);
        let removed = change(&before, BOB, vec![delete(&["a", "b", "x"])], How::default()).unwrap();
        assert_eq!((removed.error_keys, removed.after.len()), (vec!["a".to_owned(), "x".to_owned()], 1));
        assert_eq!(removed.infos, [operation(RoomAttributesUpdateAction::Delete, &[("b", "1")])]);
    }

    #[test]
    fn several_operations_are_one_difference() {
        let before = owned(&[("a", "1", ANN, false), ("b", "1", ANN, false)]);
        let operations = vec![set(&[("a", "2"), ("c", "1"), ("d", "1")]), delete(&["b", "d"]), set(&[("c", "3")])];
        let outcome = change(&before, ANN, operations, How::default()).unwrap();
        let removed = operation(RoomAttributesUpdateAction::Delete, &[("b", "1")]);
        assert_eq!(outcome.infos, [set(&[("a", "2"), ("c", "3")]), removed]);
        let same = change(&before, ANN, vec![set(&[("a", "1")])], How::default()).unwrap();
        assert!(same.infos.is_empty() && same.error_keys.is_empty());
    }

    #[test]
    fn what_goes_with_its_owner_goes() {
        let before = owned(&[("a", "1", ANN, true), ("b", "1", ANN, false), ("c", "1", BOB, true)]);
        let after = without_owners(before.clone(), &[ANN]);
        assert_eq!(after.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(difference(&before, &after), [operation(RoomAttributesUpdateAction::Delete, &[("a", "1")])]);
        assert!(without_owners(before.clone(), &[UserKey(3)]) == before);
    }

    fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
        result.unwrap_err().code()
    }

    #[test]
    fn attributes_have_limits() {
        let none = Attributes::new();
        let try_set = |pairs: &[(&str, &str)]| change(&none, ANN, vec![set(pairs)], How::default());
        let (key, value) = ("k".repeat(16), "v".repeat(1_024));
        try_set(&[(&key, &value)]).unwrap();
        assert_eq!(
            code(try_set(&[(&"k".repeat(17), "")])),
            ErrorCode::RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit
        );
        assert_eq!(code(try_set(&[("", "")])), ErrorCode::RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit);
        let long = "v".repeat(1_025);
        assert_eq!(code(try_set(&[("k", &long)])), ErrorCode::RoomModuleTheLengthOfRoomAttributeValueExceedsLimit);
        let names: Vec<String> = (0..21).map(|index| format!("k{index:02}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        try_set(&pairs[..20]).unwrap();
        assert_eq!(code(try_set(&pairs)), ErrorCode::RoomModuleTheNumberOfRoomAttributesExceedsLimit);
        // Five keys of one byte and 5,115 bytes of values.
        let values = ["v".repeat(1_023), "v".repeat(1_024)];
        let five = |last: &str| {
            let pairs: [(&str, &str); 5] =
                [("a", &values[0]), ("b", &values[0]), ("c", &values[0]), ("d", &values[0]), ("e", last)];
            try_set(&pairs).map(drop)
        };
        five(&values[0]).unwrap();
        assert_eq!(code(five(&values[1])), ErrorCode::RoomModuleTheTotalLengthOfRoomAttributesValueExceedsLimit);
    }

    #[test]
    fn attributes_of_members_have_limits() {
        let check = |key: &str, value: &str| check_member_attributes(&[(key.to_owned(), value.to_owned())].into());
        check("12345678", &"v".repeat(64)).unwrap();
        let key = ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesKeyExceedsLimit;
        assert_eq!((code(check("123456789", "")), code(check("", ""))), (key, key));
        let value = ErrorCode::RoomModuleTheLengthOfRoomMemberAttributesValueExceedsLimit;
        assert_eq!(code(check("k", &"v".repeat(65))), value);
        let total = |bytes: usize| check_member_total([("1234", "v".repeat(bytes - 4).as_str())].into_iter());
        total(144).unwrap();
        assert_eq!(code(total(145)), ErrorCode::RoomModuleTheTotalLengthOfRoomMemberAttributesExceedsLimit);
        let many = |count: usize| check_member_total(std::iter::repeat_n(("k", "v"), count));
        many(30).unwrap();
        assert_eq!(code(many(31)), ErrorCode::RoomModuleRoomMemberAttributesCommonError);
    }
}
