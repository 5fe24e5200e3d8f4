//! The servers of a run: one, or two nodes with what they share. A harness of nodes is their supervisor, too: it starts a node again
//! that has ended because its lease had.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::frame_proxy::Planted;
use super::kind::Kind;
use super::lease;
use super::link::{Link, Relays, Way};
use super::node_plan::NodeFault;
use super::plan::{Fault, Plan};
use super::record::Record;
use super::statements::{Edit, without_lease};
use super::store::Store;
use super::testbed::Programs;
use crate::folder::share_identity;
use crate::nats::Nats;
use crate::process::{ServerInstallation, ServerProcess};

/// The lease of nodes, milliseconds.
pub(super) const LEASE_MS: u32 = 4_000;
/// How far the clocks of two nodes are from the right time, milliseconds.
const APART_MS: i64 = 300_000;
/// How long a node may take to end that has lost its lease, and to serve when nothing fails any more.
const END: Duration = Duration::from_secs(20);
const SERVE: Duration = Duration::from_secs(60);
/// The time limit of a command while anything may fail.
const COMMAND: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Changes nothing, and fails on a node that may no longer write.
const NO_TASKS: &str = "tasks 0 0";

/// How a node reaches what it needs.
#[derive(Debug)]
struct Links {
    database: Link,
    bus: Link,
}

/// A server of a run.
#[derive(Debug)]
struct Node {
    installation: ServerInstallation,
    server: Option<ServerProcess>,
    links: Option<Links>,
    /// Whether it should run. A killed server does not start by itself.
    is_wanted: bool,
    paused_at: Option<Instant>,
    database_cut_at: Option<Instant>,
    bus_cut_at: Option<Instant>,
}

/// NATS, and when it was killed.
#[derive(Debug)]
struct Bus {
    nats: Nats,
    killed_at: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Servers {
    record: Record,
    nodes: Vec<Node>,
    bus: Option<Bus>,
    _relays: Option<Relays>,
    /// Who executes the next command that any node may.
    turn: usize,
    /// Whether the clocks can be set.
    is_free: bool,
    /// Servers that ended by themselves.
    pub(super) crashed: usize,
    /// Nodes that ended because their lease had.
    pub(super) lost_leases: usize,
    /// Tasks that stopped servers left behind.
    pub(super) leaked_tasks: usize,
    /// Nodes that served although their lease had ended.
    pub(super) undead: Vec<String>,
}

impl Servers {
    /// Starts the servers of a plan.
    ///
    /// # Errors
    /// One of them does not start.
    pub(super) async fn start(
        (plan, planted): (&Plan, Option<Planted>),
        programs: &Programs,
        folder: &Path,
        store: &Store,
        record: &Record,
    ) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        let (relays, bus) = match plan.nodes {
            1 => (None, None),
            _ => (Some(Relays::new()?), Some(Bus { nats: Nats::private(&[])?, killed_at: None })),
        };
        for at in 0..plan.nodes {
            let name = if at == 0 { "server".to_owned() } else { format!("server{at}") };
            let mut installation = ServerInstallation::new(&programs.server, folder.join(name), store.url());
            (installation.is_hasty, installation.keeps_rooms) = (true, plan.keeps_rooms());
            let mut links = None;
            if let (Some(relays), Some(bus)) = (&relays, &bus) {
                let edit = (planted == Some(Planted::IgnoresLease) && at == 0).then_some(without_lease as Edit);
                let (database, database_url) = link(relays, &store.url(), edit)?;
                let (bus, bus_url) = link(relays, bus.nats.url(), None)?;
                (installation.database, installation.node) = (database_url, Some((bus_url, LEASE_MS)));
                installation.is_supervised = true;
                if plan.has(Kind::ClocksApart) {
                    installation.ahead_ms = if at == 0 { APART_MS } else { -APART_MS };
                }
                links = Some(Links { database, bus });
            }
            let is_wanted = true;
            let (server, paused_at, database_cut_at, bus_cut_at) = (None, None, None, None);
            nodes.push(Node { installation, server, links, is_wanted, paused_at, database_cut_at, bus_cut_at });
        }
        let mut servers = Self {
            record: record.clone(),
            nodes,
            bus,
            _relays: relays,
            turn: 0,
            is_free: false,
            crashed: 0,
            lost_leases: 0,
            leaked_tasks: 0,
            undead: Vec::new(),
        };
        servers.start_all(store).await?;
        // Creates the tables of the tasks.
        servers.run(NO_TASKS).await?;
        if servers.are_nodes() {
            lease::watch(store)?;
        }
        Ok(servers)
    }

