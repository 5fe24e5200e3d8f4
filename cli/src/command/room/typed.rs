//! The lines that `zim room enter --commands` takes.

use zim_client_sdk::Zim;
use zim_protocol::{
    RoomAdvancedConfig, RoomAttributesBatchOperationConfig, RoomAttributesDeleteConfig, RoomAttributesSetConfig,
    RoomInfo,
};

use crate::attribute::attribute;
use crate::exit::Failure;
use crate::text::preview;

/// The forms of a line.
const FORMS: &str = "/switch ROOM, /set KEY=VALUE -KEY, and /leave-all";

/// A line.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    /// It is blank.
    Nothing,
    /// Enter another room, and leave this one.
    Switch(String),
    /// Set and delete attributes as one change.
    Set { set: Vec<(String, String)>, delete: Vec<String> },
    /// Leave all rooms of the device, which ends the command.
    LeaveAll,
}

impl Typed {
    fn of(line: &str) -> Result<Self, Failure> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            [] => Ok(Self::Nothing),
            ["/switch", room] => Ok(Self::Switch((*room).to_owned())),
            ["/leave-all"] => Ok(Self::LeaveAll),
            ["/set", changes @ ..] if !changes.is_empty() => {
                let (mut set, mut delete) = (Vec::new(), Vec::new());
                for change in changes {
                    match change.strip_prefix('-') {
                        Some(key) if key.is_empty() || key.contains('=') => {
                            return Err(Failure::usage(format!(
                                "-KEY deletes an attribute, not {:?}",
                                preview(change, 40)
                            )));
                        }
                        Some(key) => delete.push(key.to_owned()),
                        None => set.push(attribute(change).map_err(Failure::usage)?),
                    }
                }
                Ok(Self::Set { set, delete })
            }
            _ => Err(Failure::usage(format!("{:?} is no command; a line is one of {FORMS}", preview(line, 40)))),
        }
    }
}

/// Does what a line says, for the device in `room`. Returns the room that it is in then; `None`: it is in no room any more.
pub(super) async fn obey(line: String, room: String, creates: bool, zim: Zim) -> Result<Option<String>, Failure> {
    match Typed::of(&line)? {
        Typed::Nothing => {}
        Typed::Switch(to) => {
            let info = RoomInfo { room_id: to.clone(), room_name: String::new() };
            zim.switch_room(&room, info, creates, RoomAdvancedConfig::default()).await?;
            return Ok(Some(to));
        }
        Typed::Set { set, delete } => change(&room, set, delete, &zim).await?,
        Typed::LeaveAll => {
            zim.leave_all_room().await?;
            return Ok(None);
        }
    }
    Ok(Some(room))
}

async fn change(room: &str, set: Vec<(String, String)>, delete: Vec<String>, zim: &Zim) -> Result<(), Failure> {
    zim.begin_room_attributes_batch_operation(room, RoomAttributesBatchOperationConfig::default())?;
    let held = async {
        if !set.is_empty() {
            zim.set_room_attributes(set.into_iter().collect(), room, RoomAttributesSetConfig::default()).await?;
        }
        if !delete.is_empty() {
            zim.delete_room_attributes(delete, room, RoomAttributesDeleteConfig::default()).await?;
        }
        Ok::<_, Failure>(())
    };
    let held = held.await;
    // Also if something is wrong: the next batch begins anew.
    let ended = zim.end_room_attributes_batch_operation(room).await;
    held?;
    ended?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command() {
        assert_eq!(Typed::of("  ").unwrap(), Typed::Nothing);
        assert_eq!(Typed::of("/switch hall ").unwrap(), Typed::Switch("hall".into()));
        assert_eq!(Typed::of("/leave-all").unwrap(), Typed::LeaveAll);
        let (set, delete) = (vec![("song".into(), "a=b".into()), ("seat".into(), String::new())], vec!["host".into()]);
        assert_eq!(Typed::of("/set song=a=b -host seat=").unwrap(), Typed::Set { set, delete });
        for line in [
            "hi",
            "/switch",
            "/switch a b",
            "/leave-all x",
            "/set",
            "/set song",
            "/set -",
            "/set -song=1",
            "/set a=1 -",
        ] {
            assert!(Typed::of(line).is_err(), "{line}");
        }
    }
}
