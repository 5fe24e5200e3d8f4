//! A device: a client in a process of its own, a local database that outlives it, and its way to the server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::lists::Lists;
use super::plan::{Act, Deed};
use super::record::Record;
use super::rows;
use crate::link::Link;
use crate::puppet::{FirstApp, Puppet};
use crate::wait::PATIENCE;

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) number: usize,
    pub(crate) user: &'static str,
    pub(crate) link: Link,
    pub(crate) folder: PathBuf,
    puppet: Option<Puppet>,
    pub(crate) life: u32,
    /// What it has told its app, when nobody heard: before it was killed.
    pub(crate) told: BTreeSet<(String, i64)>,
    /// The life in which it was last killed, and its lists then.
    pub(crate) killed: Option<(u32, Lists)>,
}

impl Device {
    pub(crate) fn new(number: usize, user: &'static str, link: Link, folder: PathBuf) -> Self {
        Self { number, user, link, folder, puppet: None, life: 0, told: BTreeSet::new(), killed: None }
    }

    /// Starts the client, if it does not run; it logs in as soon as it can.
    pub(crate) fn open(&mut self, program: &Path, app: &FirstApp, record: &Record) -> anyhow::Result<()> {
        if self.puppet.is_some() {
            return Ok(());
        }
        self.life += 1;
        let mut command = Command::new(program);
        command
            .arg(self.link.address().to_string())
            .arg(app.app_id.to_string())
            .args([&app.app_sign, &app.fingerprint]);
        command.arg(self.user).arg(&self.folder);
        let (record, number, life) = (record.clone(), self.number, self.life);
        let log = self.folder.with_extension("log");
        self.puppet = Some(Puppet::start(&mut command, &log, move |line| record.heard(number, life, &line))?);
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.puppet.is_some()
    }

    /// SIGKILL: what is not in its database is lost.
    pub(crate) fn kill(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.puppet.take().is_some() {
            record.gone(self.number);
            // It may have been killed before it had a database.
            let (told, lists) = rows::left_behind(&self.folder).unwrap_or_default();
            self.told.extend(told);
            self.killed = Some((self.life, lists));
        }
        Ok(())
    }

    /// Ends the client as an app does.
    pub(crate) async fn close(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.is_open() {
            let ended = self.ask(json!({"do": "quit"}), record).await;
            self.puppet = None;
            record.gone(self.number);
            ended?;
        }
        Ok(())
    }

    /// Has it do something; it does not wait for the answer. A device that is closed does nothing.
    pub(crate) fn do_deed(&mut self, deed: &Deed, record: &Record) {
        let Some(puppet) = &mut self.puppet else { return };
        let (id, words) = record.call(self.number, self.life, deed.clone());
        let command = match deed {
            Deed::Send { peer, .. } => json!({"id": id, "do": "send", "peer": peer, "text": words}),
            Deed::Clear { peer } => json!({"id": id, "do": "clear", "peer": peer}),
            Deed::Rename => json!({"id": id, "do": "rename", "name": words}),
            Deed::Portrait => json!({"id": id, "do": "portrait", "url": words}),
            Deed::Say => json!({"id": id, "do": "say", "custom": words}),
            Deed::Social { peer, act } => {
                let (act, is_mutual) = match act {
                    Act::Befriend => ("befriend", false),
                    Act::Apply => ("apply", false),
                    Act::Accept => ("accept", false),
                    Act::Reject => ("reject", false),
                    Act::Unfriend { is_mutual } => ("unfriend", *is_mutual),
                    Act::Alias => ("alias", false),
                    Act::Block => ("block", false),
                    Act::Unblock => ("unblock", false),
                    Act::Follow => ("follow", false),
                    Act::Unfollow => ("unfollow", false),
                };
                json!({"id": id, "do": act, "peer": peer, "words": words, "is_mutual": is_mutual})
            }
        };
        puppet.say(&command.to_string());
    }

    /// Tells it something, and does not wait.
    pub(crate) fn tell(&mut self, mut command: Value, record: &Record) {
        if let Some(puppet) = &mut self.puppet {
            command["id"] = record.question(self.number).0.into();
            puppet.say(&command.to_string());
        }
    }

    /// A question of the harness's own and its answer.
    pub(crate) async fn ask(&mut self, mut command: Value, record: &Record) -> anyhow::Result<Value> {
        let puppet = self.puppet.as_mut().context("it is closed")?;
        let (id, answer) = record.question(self.number);
        command["id"] = id.into();
        puppet.say(&command.to_string());
        let Ok(answer) = timeout(PATIENCE, answer).await else {
            let why = if puppet.is_alive() { "does not answer" } else { "ended by itself" };
            let log = std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default();
            let panic: Vec<&str> = log.lines().skip_while(|line| !line.contains("panicked")).take(2).collect();
            anyhow::bail!("device {} {why}: {command}; {}", self.number, panic.join(" "));
        };
        let answer = answer.with_context(|| format!("device {} is gone", self.number))?;
        anyhow::ensure!(answer["error"].is_null(), "device {}: {command}: {}", self.number, answer["error"]);
        Ok(answer)
    }
}