    /// Whether they are nodes of one deployment.
    pub(super) fn are_nodes(&self) -> bool {
        self.bus.is_some()
    }

    /// Whether they keep what is said in rooms.
    pub(super) fn keep_rooms(&self) -> bool {
        self.nodes.iter().all(|node| node.installation.keeps_rooms)
    }

    /// Returns the address of the server that a device with this number uses at first.
    pub(super) fn address(&self, device: usize) -> SocketAddr {
        let node = &self.nodes[device % self.nodes.len()];
        (Ipv4Addr::LOCALHOST, node.installation.port).into()
    }

    /// Returns what the first server has written about itself.
    pub(super) fn first(&self) -> &ServerInstallation {
        &self.nodes[0].installation
    }

    /// Reads the certificate.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn certificate(&self) -> anyhow::Result<CertificateDer<'static>> {
        self.first().certificate()
    }

    /// Returns what all servers have logged.
    pub(super) fn logs(&self) -> String {
        self.nodes.iter().map(|node| std::fs::read_to_string(node.installation.log()).unwrap_or_default()).collect()
    }

    /// Returns the process IDs of the servers that run.
    pub(super) fn processes(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().filter_map(|node| node.server.as_ref().map(ServerProcess::id))
    }

    /// Takes a server if it runs. One that has ended by itself is counted.
    fn take(&mut self, at: usize) -> Option<ServerProcess> {
        let node = &mut self.nodes[at];
        node.paused_at = None;
        let mut server = node.server.take()?;
        if server.is_alive() {
            return Some(server);
        }
        if server.has_lost_its_database() {
            self.lost_leases += 1;
            self.record.note(format!("server {at} has ended because it had lost its lease"));
        } else {
            self.crashed += 1;
            self.record.note(format!("server {at} has ended by itself"));
        }
        None
    }

    /// Kills all servers.
    pub(super) fn kill_all(&mut self) {
        for at in 0..self.nodes.len() {
            drop(self.take(at));
            self.nodes[at].is_wanted = false;
        }
    }

    /// Stops all servers as an operator does.
    ///
    /// # Errors
    /// One of them does not end.
    pub(super) async fn stop_all(&mut self) -> anyhow::Result<()> {
        for at in 0..self.nodes.len() {
            self.stop(at).await?;
        }
        Ok(())
    }

    async fn stop(&mut self, at: usize) -> anyhow::Result<()> {
        self.wake(at)?;
        let Some(server) = self.take(at) else { return Ok(()) };
        let node = &mut self.nodes[at];
        node.is_wanted = false;
        let stopped = server.stop().await;
        match stopped {
            // Whoever cannot reach the database, or the bus, may leave something behind.
            Ok(left) if node.is_linked() => self.leaked_tasks += left,
            Ok(_) => {}
            // Its lease may end in the same moment.
            Err(error) if node.links.is_some() => drop(self.record.note(format!("server {at} was killed: {error:#}"))),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Starts a server, unless it runs or cannot.
    async fn start_one(&mut self, at: usize, store: &Store) -> anyhow::Result<()> {
        let is_bus_up = self.bus.as_ref().is_none_or(|bus| bus.killed_at.is_none());
        let (are_nodes, is_free) = (self.are_nodes(), self.is_free);
        if at > 0 && !self.nodes[at].installation.folder.exists() {
            share_identity(&self.nodes[0].installation.folder, &self.nodes[at].installation.folder);
        }
        let node = &mut self.nodes[at];
        node.is_wanted = true;
        if node.server.is_some() || !store.is_up() || !is_bus_up || !node.is_linked() {
            return Ok(());
        }
        let has_run = node.installation.log().exists();
        let mut server = node.installation.start().await?;
        if !(are_nodes && has_run) {
            server.run("poison").await?;
        }
        if is_free {
            server.run("free").await?;
        }
        node.server = Some(server);
        if are_nodes {
            self.record.fault(&Fault::Node(NodeFault::Serves(at)));
        }
        Ok(())
    }

    /// Starts all servers that do not run.
    ///
    /// # Errors
    /// One of them does not start.
    pub(super) async fn start_all(&mut self, store: &Store) -> anyhow::Result<()> {
        for at in 0..self.nodes.len() {
            self.start_one(at, store).await?;
        }
        Ok(())
    }

    /// Starts nodes again that have ended because their lease had, as a supervisor does.
    pub(super) async fn supervise(&mut self, store: &Store) {
        if !self.are_nodes() {
            return;
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].server.as_mut().is_some_and(|server| !server.is_alive()) {
                drop(self.take(at));
            }
            if self.nodes[at].is_wanted
                && let Err(error) = self.start_one(at, store).await
            {
                // In the end it must start.
                self.record.note(format!("server {at} does not start: {error:#}"));
            }
        }
    }

    /// Runs a command on any server that is not disturbed; does nothing if there is none.
    ///
    /// # Errors
    /// The command fails.
    pub(super) async fn run(&mut self, command: &str) -> anyhow::Result<()> {
        for _ in 0..self.nodes.len() {
            self.turn = (self.turn + 1) % self.nodes.len();
            if self.nodes[self.turn].is_undisturbed() {
                return self.run_on(self.turn, command).await.map(drop);
            }
        }
        Ok(())
    }

    async fn run_on(&mut self, at: usize, command: &str) -> anyhow::Result<String> {
        let are_nodes = self.are_nodes();
        let server = self.nodes[at].server.as_mut().with_context(|| format!("server {at} does not run"))?;
        if !are_nodes {
            return server.run(command).await;
        }
        timeout(COMMAND, server.run(command)).await.with_context(|| format!("server {at} does not answer"))?
    }

    /// Lets the clocks of nodes be set: they no longer follow that of the database.
    ///
    /// # Errors
    /// A node fails.
    pub(super) async fn free_clocks(&mut self, store: &Store) -> anyhow::Result<()> {
        self.is_free = true;
        if self.are_nodes() {
            self.on_all("free", store).await?;
        }
        Ok(())
    }

    /// Sets the clocks forward: one server knows how far.
    ///
    /// # Errors
    /// A server fails.
    pub(super) async fn set_forward(&mut self, command: &str, store: &Store) -> anyhow::Result<()> {
        if !self.are_nodes() {
            return self.run(command).await;
        }
        self.supervise(store).await;
        // If one of them ends in this moment, there is another time.
        let Ok(ms) = self.run_on(0, command).await else { return Ok(()) };
        for at in 1..self.nodes.len() {
            drop(self.run_on(at, &format!("jump {ms}")).await);
        }
        Ok(())
    }

    /// Runs a command on all servers until all have executed it. One whose lease has ended is started again.
    async fn on_all(&mut self, command: &str, store: &Store) -> anyhow::Result<()> {
        let until = Instant::now() + SERVE;
        for at in 0..self.nodes.len() {
            loop {
                self.supervise(store).await;
                match self.run_on(at, command).await {
                    Ok(_) => break,
                    Err(error) if Instant::now() > until => return Err(error.context(format!("server {at}"))),
                    Err(_) => sleep(POLL_INTERVAL).await,
                }
            }
        }
        Ok(())
    }

    /// Ends what disturbs nodes: they are connected and run, and so does their bus.
    fn repair(&mut self) -> anyhow::Result<()> {
        if let Some(bus) = &mut self.bus
            && bus.killed_at.take().is_some()
        {
            bus.nats.restart()?;
        }
        for at in 0..self.nodes.len() {
            self.wake(at)?;
            let node = &mut self.nodes[at];
            (node.database_cut_at, node.bus_cut_at) = (None, None);
            if let Some(links) = &node.links {
                links.database.set(Way::Open);
                links.bus.set(Way::Open);
            }
        }
        Ok(())
    }

    /// Kills all servers; then nothing uses the database, and all of them can start.
    ///
    /// # Errors
    /// The bus does not start.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        self.kill_all();
        self.repair()
    }

    /// Ends all faults of servers. The database is up.
    ///
    /// # Errors
    /// A server does not start, or does not serve.
    pub(super) async fn recover(&mut self, store: &Store, room: u64) -> anyhow::Result<()> {
        if !self.are_nodes() {
            self.nodes[0].server = self.take(0);
            self.start_all(store).await?;
            self.limit_files(None)?;
            return self.run(&format!("room {room}")).await;
        }
        self.repair()?;
        self.nodes.iter_mut().for_each(|node| node.is_wanted = true);
        self.on_all(NO_TASKS, store).await?;
        let until = Instant::now() + SERVE;
        loop {
            let ended = (self.lost_leases, self.crashed);
            for at in 0..self.nodes.len() {
                // A node that ends only now is started again, and hears the others a little later.
                while !matches!(self.run_on(at, "bus").await.as_deref(), Ok("up")) {
                    anyhow::ensure!(Instant::now() < until, "server {at} does not hear the others");
                    self.supervise(store).await;
                    sleep(POLL_INTERVAL).await;
                }
                self.record.fault(&Fault::Node(NodeFault::Serves(at)));
            }
            // As long as a node that was killed counts as alive, messages to rooms that it has made go to it.
            let living = "SELECT COUNT(*) FROM server_node WHERE lease_until <> 0";
            while store.rows(living)? != [[self.nodes.len().to_string()]] {
                anyhow::ensure!(Instant::now() < until, "the lease of a node that was killed does not end");
                self.supervise(store).await;
                sleep(POLL_INTERVAL).await;
            }
            // All of them have seen that after the next renewal of their leases. A node whose lease ends before it has ended now.
            sleep(Duration::from_millis(LEASE_MS.into()) / 4).await;
            self.supervise(store).await;
            if ended == (self.lost_leases, self.crashed) {
                return Ok(());
            }
        }
    }

    /// Limits the files of the server; see [`ServerProcess::limit_files`].
    ///
    /// # Errors
    /// The system has no `prlimit`.
    pub(super) fn limit_files(&self, bytes: Option<u64>) -> anyhow::Result<()> {
        self.nodes[0].server.as_ref().map_or(Ok(()), |server| server.limit_files(bytes))
    }

    /// Lets a paused process run again.
    fn wake(&mut self, at: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[at];
        match (node.paused_at.take(), &node.server) {
            (Some(_), Some(server)) => server.signal("CONT"),
            _ => Ok(()),
        }
    }

    /// Injects a fault of nodes, or ends one.
    ///
    /// # Errors
    /// The harness itself fails.
    pub(super) async fn inject(&mut self, fault: NodeFault, store: &Store) -> anyhow::Result<()> {
        match fault {
            NodeFault::Kill(at) => {
                drop(self.take(at));
                self.nodes[at].is_wanted = false;
            }
            NodeFault::Start(at) => {
                self.nodes[at].is_wanted = true;
                self.supervise(store).await;
            }
            NodeFault::Stop(at) => self.stop(at).await?,
            NodeFault::Pause(at) => {
                let node = &mut self.nodes[at];
                if let Some(server) = &mut node.server
                    && server.is_alive()
                    && node.paused_at.is_none()
                {
                    server.signal("STOP")?;
                    node.paused_at = Some(Instant::now());
                }
            }
            NodeFault::Resume { node: at, after_ms } => {
                if let Some(paused_at) = self.nodes[at].paused_at {
                    let lasted = lasts(paused_at, after_ms).await;
                    self.wake(at)?;
                    self.has_ended(at, lasted, store).await;
                }
            }
            NodeFault::CutDatabase { node: at, hangs } => {
                let node = &mut self.nodes[at];
                node.cut(|links| &links.database, hangs);
                node.database_cut_at.get_or_insert_with(Instant::now);
            }
            NodeFault::JoinDatabase { node: at, after_ms } => {
                if let Some(cut_at) = self.nodes[at].database_cut_at {
                    let lasted = lasts(cut_at, after_ms).await;
                    // It ends without the database. One that is paused ends when it runs again, which is checked then.
                    if self.nodes[at].paused_at.is_none() {
                        self.has_ended(at, lasted, store).await;
                    }
                    self.nodes[at].join(|links| &links.database);
                    self.nodes[at].database_cut_at = None;
                }
            }
            NodeFault::CutBus { node: at, hangs } => {
                let node = &mut self.nodes[at];
                node.cut(|links| &links.bus, hangs);
                node.bus_cut_at.get_or_insert_with(Instant::now);
            }
            NodeFault::JoinBus { node: at, after_ms } => {
                if let Some(cut_at) = self.nodes[at].bus_cut_at.take() {
                    lasts(cut_at, after_ms).await;
                    self.nodes[at].join(|links| &links.bus);
                }
            }
            NodeFault::KillBus => {
                if let Some(bus) = self.bus.as_mut().filter(|bus| bus.killed_at.is_none()) {
                    bus.nats.kill()?;
                    bus.killed_at = Some(Instant::now());
                }
            }
            NodeFault::StartBus { after_ms } => {
                if let Some(bus) = &mut self.bus
                    && let Some(killed_at) = bus.killed_at.take()
                {
                    lasts(killed_at, after_ms).await;
                    bus.nats.restart()?;
                }
            }
            NodeFault::Jump { node: at, ms } => {
                if self.nodes[at].is_undisturbed()
                    && let Err(error) = self.run_on(at, &format!("jump {ms}")).await
                {
                    self.record.note(format!("server {at} has not jumped: {error:#}"));
                }
            }
            // Of devices, and what the harness notes.
            NodeFault::Move { .. } | NodeFault::Serves(_) => {}
        }
        Ok(())
    }

    /// Waits until a node has ended that was paused or cut off for longer than its lease.
    async fn has_ended(&mut self, at: usize, lasted: Duration, store: &Store) {
        if lasted < Duration::from_millis(LEASE_MS.into()) {
            return;
        }
        let until = Instant::now() + END;
        while self.nodes[at].server.as_mut().is_some_and(ServerProcess::is_alive) {
            if Instant::now() > until {
                self.undead.push(format!("server {at} was without its lease for {lasted:?}, and did not end"));
                // So that the run comes to its end.
                drop(self.take(at));
                break;
            }
            sleep(POLL_INTERVAL).await;
        }
        self.supervise(store).await;
    }
}

