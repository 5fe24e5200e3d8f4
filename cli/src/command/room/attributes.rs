//! `zim room attributes` and `zim room of`: attributes of a room and of its members.

use clap::Args;
use zim_client_sdk::Zim;
use zim_protocol::{
    RoomAttributesDeleteConfig, RoomAttributesSetConfig, RoomMemberAttributesInfo, RoomMemberAttributesQueryConfig,
    RoomMemberAttributesSetConfig,
};

use crate::attribute::{attribute, attributes_text};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::text::preview;

/// The size of a page of members.
const PAGE: i64 = 100;

/// `zim room attributes`
#[derive(Debug, Args)]
pub(crate) struct AttributesArgs {
    /// The room
    room: String,
    /// Attributes to set
    #[arg(value_name = "KEY=VALUE", num_args = 0..=20, value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Attribute to delete; may be repeated
    #[arg(long = "delete", value_name = "KEY")]
    delete: Vec<String>,
    /// Also change attributes of others
    #[arg(long)]
    force: bool,
    /// Become the owner of the attributes that are set
    #[arg(long)]
    own: bool,
    /// Remove the attributes that are set when their owner leaves
    #[arg(long)]
    until_left: bool,
}

/// `zim room of`
#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    /// The room
    room: String,
    /// The members; by default all who have attributes
    #[arg(value_name = "USER", num_args = 0..=100)]
    users: Vec<String>,
    /// Attribute to set for the members that are named; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "users", value_parser = attribute)]
    set: Vec<(String, String)>,
    /// Keep the attributes that are set for members who leave and return
    #[arg(long, requires = "set")]
    keep: bool,
}

pub(super) async fn of_room(args: AttributesArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let room = args.room;
    let mut refused = Vec::new();
    if !args.attributes.is_empty() {
        let config = RoomAttributesSetConfig {
            is_force: args.force,
            is_delete_after_owner_left: args.until_left,
            is_update_owner: args.own,
        };
        refused.extend(zim.set_room_attributes(args.attributes.into_iter().collect(), &room, config).await?.error_keys);
    }
    if !args.delete.is_empty() {
        let config = RoomAttributesDeleteConfig { is_force: args.force };
        refused.extend(zim.delete_room_attributes(args.delete, &room, config).await?.error_keys);
    }
    let found = zim.query_room_all_attributes(&room).await?;
    if output.is_json() {
        output.json(&found)?;
    } else {
        output.line(match found.room_attributes.is_empty() {
            true => "The room has no attributes.".to_owned(),
            false => attributes_text(&found.room_attributes),
        })?;
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("not changed: {}", preview(&refused.join(", "), 200))))
}

pub(super) async fn of_members(args: MembersArgs, zim: &Zim, output: Output) -> Result<(), Failure> {
    let mut refused = Vec::new();
    if !args.set.is_empty() {
        let config = RoomMemberAttributesSetConfig { is_delete_after_owner_left: Some(!args.keep) };
        let attributes = args.set.into_iter().collect();
        let set = zim.set_room_members_attributes(attributes, &args.users, &args.room, config).await?;
        refused = set.error_user_list;
    }
    let found = match args.users.is_empty() {
        true => of_all_members(&args.room, zim).await?,
        false => zim.query_room_members_attributes(&args.users, &args.room).await?.infos,
    };
    let mut table = Table::new(&[("user", Align::Left), ("attributes", Align::Left)]);
    for info in &found {
        if output.is_json() {
            output.json(info)?;
        } else {
            table.row([preview(&info.user_id, 32), attributes_text(&info.attributes)]);
        }
    }
    if !output.is_json() {
        output.table(&table)?;
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("not set for {}", preview(&refused.join(", "), 200))))
}

/// Returns the attributes of all members who have some, page after page.
async fn of_all_members(room: &str, zim: &Zim) -> Result<Vec<RoomMemberAttributesInfo>, Failure> {
    let (mut all, mut next_flag) = (Vec::new(), String::new());
    loop {
        let config = RoomMemberAttributesQueryConfig { next_flag, count: PAGE };
        let page = zim.query_room_member_attributes_list(room, config).await?;
        all.extend(page.infos);
        next_flag = page.next_flag;
        if next_flag.is_empty() {
            return Ok(all);
        }
    }
}
