//! `zim admin user export`: writes what the server has of a user as one JSON object, a part at a time.

use std::path::Path;

use serde::Serialize;
use zim_protocol::{ExportUserRequest, ExportUserResult, ExportedConversation};

use super::log::NewFile;
use super::{Operator, refused};
use crate::context::Context;
use crate::exit::Failure;
use crate::text::{preview, printable_json};

/// The lists of the object, each of which is there, if only empty.
const LISTS: [&str; 9] = [
    "pushRegistrations",
    "friends",
    "friendApplications",
    "blacklist",
    "groups",
    "groupApplications",
    "calls",
    "conversations",
    "files",
];

pub(super) async fn run(
    (app_id, user_id): (u32, String),
    to: Option<&Path>,
    operator: &mut Operator,
    context: &Context,
) -> Result<(), Failure> {
    let output = context.output;
    let Some(to) = to else {
        return write((app_id, user_id), operator, &mut |line: &str| output.line(line)).await;
    };
    let user = preview(&user_id, 32);
    let mut file = NewFile::at(to)?;
    write((app_id, user_id), operator, &mut |line: &str| file.append(format!("{line}\n").as_bytes())).await?;
    file.finish()?;
    match output.is_json() {
        true => output.json(&serde_json::json!({ "file": to.display().to_string() })),
        false => output.line(format!("What the server has of {user} is in {}.", to.display())),
    }
}

async fn write((app_id, user_id): (u32, String), operator: &mut Operator, line: Line<'_>) -> Result<(), Failure> {
    let mut document = Document { line, seen: Vec::new(), is_first: true, in_conversation: false };
    let mut after = String::new();
    loop {
        let request = ExportUserRequest { app_id, user_id: user_id.clone(), after };
        let part = operator.client.export_user(request).await.map_err(|status| refused(&status))?.into_inner();
        document.part(&part)?;
        after = part.next;
        if after.is_empty() {
            return document.end();
        }
    }
}

/// Writes a line.
type Line<'a> = &'a mut (dyn FnMut(&str) -> Result<(), Failure> + Send);

/// A JSON object that is written line by line. Nothing of it stays in memory.
struct Document<'a> {
    line: Line<'a>,
    /// The lists that have begun; the last one is open.
    seen: Vec<&'static str>,
    /// Nothing stands before the next element: it needs no comma.
    is_first: bool,
    /// The list of messages of a conversation is open.
    in_conversation: bool,
}

impl Document<'_> {
    fn part(&mut self, part: &ExportUserResult) -> Result<(), Failure> {
        if let Some(access) = &part.access {
            (self.line)("{")?;
            (self.line)(&format!("\"access\":{},", json(access)?))?;
            (self.line)(&format!("\"selfUserInfo\":{},", json(&part.self_user_info)?))?;
        }
        self.elements("pushRegistrations", &part.push_registrations)?;
        self.elements("friends", &part.friends)?;
        self.elements("friendApplications", &part.friend_applications)?;
        self.elements("blacklist", &part.blacklist)?;
        self.elements("groups", &part.groups)?;
        self.elements("groupApplications", &part.group_applications)?;
        self.elements("calls", &part.calls)?;
        if let Some(conversation) = &part.conversation {
            self.conversation(conversation)?;
        }
        for message in &part.messages {
            self.element(&json(message)?)?;
        }
        self.elements("files", &part.files)
    }

    fn elements<T: Serialize>(&mut self, list: &'static str, elements: &[T]) -> Result<(), Failure> {
        if !elements.is_empty() {
            self.begin(list)?;
        }
        elements.iter().try_for_each(|element| self.element(&json(element)?))
    }

    fn element(&mut self, text: &str) -> Result<(), Failure> {
        let comma = if self.is_first { "" } else { "," };
        self.is_first = false;
        (self.line)(&format!("{comma}{text}"))
    }

    fn conversation(&mut self, conversation: &ExportedConversation) -> Result<(), Failure> {
        self.end_conversation()?;
        self.begin("conversations")?;
        self.element(&format!("{{\"conversation\":{},\"messages\":[", json(conversation)?))?;
        (self.in_conversation, self.is_first) = (true, true);
        Ok(())
    }

    fn end_conversation(&mut self) -> Result<(), Failure> {
        if self.in_conversation {
            (self.line)("]}")?;
            (self.in_conversation, self.is_first) = (false, false);
        }
        Ok(())
    }

    /// Begins a list, unless it is the one that is open.
    fn begin(&mut self, list: &'static str) -> Result<(), Failure> {
        if self.seen.last() == Some(&list) {
            return Ok(());
        }
        self.end_list()?;
        self.seen.push(list);
        self.is_first = true;
        (self.line)(&format!("\"{list}\":["))
    }

    fn end_list(&mut self) -> Result<(), Failure> {
        self.end_conversation()?;
        if self.seen.is_empty() { Ok(()) } else { (self.line)("],") }
    }

    fn end(mut self) -> Result<(), Failure> {
        for list in LISTS {
            if !self.seen.contains(&list) {
                self.begin(list)?;
            }
        }
        self.end_conversation()?;
        (self.line)("]}")
    }
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    Ok(printable_json(&serde_json::to_string(value)?))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use zim_protocol::{ExportedFile, Message, UserAccess, UserInfo};

    use super::*;

    fn document(parts: &[ExportUserResult]) -> Value {
        let mut text = String::new();
        let mut line = |piece: &str| {
            text.push_str(piece);
            text.push('\n');
            Ok(())
        };
        let mut document = Document { line: &mut line, seen: Vec::new(), is_first: true, in_conversation: false };
        parts.iter().try_for_each(|part| document.part(part)).unwrap();
        document.end().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn the_parts_are_one_json_object() {
        let access = Some(UserAccess { user_id: "ann".into(), ..UserAccess::default() });
        let first = ExportUserResult { access, ..ExportUserResult::default() };
        let blocked = |user_id: &str| ExportUserResult {
            blacklist: vec![UserInfo { user_id: user_id.into(), ..UserInfo::default() }],
            ..ExportUserResult::default()
        };
        let with = |peer: &str| ExportUserResult {
            conversation: Some(ExportedConversation { conversation_id: peer.into(), ..Default::default() }),
            ..ExportUserResult::default()
        };
        let says = |text: &str| ExportUserResult { messages: vec![Message::text(text)], ..ExportUserResult::default() };
        let file = ExportedFile { file_name: "a.png".into(), ..ExportedFile::default() };
        let files = ExportUserResult { files: vec![file], ..ExportUserResult::default() };
        let parts =
            [first.clone(), blocked("bob"), blocked("eve"), with("cy"), says("1"), says("2"), with("di"), files];
        let found = document(&parts);
        assert_eq!(found["access"]["userID"], "ann");
        assert_eq!(found["blacklist"].as_array().unwrap().len(), 2);
        let conversations = found["conversations"].as_array().unwrap();
        let messages = |at: usize| conversations[at]["messages"].as_array().unwrap();
        assert_eq!((messages(0).len(), messages(1).len()), (2, 0));
        assert_eq!(conversations[1]["conversation"]["conversationID"], "di");
        assert_eq!(found["files"][0]["fileName"], "a.png");
        assert_eq!(found["friends"], Value::Array(Vec::new()));
        assert_eq!(document(&[first])["files"], Value::Array(Vec::new()));
    }
}