impl Node {
    /// Whether it reaches what it needs.
    fn is_linked(&self) -> bool {
        self.links.as_ref().is_none_or(|links| links.database.is_open() && links.bus.is_open())
    }

    /// Whether commands can be expected to work.
    fn is_undisturbed(&self) -> bool {
        self.server.is_some() && self.paused_at.is_none() && self.is_linked()
    }

    fn cut(&self, which: impl Fn(&Links) -> &Link, hangs: bool) {
        if let Some(links) = &self.links {
            which(links).set(if hangs { Way::Hangs } else { Way::Broken });
        }
    }

    fn join(&self, which: impl Fn(&Links) -> &Link) {
        if let Some(links) = &self.links {
            which(links).set(Way::Open);
        }
    }
}

/// Starts a relay to the server of a URL. Returns it with the URL that leads to it.
fn link(relays: &Relays, url: &str, edit: Option<Edit>) -> anyhow::Result<(Link, String)> {
    let (before, rest) = url.split_once("127.0.0.1:").context("no local address")?;
    let end = rest.find(|one: char| !one.is_ascii_digit()).unwrap_or(rest.len());
    let (port, after) = rest.split_at(end);
    let link = relays.link((Ipv4Addr::LOCALHOST, port.parse()?).into(), edit)?;
    let url = format!("{before}{}{after}", link.address());
    Ok((link, url))
}

/// Waits until something has lasted for a time, and returns for how long it has.
async fn lasts(since: Instant, after_ms: u64) -> Duration {
    sleep_until(since + Duration::from_millis(after_ms)).await;
    since.elapsed()
}
