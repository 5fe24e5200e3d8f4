//! `zim friend show` and `zim friend attributes`.

use zim_client_sdk::Zim;
use zim_protocol::{FriendInfo, FriendsInfoQueriedResult};

use super::not_listed;
use crate::attribute::attributes_text;
use crate::exit::Failure;
use crate::output::{Align, Ink, Output, Table};
use crate::text::preview;

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
    output.line(match attributes_text(&info.friend_attributes).as_str() {
        "" => format!("{user} has no attributes now."),
        text => format!("The attributes of {user} are now {text}."),
    })
}

pub(super) async fn show(users: &[String], zim: &Zim, output: Output) -> Result<(), Failure> {
    let FriendsInfoQueriedResult { friend_infos, error_user_list } = zim.query_friends_info(users).await?;
    if output.is_json() {
        friend_infos.iter().try_for_each(|friend| output.json(friend))?;
    } else {
        output.table(&table(&friend_infos))?;
    }
    let failed: Vec<String> = error_user_list.iter().map(|error| preview(&error.user_id, 32)).collect();
    if failed.is_empty() { Ok(()) } else { Err(not_listed(&failed)) }
}

fn table(friends: &[FriendInfo]) -> Table {
    let columns = ["FRIEND", "ALIAS", "NAME", "ATTRIBUTES", "WORDING"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for friend in friends {
        table.row([
            preview(&friend.user_id, 32),
            preview(&friend.friend_alias, 40),
            preview(&friend.user_name, 40),
            attributes_text(&friend.friend_attributes),
            preview(&friend.wording, 40),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_ordered_by_key() {
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
