//! The testbed of a run: a server, its database, the devices and the proxies between them, and the injection of faults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::action::Action;
use super::device::Device;
use super::frame_proxy::{FrameProxy, Planted};
use super::kind::Kind;
use super::node_plan::NodeFault;
use super::plan::{DEVICES, Fault, Plan, Step, USERS};
use super::raised::received;
use super::record::{Call, Events, Moment, Record};
use super::servers::Servers;
use super::store::{SharedCluster, Store};
use crate::process::FirstApp;
use crate::proxy::{NetworkConditions, Proxy};

/// The worst network over which connections still survive.
const BAD_NETWORK: NetworkConditions = NetworkConditions { lost: 60, duplicated: 50, delayed: 150, delay_ms: 20 };
/// The page limit without a full disk: more than a run needs.
const ROOM: u64 = 1 << 30;

/// The programs of a run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The path of `test-server`.
    pub server: PathBuf,
    /// The path of `test-client`.
    pub client: PathBuf,
}

/// The moments of a backup and its restore, in the order of the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restored {
    /// What was answered before this moment is in the backup.
    pub(super) backup_begun: Moment,
    /// What was called after this moment came after the restore.
    pub(super) done: Moment,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Testbed {
    pub(crate) record: Record,
    pub(crate) devices: Vec<Device>,
    pub(crate) store: Store,
    pub(crate) folder: PathBuf,
    pub(crate) programs: Programs,
    pub(crate) app: FirstApp,
    pub(crate) frame_proxy: Option<FrameProxy>,
    pub(crate) servers: Servers,
    backup_begun: Option<Moment>,
    pub(crate) restored: Option<Restored>,
}

impl Testbed {
    /// Starts the servers and all devices, which begin to log in.
    pub(crate) async fn new(
        plan: &Plan,
        planted: Option<Planted>,
        programs: &Programs,
        folder: &Path,
        cluster: Option<&SharedCluster>,
    ) -> anyhow::Result<Self> {
        let record = Record::default();
        let name = format!("run_{}_{}", plan.seed, std::process::id());
        let store = Store::new(plan.database, folder, &name, cluster)?;
        let servers = Servers::start((plan, planted), programs, folder, &store, &record).await?;
        let app = servers.first().first_app()?;
        let in_frames = planted.filter(|planted| planted.is_in_frames());
        let frame_proxy = match (plan.has(Kind::LastPush), in_frames) {
            (false, None) => None,
            _ => Some(FrameProxy::new(servers.address(FRAME_PROXY_DEVICE), &servers.first().folder, in_frames)?),
        };
        let mut devices = Vec::new();
        for (number, &user) in plan.devices.iter().enumerate() {
            // A planted fault concerns all devices; a dropped push concerns one.
            let via_frame_proxy = frame_proxy.as_ref().filter(|_| in_frames.is_some() || number == FRAME_PROXY_DEVICE);
            let to = via_frame_proxy.map_or_else(|| servers.address(number), FrameProxy::address);
            let proxy = Proxy::to(to, plan.seed.wrapping_mul(100) + number as u64).await;
            let mut device = Device::new(number, user, proxy, folder.join(format!("device{number}")));
            device.open(&programs.client, &app, &record)?;
            devices.push(device);
        }
        Ok(Self {
            record,
            devices,
            store,
            folder: folder.to_owned(),
            programs: programs.clone(),
            app,
            frame_proxy,
            servers,
            backup_begun: None,
            restored: None,
        })
    }

    /// Opens a device without a local database.
    pub(crate) async fn fresh_device(&mut self, number: usize, user: &'static str) -> anyhow::Result<Device> {
        let proxy = Proxy::to(self.servers.address(number), 0).await;
        let mut device = Device::new(number, user, proxy, self.folder.join(format!("device{number}")));
        device.open(&self.programs.client, &self.app, &self.record)?;
        Ok(device)
    }

    /// Executes a step.
    pub(crate) async fn execute(&mut self, step: &Step) -> anyhow::Result<()> {
        self.servers.supervise(&self.store).await;
        match step {
            Step::Action(device, action) => {
                let record = self.record.clone();
                self.devices[*device].perform(action, &record);
                Ok(())
            }
            Step::Wait { answers, at_most_ms } => {
                self.wait(*answers, Duration::from_millis(*at_most_ms)).await;
                Ok(())
            }
            Step::Heard { device, at_most_ms } => {
                self.hear(*device, Duration::from_millis(*at_most_ms)).await;
                Ok(())
            }
            Step::Tasks { count, within_ms } => {
                // The disk may be full, or the database down: then they are not scheduled.
                if let Err(error) = self.servers.run(&format!("tasks {count} {within_ms}")).await {
                    self.record.note(format!("no tasks: {error:#}"));
                }
                Ok(())
            }
            Step::Fault(fault) => {
                self.record.fault(fault);
                self.inject(fault).await.with_context(|| format!("{fault:?}"))
            }
        }
    }

    /// Waits until `answers` of the unanswered calls are answered; false if that takes longer than `at_most`.
    pub(crate) async fn wait(&self, answers: usize, at_most: Duration) -> bool {
        let waiting = || self.record.read(Events::unanswered);
        let enough = waiting().saturating_sub(answers);
        self.until(at_most, || waiting() <= enough).await
    }

