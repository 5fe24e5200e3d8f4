//! What one knows and says of a friend.

use zim_client_sdk::Zim;
use zim_protocol::{FriendInfo, FriendsInfoQueriedResult};

use super::no_friends;
use crate::exit::Failure;
use crate::output::{Align, Ink, Output, Table};
use crate::text::preview;

/// `k0=school`
pub(super) fn attribute(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as k0=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn update(
    user: &str,
    attributes: Vec<(String, String)>,
    zim: &Zim,
    output: Output,
) -> Result<(), Failure> {
    let updated = zim.update_friend_attributes(attributes.into_iter().collect(), user).await?;
    if output.is_json() {
        return output.json(&updated);
    }
    let info = updated.friend_info.unwrap_or_default();
    let user = output.paint(Ink::Name, &preview(&info.user_id, 32));
    output.line(match said(&info).as_str() {
        "" => format!("{user} has no attributes any more."),
        said => format!("{user} has {said} now."),
    })
}

pub(super) async fn show(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let FriendsInfoQueriedResult { friend_infos, error_user_list } = zim.query_friends_info(users).await?;
    if output.is_json() {
        friend_infos.iter().try_for_each(|friend| output.json(friend))?;
    } else {
        output.table(&table(&friend_infos))?;
    }
    let left: Vec<String> = error_user_list.iter().map(|error| preview(&error.user_id, 32)).collect();
    if left.is_empty() { Ok(()) } else { Err(no_friends(&left)) }
}

fn table(friends: &[FriendInfo]) -> Table {
    let columns = ["FRIEND", "ALIAS", "NAME", "ATTRIBUTES", "WORDING"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for friend in friends {
        table.row([
            preview(&friend.user_id, 32),
            preview(&friend.friend_alias, 40),
            preview(&friend.user_name, 40),
            said(friend),
            preview(&friend.wording, 40),
        ]);
    }
    table
}

/// The attributes, in the order of their keys.
fn said(friend: &FriendInfo) -> String {
    let mut pairs: Vec<_> = friend.friend_attributes.iter().collect();
    pairs.sort_unstable();
    pairs.iter().map(|(key, value)| format!("{key}={}", preview(value, 20))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_a_key_and_a_value() {
        assert_eq!(attribute("k0=a=b"), Ok(("k0".to_owned(), "a=b".to_owned())));
        assert_eq!(attribute("k1="), Ok(("k1".to_owned(), String::new())));
        assert!(attribute("k1").is_err());
    }

    #[test]
    fn attributes_stand_in_order() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let bob = FriendInfo {
            user_id: "bob".into(),
            friend_attributes: [pair("k4", "x\ny"), pair("k0", "school")].into(),
            ..FriendInfo::default()
        };
        assert_eq!(
            table(&[bob]).render(),
            ["FRIEND  ALIAS  NAME  ATTRIBUTES        WORDING", "bob                  k0=school k4=x y"]
        );
    }
}
