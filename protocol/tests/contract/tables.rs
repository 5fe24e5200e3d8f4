//! Types, events and methods are those of the reference's tables: names, kinds of fields, parameters and results. What the
//! contract does not have is listed in `absent.txt`; what it has besides is listed here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use zim_protocol::{EventKind, METHODS, Method};

use crate::reference::{self, Item, Type};
use crate::surface::Surface;

/// Messages that share their name with a class of the reference and are not that class.
const OTHERS: [&str; 2] = ["Error", "App"];

/// Classes whose subclasses are bodies: the common fields are here and the others in the body, and JSON has both side by
/// side.
const FLAT: [&str; 3] = ["Message", "MessageLiteInfo", "TipsMessageChangeInfo"];

/// Events that the reference does not have.
const OWN_EVENTS: [&str; 2] = ["epochChanged", "peerTypingChanged"];

/// Fields of types that the reference does not have.
const OUR_FIELDS: [&str; 4] = [
    // `GroupConversation` has them; the reference's own clients show them in every conversation.
    "Conversation.isDisabled",
    "Conversation.mutedExpiredTime",
    // An app that repeats a call, as after a crash, sends one message.
    "MessageSendConfig.idempotencyKey",
    // The whole status, with the time when it ends.
    "UserCustomStatusUpdatedResult.status",
];

/// Fields of requests that are no parameters in the reference.
const OUR_PARAMETERS: [&str; 29] = [
    // The reference's SDK has the app from `create`.
    "LoginRequest.appID",
    "LoginRequest.appSign",
    "LoginRequest.inRooms",
    "LoginRequest.wasLoggedOut",
    "LoginRequest.loggedOut",
    "LoginRequest.loggedOutUserIDs",
    "LoginRequest.oneShot",
    "LoginRequest.resume",
    "SendMessageRequest.clientKey",
    "SendMessageRequest.omitContent",
    "ReplyMessageRequest.clientKey",
    "ClearConversationUnreadMessageCountRequest.throughSeq",
    "DeleteConversationRequest.throughSeq",
    "DeleteAllMessageRequest.throughSeq",
    "SendConversationMessageReceiptReadRequest.throughSeq",
    // Tells the client which of its requests a deletion belongs to.
    "DeleteAllConversationMessagesRequest.deletionNumber",
    // Tells the client which of its requests an entrance belongs to.
    "CreateRoomRequest.entryNumber",
    "EnterRoomRequest.entryNumber",
    "JoinRoomRequest.entryNumber",
    "SwitchRoomRequest.entryNumber",
    // What happens between the beginning and the end.
    "EndRoomAttributesBatchOperationRequest.config",
    "EndRoomAttributesBatchOperationRequest.operations",
    // The form without parameters asks for one page after the other.
    "QueryGroupListRequest.config",
    "QueryGroupListRequest.count",
    // The reference's SDK asks the push service for the token; here the app passes it on.
    "RegisterRequest.appType",
    "RegisterRequest.auth",
    "RegisterRequest.p256dh",
    "RegisterRequest.source",
    "RegisterRequest.token",
];

/// Parameters that do not travel.
const LOCAL_PARAMETERS: [&str; 6] = [
    // Callbacks.
    "SendMessageRequest.notification",
    "ReplyMessageRequest.notification",
    "EditMessageRequest.notification",
    // What it says is done on the device.
    "LogoutRequest.config",
    // What the request is made from, and the client that makes it.
    "RegisterRequest.config",
    "RegisterRequest.zim",
];

/// Fields for which absent and 0 (or `false`) mean different things. They apply to the types that are written.
const OPTIONAL: [&str; 6] = [
    "MessageSendConfig.isNotifyMentionedUsers",
    "MessageDeleteConfig.isAlsoDeleteServerMessage",
    "RoomMemberAttributesSetConfig.isDeleteAfterOwnerLeft",
    "GroupMuteConfig.mode",
    "GroupMuteConfig.duration",
    "CallInviteConfig.timeout",
];