    /// Waits until a device has raised the last message to its user that is acknowledged; false if that takes longer than `at_most`.
    async fn hear(&self, device: usize, at_most: Duration) -> bool {
        let is_sent = |call: &&Call| {
            matches!(call.action, Action::Send { peer, .. } if peer == DEVICES[device]) && call.acknowledged().is_some()
        };
        let has_heard = |events: &Events| {
            let mut raised = events.raised.iter().filter(|one| one.device == device).flat_map(received);
            let last = events.calls.iter().rev().find(is_sent);
            last.is_none_or(|last| raised.any(|(_, _, text)| text == last.text))
        };
        self.until(at_most, || self.record.read(has_heard)).await
    }

    /// Waits until the record shows something; false if that takes longer than `at_most`.
    async fn until(&self, at_most: Duration, is_shown: impl Fn() -> bool) -> bool {
        let (mut changes, end) = (self.record.changes(), Instant::now() + at_most);
        while !is_shown() {
            changes.borrow_and_update();
            if !is_shown() && timeout_at(end, changes.changed()).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn inject(&mut self, fault: &Fault) -> anyhow::Result<()> {
        let record = self.record.clone();
        match *fault {
            Fault::Cut(device) => self.devices[device].proxy.cut(),
            Fault::Reconnect(device) => self.devices[device].proxy.restore(),
            Fault::BadNetwork(device) => self.devices[device].proxy.set_conditions(BAD_NETWORK),
            Fault::GoodNetwork(device) => self.devices[device].proxy.set_conditions(NetworkConditions::default()),
            Fault::NewAddress(device) => self.devices[device].proxy.change_source_ports(),
            Fault::KillServer => self.servers.kill_all(),
            Fault::StopServer => self.servers.stop_all().await?,
            Fault::StartServer => self.servers.start_all(&self.store).await?,
            Fault::KillDevice(device) => self.devices[device].kill(&record)?,
            Fault::CloseDevice(device) => self.devices[device].close(&record).await?,
            Fault::OpenDevice(device) => self.devices[device].open(&self.programs.client, &self.app, &record)?,
            Fault::DiskFull { pages } => self.servers.run(&format!("room {pages}")).await?,
            Fault::DiskFreed => self.servers.run(&format!("room {ROOM}")).await?,
            Fault::WriteFails { bytes } => {
                let limit = self.store.log_bytes() + bytes;
                self.servers.limit_files(Some(limit))?;
            }
            Fault::WriteWorks => self.servers.limit_files(None)?,
            Fault::JumpServer { ms } => self.servers.run(&format!("jump {ms}")).await?,
            Fault::JumpDevice { device, ms } => {
                self.devices[device].send_command(json!({"do": "jump", "ms": ms}), &record);
            }
            Fault::KillPostgres => {
                if self.store.is_up() {
                    self.store.kill()?;
                }
            }
            Fault::StartPostgres => self.store.start()?,
            Fault::Backup => self.back_up().await?,
            Fault::Restore => self.restore().await?,
            Fault::Retain => self.retain().await?,
            Fault::Node(NodeFault::Move { device, node }) => {
                self.devices[device].proxy.set_server(self.servers.address(node));
            }
            Fault::Node(fault) => self.servers.inject(fault, &self.store).await?,
        }
        Ok(())
    }

    async fn retain(&mut self) -> anyhow::Result<()> {
        self.recover().await?;
        // A message that is sent again later must find its key in the log.
        self.wait(usize::MAX, super::TIMEOUT).await;
        let record = self.record.clone();
        for device in &mut self.devices {
            let user = device.user;
            for peer in USERS.into_iter().filter(|peer| *peer != user) {
                device.perform(&Action::Clear { peer }, &record);
            }
        }
        self.wait(usize::MAX, super::TIMEOUT).await;
        self.servers.run("retain").await
    }

    async fn back_up(&mut self) -> anyhow::Result<()> {
        self.store.start()?;
        // PostgreSQL copies only a database that is not in use.
        let is_online = matches!(self.store, Store::Sqlite { .. });
        let begun = self.record.note("the backup begins");
        if is_online {
            self.servers.start_all(&self.store).await?;
            self.store.back_up()?;
        } else {
            self.servers.clear()?;
            self.store.back_up()?;
            self.servers.start_all(&self.store).await?;
        }
        self.backup_begun = Some(begun);
        Ok(())
    }

    async fn restore(&mut self) -> anyhow::Result<()> {
        let Some(backup_begun) = self.backup_begun else { return Ok(()) };
        self.store.start()?;
        self.servers.clear()?;
        self.store.restore()?;
        self.servers.first().new_epoch()?;
        self.servers.start_all(&self.store).await?;
        let done = self.record.note("the backup is restored");
        self.restored = Some(Restored { backup_begun, done });
        Ok(())
    }

    /// Ends all faults, except for devices that are away.
    pub(crate) async fn recover(&mut self) -> anyhow::Result<()> {
        self.store.start()?;
        self.servers.recover(&self.store, ROOM).await?;
        let record = self.record.clone();
        for device in &mut self.devices {
            device.proxy.restore();
            device.proxy.set_conditions(NetworkConditions::default());
            device.send_command(json!({"do": "network_changed"}), &record);
        }
        Ok(())
    }
}

/// The device that connects through the frame proxy when a single push is dropped.
pub(crate) const FRAME_PROXY_DEVICE: usize = 4;
