//! Tests of single calls: what each does and what it refuses. There is a file for each service. The name of a test
//! begins with the method; the rest says what is checked. `coverage.rs` checks that nothing is left out.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod admin;
mod authorisation;
mod blacklist;
mod call;
mod call_time;
mod command;
mod conversation;
mod conversation_list;
mod conversation_settings;
mod coverage;
mod deletion;
mod edit;
mod friend;
mod friend_application;
mod friend_bounds;
mod friend_search;
mod group;
mod group_application;
mod group_data;
mod group_member;
mod group_race;
mod group_search;
mod group_tips;
mod handlers;
mod idiomatic;
mod idempotency;
mod isolation;
mod large_group;
mod life;
mod local_search;
mod media;
mod media_again;
mod media_multiple;
mod media_tus;
mod media_upload;
mod mention;
mod message;
mod message_transfer;
mod push;
mod push_delivery;
mod push_provider;
mod reaction;
mod receipt;
mod revoke;
mod room;
mod room_attribute;
mod room_message;
mod session;
mod status;
mod sync;
mod typing;
mod user;
