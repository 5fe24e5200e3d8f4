//! A device: a client as a child process, a local database that outlives it, and a proxy to the server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use zim_protocol::ErrorCode;

use super::action::{Action, SocialAction};
use super::record::Record;
use crate::process::{ChildProcess, FirstApp};
use crate::proxy::Proxy;
use crate::wait::TIMEOUT;

/// The pause before a command is sent again that found no connection.
const RETRY: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) number: usize,
    pub(crate) user: &'static str,
    pub(crate) proxy: Proxy,
    pub(crate) folder: PathBuf,
    process: Option<ChildProcess>,
    pub(crate) incarnation: u32,
}

impl Device {
    pub(crate) fn new(number: usize, user: &'static str, proxy: Proxy, folder: PathBuf) -> Self {
        Self { number, user, proxy, folder, process: None, incarnation: 0 }
    }

    /// Starts the client unless it runs. It logs in as soon as it can.
    pub(crate) fn open(&mut self, program: &Path, app: &FirstApp, record: &Record) -> anyhow::Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        self.incarnation += 1;
        let mut command = Command::new(program);
        command
            .arg(self.proxy.address().to_string())
            .arg(app.app_id.to_string())
            .args([&app.app_sign, &app.fingerprint]);
        command.arg(self.user).arg(&self.folder);
        let (record, number, incarnation) = (record.clone(), self.number, self.incarnation);
        let log = self.folder.with_extension("log");
        self.process =
            Some(ChildProcess::start(&mut command, &log, move |line| record.line(number, incarnation, &line))?);
        Ok(())
    }

    /// Returns the ID of this installation, in hex.
    pub(crate) fn installation(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("device-id"))?.trim().to_owned())
    }

    /// Returns the ID of its process, if it runs.
    pub(crate) fn process(&self) -> Option<u32> {
        self.process.as_ref().map(ChildProcess::id)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.process.is_some()
    }

    /// Sends SIGKILL: what is not in the local database is lost, and events that a handler is handling are raised again.
    pub(crate) fn kill(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.process.take().is_some() {
            record.process_ended(self.number);
        }
        Ok(())
    }

    /// Ends the client cleanly, as an app does.
    pub(crate) async fn close(&mut self, record: &Record) -> anyhow::Result<()> {
        if self.is_open() {
            let ended = self.query(json!({"do": "quit"}), record).await;
            self.process = None;
            record.process_ended(self.number);
            ended?;
        }
        Ok(())
    }

    /// Starts an action without waiting for the answer. Does nothing on a closed device.
    pub(crate) fn perform(&mut self, action: &Action, record: &Record) {
        // Of a call that nobody has heard of, there is nothing to do.
        if let Some(call_id) = record.call_for(self.number, action) {
            self.perform_about(action, &call_id, record);
        }
    }

    /// The same, about this call if it is about one.
    pub(crate) fn perform_about(&mut self, action: &Action, call_id: &str, record: &Record) {
        let Some(process) = &mut self.process else { return };
        let (id, text) = record.call(self.number, self.incarnation, action.clone(), call_id);
        let command = match action {
            Action::Send { peer, .. } => json!({"id": id, "do": "send", "peer": peer, "text": text}),
            Action::Clear { peer } => json!({"id": id, "do": "clear", "peer": peer}),
            Action::Rename => json!({"id": id, "do": "rename", "name": text}),
            Action::Avatar => json!({"id": id, "do": "avatar", "url": text}),
            Action::CustomStatus => json!({"id": id, "do": "custom_status", "custom": text}),
            Action::Change { peer, verb, pick } => {
                json!({"id": id, "do": "change", "peer": peer, "verb": verb, "pick": pick, "text": text})
            }
            Action::Setting { peer, verb } => json!({"id": id, "do": "setting", "peer": peer, "verb": verb}),
            Action::Group { user, verb } => {
                json!({"id": id, "do": "group", "user": user, "verb": verb, "text": text})
            }
            Action::Club { user, verb } => {
                json!({"id": id, "do": "club", "user": user, "verb": verb, "text": text})
            }
            Action::Room { room, user, verb } => {
                json!({"id": id, "do": "room", "room": room, "user": user, "verb": verb, "text": text})
            }
            Action::Call { users, verb, .. } => {
                json!({"id": id, "do": "call", "call_id": call_id, "users": users, "verb": verb, "text": text})
            }
            Action::Social { peer, action } => {
                let (action, is_mutual) = match action {
                    SocialAction::AddFriend => ("add_friend", false),
                    SocialAction::Apply => ("apply", false),
                    SocialAction::Accept => ("accept", false),
                    SocialAction::Reject => ("reject", false),
                    SocialAction::DeleteFriend { is_mutual } => ("delete_friend", *is_mutual),
                    SocialAction::Alias => ("alias", false),
                    SocialAction::Block => ("block", false),
                    SocialAction::Unblock => ("unblock", false),
                    SocialAction::Subscribe => ("subscribe", false),
                    SocialAction::Unsubscribe => ("unsubscribe", false),
                };
                json!({"id": id, "do": action, "peer": peer, "text": text, "is_mutual": is_mutual})
            }
        };
        process.write_line(&command.to_string());
    }

    /// Sends a command without waiting for the answer.
    pub(crate) fn send_command(&mut self, mut command: Value, record: &Record) {
        if let Some(process) = &mut self.process {
            command["id"] = record.query(self.number).0.into();
            process.write_line(&command.to_string());
        }
    }

    /// Sends a command of the harness and waits for its answer. If it finds no connection, it is sent again: a device may begin a new
    /// one at any time.
    pub(crate) async fn query(&mut self, command: Value, record: &Record) -> anyhow::Result<Value> {
        let until = Instant::now() + TIMEOUT;
        let no_connection = (ErrorCode::NetworkModuleNetworkError as i32).to_string();
        loop {
            let answer = self.query_once(command.clone(), record).await?;
            match answer["error"].as_str() {
                None => return Ok(answer),
                Some(error) if error.starts_with(&no_connection) && Instant::now() < until => sleep(RETRY).await,
                Some(error) => anyhow::bail!("device {}: {command}: {error}", self.number),
            }
        }
    }

    async fn query_once(&mut self, mut command: Value, record: &Record) -> anyhow::Result<Value> {
        let process = self.process.as_mut().context("the device is closed")?;
        let (id, answer) = record.query(self.number);
        command["id"] = id.into();
        process.write_line(&command.to_string());
        let Ok(answer) = timeout(TIMEOUT, answer).await else {
            let why = if process.is_alive() { "does not answer" } else { "ended by itself" };
            let log = std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default();
            let panic: Vec<&str> = log.lines().skip_while(|line| !line.contains("panicked")).take(2).collect();
            anyhow::bail!("device {} {why}: {command}; {}", self.number, panic.join(" "));
        };
        answer.with_context(|| format!("device {} has ended", self.number))
    }
}
