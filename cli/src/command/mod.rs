//! The commands, one file each, with the names of the command line.

pub(crate) mod admin;
pub(crate) mod blacklist;
pub(crate) mod call;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod conversation;
pub(crate) mod demo;
pub(crate) mod friend;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod listen;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod media;
pub(crate) mod message;
pub(crate) mod ping;
pub(crate) mod profile;
pub(crate) mod revoke;
pub(crate) mod ring;
pub(crate) mod room;
pub(crate) mod search;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod user;
