//! The parts of multiple messages: how many there may be, and what each may be. Both sides check them: the client before it uploads
//! any file, the server because it trusts no client.

use crate::v1::{
    CustomMessageLiteInfo, MessageLiteInfo, MessageType, MultipleMessage, message_lite_info::Body as Lite,
};

/// The parts of a multiple message.
const MAX_PARTS: usize = 20;
/// Those among them that are files.
const MAX_FILES: usize = 10;
/// The bytes of what a search finds of a custom part, as of a custom message.
const MAX_SEARCHED_BYTES: usize = 64;
/// The last kind of a custom part, as of a custom message.
const MAX_SUB_TYPE: i64 = 200;

impl MultipleMessage {
    /// Checks the parts of a message that is sent or edited. The server's settings limit their bytes.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_parts(&self) -> Result<(), String> {
        let (mut files, parts) = (0, self.message_info_list.len());
        if !(1..=MAX_PARTS).contains(&parts) {
            return Err(format!("messageInfoList has {parts} parts; 1 to {MAX_PARTS} are allowed"));
        }
        for info in &self.message_info_list {
            let Some(kind) = info.part_type() else {
                return Err("messageInfoList takes text, custom and media parts".to_owned());
            };
            if info.r#type != 0 && info.r#type != kind as i32 {
                return Err("the type of a part does not fit its body".to_owned());
            }
            match &info.body {
                Some(Lite::Text(text)) if is_blank(&text.message) => return Err("a text part is blank".to_owned()),
                Some(Lite::Text(_)) => {}
                Some(Lite::Custom(custom)) => check_custom(custom)?,
                _ => files += 1,
            }
        }
        if files > MAX_FILES {
            return Err(format!("a multiple message has {files} files; at most {MAX_FILES} are allowed"));
        }
        Ok(())
    }
}

impl MessageLiteInfo {
    /// Returns the type of a part of a multiple message, by its body. `None`: it cannot be such a part.
    pub fn part_type(&self) -> Option<MessageType> {
        Some(match self.body.as_ref()? {
            Lite::Text(_) => MessageType::Text,
            Lite::Custom(_) => MessageType::Custom,
            Lite::Image(_) => MessageType::Image,
            Lite::File(_) => MessageType::File,
            Lite::Audio(_) => MessageType::Audio,
            Lite::Video(_) => MessageType::Video,
            _ => return None,
        })
    }
}

fn check_custom(custom: &CustomMessageLiteInfo) -> Result<(), String> {
    if is_blank(&custom.message) {
        return Err("a custom part is blank".to_owned());
    }
    let bytes = custom.searched_content.len();
    if bytes > MAX_SEARCHED_BYTES {
        return Err(format!(
            "searchedContent of a part is {bytes} bytes long; at most {MAX_SEARCHED_BYTES} are allowed"
        ));
    }
    if !(0..=MAX_SUB_TYPE).contains(&custom.sub_type) {
        return Err(format!("subType of a part is {}; 0 to {MAX_SUB_TYPE} are allowed", custom.sub_type));
    }
    Ok(())
}

/// Whether a text is empty or has nothing but white space.
fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{FileMessageLiteInfo, RevokeMessageLiteInfo, TextMessageLiteInfo};

    fn text(text: &str) -> MessageLiteInfo {
        part(Lite::Text(TextMessageLiteInfo { message: text.to_owned() }))
    }

    fn file() -> MessageLiteInfo {
        part(Lite::File(FileMessageLiteInfo::default()))
    }

    fn custom(message: &str, searched: usize, sub_type: i64) -> MessageLiteInfo {
        let (message, searched_content) = (message.to_owned(), "x".repeat(searched));
        part(Lite::Custom(CustomMessageLiteInfo { message, searched_content, sub_type }))
    }

    fn part(body: Lite) -> MessageLiteInfo {
        MessageLiteInfo { r#type: 0, body: Some(body) }
    }

    fn checked(message_info_list: Vec<MessageLiteInfo>) -> Result<(), String> {
        MultipleMessage { message_info_list, ..MultipleMessage::default() }.check_parts()
    }

    #[test]
    fn each_limit_has_two_sides() {
        for good in [
            vec![text("x"); 20],
            vec![file(); 10],
            [vec![file(); 10], vec![text("x"); 10]].concat(),
            vec![custom("{}", 64, 0)],
            vec![custom("{}", 0, 200)],
            vec![MessageLiteInfo { r#type: MessageType::Text as i32, ..text(" x ") }],
        ] {
            assert_eq!(checked(good.clone()), Ok(()), "{good:?}");
        }
        for bad in [
            Vec::new(),
            vec![text("x"); 21],
            vec![file(); 11],
            vec![text("x"), text("")],
            vec![text(" \n")],
            vec![custom("", 0, 0)],
            vec![custom("\t", 0, 0)],
            vec![custom("{}", 65, 0)],
            vec![custom("{}", 0, -1)],
            vec![custom("{}", 0, 201)],
            vec![MessageLiteInfo { r#type: MessageType::Image as i32, ..text("x") }],
            vec![part(Lite::Revoke(RevokeMessageLiteInfo {}))],
            vec![MessageLiteInfo::default()],
        ] {
            assert!(checked(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