/// What differs from the tables.
struct Check {
    surface: Surface,
    types: BTreeMap<&'static str, Type>,
    problems: Vec<String>,
    /// Fields that the reference does not have.
    ours: BTreeSet<String>,
}

impl Check {
    fn new() -> Self {
        Self { surface: Surface::read(), types: reference::types(), problems: Vec::new(), ours: BTreeSet::new() }
    }

    fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.surface.pool.get_message_by_name(&format!("zim.v1.{name}"))
    }

    /// Returns the TypeScript type that the contract's JSON has for a type of the reference.
    fn on_wire(&self, kind: &str) -> String {
        if let Some(item) = kind.strip_suffix("[]") {
            return self.on_wire(item) + "[]";
        }
        match kind {
            "File" => "string".to_owned(),
            // A client meets codes that are newer than it is.
            "ErrorCode" => "number".to_owned(),
            "Record<string; string>" => "Record<string, string>".to_owned(),
            _ => self.flat_base(kind).unwrap_or(kind).to_owned(),
        }
    }

    /// Returns the class of [`FLAT`] that a class extends.
    fn flat_base(&self, name: &str) -> Option<&'static str> {
        let base = self.types.get(name)?.base?;
        if FLAT.contains(&base) { Some(base) } else { self.flat_base(base) }
    }

    /// Compares the fields of a message with those of the reference.
    fn fields(&mut self, message: &MessageDescriptor, expected: &[&Item]) {
        let name = message.name();
        for item in expected {
            let Some(field) = message.get_field_by_json_name(item.name) else {
                self.problems.push(format!("{name} has no {}", item.name));
                continue;
            };
            let (is, wanted) = (in_typescript(&field), self.on_wire(item.kind));
            if is != wanted {
                self.problems.push(format!("{name}.{} is {is}, in the reference {wanted}", item.name));
            }
        }
        for field in message.fields().filter(|field| !is_body(field)) {
            if expected.iter().all(|item| item.name != field.json_name()) {
                self.ours.insert(format!("{name}.{}", field.json_name()));
            }
        }
    }

    /// Checks that `type: MessageType.Text` chooses the body `text`.
    fn variant(&mut self, name: &str, member: &str) {
        let base = self.flat_base(name).and_then(|base| self.message(base));
        let body = base.and_then(|base| {
            base.fields().find(|field| matches!(field.kind(), Kind::Message(of) if of.name() == name) && is_body(field))
        });
        if body.is_none_or(|field| !field.json_name().eq_ignore_ascii_case(member)) {
            self.problems.push(format!("{name} is not the body for {member}"));
        }
    }

    fn end(mut self, ours: &[&str]) {
        let listed: BTreeSet<String> = ours.iter().map(|name| (*name).to_owned()).collect();
        self.problems.extend(self.ours.difference(&listed).map(|name| format!("the reference has no {name}")));
        self.problems.extend(listed.difference(&self.ours).map(|name| format!("{name} is not ours: unlist it")));
        assert!(self.problems.is_empty(), "\n{}\n", self.problems.join("\n"));
    }
}

/// Whether the field is a body, whose own fields JSON shows in its place.
fn is_body(field: &FieldDescriptor) -> bool {
    FLAT.contains(&field.parent_message().name()) && field.containing_oneof().is_some()
}

/// Returns the TypeScript type of a field's JSON.
fn in_typescript(field: &FieldDescriptor) -> String {
    let of = |kind: Kind| match kind {
        Kind::String => "string".to_owned(),
        Kind::Bytes => "Uint8Array".to_owned(),
        Kind::Bool => "boolean".to_owned(),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => "number".to_owned(),
        Kind::Message(message) => message.name().to_owned(),
        Kind::Enum(one) => one.name().to_owned(),
        other => format!("{other:?}"),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            format!("Record<{}, {}>", of(entry.map_entry_key_field().kind()), of(entry.map_entry_value_field().kind()))
        }
        kind if field.is_list() => of(kind) + "[]",
        kind => of(kind),
    }
}

fn assert_absent(kind: &str, missing: &BTreeSet<&str>) {
    let listed = reference::absent(kind);
    let news: Vec<_> = missing.difference(&listed).collect();
    assert!(news.is_empty(), "the contract has no {kind} of these names: {news:?}");
    let stale: Vec<_> = listed.difference(missing).collect();
    assert!(stale.is_empty(), "the contract or no table has these, remove them from absent.txt: {stale:?}");
}

#[test]
fn events_have_the_references_fields() {
    let mut check = Check::new();
    let events = reference::events();
    for (name, fields) in &events {
        let event = format!("{}{}Event", name[..1].to_uppercase(), &name[1..]);
        let message = check.message(&event).unwrap_or_else(|| panic!("there is no {event}"));
        check.fields(&message, &fields.iter().collect::<Vec<_>>());
    }
    let ours: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
    let names: Vec<&str> = events.iter().map(|(name, _)| *name).chain(OWN_EVENTS).collect();
    assert_eq!(ours, names);
    assert_eq!(events.len(), 60);
    check.end(&[]);
}

#[test]
fn types_have_the_references_fields() {
    let mut check = Check::new();
    let types = reference::types();
    let mut missing = BTreeSet::new();
    for (name, one) in types.iter().filter(|(name, _)| !OTHERS.contains(name)) {
        let Some(message) = check.message(name) else {
            missing.insert(*name);
            continue;
        };
        let mut fields: Vec<&Item> = one.fields.iter().collect();
        let mut base = one.base;
        while let Some(name) = base.filter(|base| !FLAT.contains(base)) {
            fields.extend(&types[name].fields);
            base = types[name].base;
        }
        if let Some(variant) = fields.iter().position(|field| field.kind.starts_with("MessageType.")) {
            let member = fields.remove(variant).kind;
            check.variant(name, member.trim_start_matches("MessageType."));
        }
        fields.retain(|field| !field.is_callback());
        check.fields(&message, &fields);
    }
    assert_absent("type", &missing);
    check.end(&OUR_FIELDS);
}

#[test]
fn fields_whose_absence_has_a_meaning_are_optional() {
    let check = Check::new();
    for path in OPTIONAL {
        let (name, field) = path.split_once('.').unwrap();
        assert!(check.types[name].fields.iter().any(|item| item.name == field), "the reference has no {path}");
        if let Some(message) = check.message(name) {
            assert!(message.get_field_by_json_name(field).unwrap().supports_presence(), "{path} is not optional");
        }
    }
}

/// The names of types in a TypeScript type.
fn named(kind: &str) -> impl Iterator<Item = &str> {
    kind.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|name| !name.is_empty())
}

/// The older class reference calls it so, and the tables have the name that it has since.
const CALLED_BEFORE: [&str; 1] = ["GroupMemberMutedListQueryConfig"];

#[test]
fn a_type_that_is_unused_is_named_by_no_method_event_or_other_type() {
    let absences = reference::absences("type");
    let unused = |name: &str| absences.get(name).is_some_and(|absence| absence.class == "unused");
    let mut uses: Vec<(&str, &str)> = CALLED_BEFORE.iter().map(|name| ("the class reference", *name)).collect();
    for signature in reference::methods() {
        let parameters = signature.parameters.iter().flatten().map(|item| item.kind).chain([signature.result]);
        uses.extend(parameters.flat_map(named).map(|name| (signature.method, name)));
    }
    for (event, fields) in reference::events() {
        uses.extend(fields.iter().flat_map(|field| named(field.kind)).map(|name| (event, name)));
    }
    for (name, one) in reference::types().iter().filter(|(name, _)| !unused(name)) {
        let kinds = one.fields.iter().map(|field| field.kind).chain(one.base);
        uses.extend(kinds.flat_map(named).map(|used| (*name, used)));
    }
    uses.retain(|(_, name)| unused(name));
    assert!(uses.is_empty(), "absent.txt calls these unused: {uses:?}");
    for name in CALLED_BEFORE {
        assert!(has(OF_SDK, name), "the SDK has no {name}");
    }
}

/// What the SDK has for apps.
const OF_SDK: &str = include_str!("../../../client-sdk/src/lib.rs");

/// The sources of the SDK.
fn sdk() -> String {
    fn read(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../client-sdk/src"), &mut text);
    text
}

/// Whether a source has this, and not as a part of a longer name.
fn has(source: &str, item: &str) -> bool {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let is_whole = |at: usize| !source[..at].ends_with(is_name) && !source[at + item.len()..].starts_with(is_name);
    source.match_indices(item).any(|(at, _)| is_whole(at))
}

#[test]
fn what_takes_the_place_of_what_is_absent_is_there() {
    let (check, sdk) = (Check::new(), sdk());
    let of_zim: String = sdk
        .split("\nimpl Zim {\n")
        .skip(1)
        .filter_map(|rest| rest.split("\n}\n").next())
        .collect::<Vec<_>>()
        .join("\n");
    let has_method =
        |name: &str| ["    pub fn ", "    pub async fn "].iter().any(|start| has(&of_zim, &format!("{start}{name}")));
    let is_there = |item: &str| match item.strip_prefix("Zim::") {
        Some(method) => has_method(method),
        None => {
            let is_of_sdk = has(&sdk, &format!("pub struct {item}")) && has(OF_SDK, item);
            check.message(item).is_some() || is_of_sdk
        }
    };
    for (name, absence) in reference::absences("method").into_iter().chain(reference::absences("type")) {
        assert!(is_there(absence.item), "{name}: there is no {}", absence.item);
    }
    // The fourth is a method of another type.
    assert!(has(&sdk, "pub fn on_registered"));
    for item in ["Zim::creat", "Zim::nothing", "Conf", "Zim::on_registered", "Nothing"] {
        assert!(!is_there(item), "{item}");
    }
    // A method that is local has the name that the reference gives it.
    for (method, absence) in reference::absences("method") {
        let names: BTreeSet<String> = reference::methods()
            .into_iter()
            .filter(|signature| signature.method == method)
            .map(|signature| format!("Zim::{}", signature.rust_name))
            .collect();
        assert!(names.contains(absence.item), "{method}: {} is none of {names:?}", absence.item);
    }
}

/// Compares a method with one form in the reference.
fn method(check: &mut Check, method: &Method, signature: &reference::Signature) {
    let Some(parameters) = &signature.parameters else {
        check.problems.push(format!("methods.tsv has no parameters of {}: add them", method.reference));
        return;
    };
    if signature.rust_name != method.name {
        check
            .problems
            .push(format!("{} is {} in Rust, in the table {}", method.path, method.name, signature.rust_name));
    }
    let request = check.message(method.request).unwrap();
    let is_local = |item: &&Item| LOCAL_PARAMETERS.contains(&format!("{}.{}", method.request, item.name).as_str());
    let travelling: Vec<&Item> = parameters.iter().filter(|item| !is_local(item)).collect();
    check.fields(&request, &travelling);
    let has_fields = |name: &str| check.types.get(name).is_some_and(|one| !one.fields.is_empty());
    let is_result = match signature.result {
        // An empty result, or one of the contract's own.
        "void" => !has_fields(method.response),
        result => result == method.response,
    };
    if !is_result {
        check.problems.push(format!("{} returns {}, not {}", method.path, method.response, signature.result));
    }
}

#[test]
fn methods_have_the_references_parameters_and_results() {
    let mut check = Check::new();
    let signatures = reference::methods();
    let ours: BTreeMap<&str, &Method> =
        METHODS.iter().filter(|method| !method.internal).map(|method| (method.reference, method)).collect();
    let known: BTreeSet<&str> = signatures.iter().map(|signature| signature.method).collect();
    for name in ours.keys().filter(|name| !known.contains(*name)) {
        check.problems.push(format!("the reference has no {name}"));
    }
    for signature in signatures.iter().filter(|signature| !signature.is_deprecated) {
        if let Some(one) = ours.get(signature.method) {
            method(&mut check, one, signature);
        }
    }
    let missing = known.into_iter().filter(|name| !ours.contains_key(name)).collect();
    assert_absent("method", &missing);
    check.end(&OUR_PARAMETERS);
}
