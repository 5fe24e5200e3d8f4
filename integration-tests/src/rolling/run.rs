//! From two nodes of one version to two of the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use zim_protocol::{GroupAdvancedConfig, GroupInfo};

use super::ledger::{Ledger, differences};
use super::people::{GROUP, PATIENCE, PLACES, POLL, Person, Place, USERS, exchange};
use crate::day::{Host, ServerProgram};
use crate::folder::share_identity;
use crate::nats::Nats;
use crate::postgres::Cluster;

/// A fault that the checks must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The second message of a conversation is deleted from the database.
    ForgetsAMessage,
}

/// What an upgrade is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The version before.
    pub old: ServerProgram,
    /// The version after.
    pub new: ServerProgram,
    /// How long users write to each other before the first node is replaced, while both versions run, and after the second.
    pub stage: Duration,
    /// An empty folder for the nodes.
    pub folder: PathBuf,
    /// A fault.
    pub planted: Option<Planted>,
}

/// An upgrade that is over.
#[derive(Debug)]
pub struct Upgrade {
    /// The last migrations of the old and of the new version.
    pub schemas: (i64, i64),
    /// Messages that were sent.
    pub sent: usize,
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// Why other messages were not acknowledged, and how often.
    pub refusals: BTreeMap<String, usize>,
    /// Errors in the logs of the nodes.
    pub errors: Vec<String>,
    /// What is wrong; empty if nothing is.
    pub violations: Vec<String>,
}

/// Two nodes, and what they share.
struct Deployment {
    postgres: Cluster,
    url: String,
    nodes: [Host; 2],
    settings: Settings,
    /// The settings of all nodes.
    shared: Vec<String>,
    _bus: Nats,
}

/// Replaces two nodes, one after the other, while users write to each other.
///
/// # Errors
/// PostgreSQL or NATS is missing, a node does not start or stop, or a device cannot log in. What is wrong with what happened is in
/// the upgrade.
pub async fn run(settings: Settings) -> anyhow::Result<Upgrade> {
    let (stage, new, planted) = (settings.stage, settings.new.clone(), settings.planted);
    let mut deployment = Deployment::start(settings).await?;
    let before = deployment.schema()?;
    let people = deployment.log_in(PLACES.into_iter()).await?;
    let [ann, bob] = [&*people[0], &*people[1]];
    make_group(ann).await?;
    for person in people.iter().filter(|person| person.place.is_in_room) {
        person.enters().await?;
    }

    let (ledger, is_over): (Arc<Mutex<Ledger>>, Arc<AtomicBool>) = Default::default();
    let talk = |person: &Arc<Person>| tokio::spawn(Arc::clone(person).talk(Arc::clone(&ledger), Arc::clone(&is_over)));
    let talks: Vec<_> = people.iter().map(talk).collect();
    let mut violations = exchange([ann, bob], &ledger, "two old nodes").await;
    sleep(stage).await;
    for (number, when) in ["the first node is new", "two new nodes"].into_iter().enumerate() {
        deployment.nodes[number].stop().await.with_context(|| format!("node {number}, old"))?;
        let other = deployment.address(1 - number)?;
        people.iter().for_each(|person| person.moves_to(other));
        deployment.nodes[number].replace(new.clone());
        deployment.nodes[number].start().await.with_context(|| format!("node {number}, new"))?;
        violations.extend(deployment.until_ready(number).await);
        violations.extend(exchange([ann, bob], &ledger, when).await);
        let other = &mut deployment.nodes[1 - number];
        if !other.is_alive() {
            violations.push(format!("{when}: the other node has ended: {}", other.last_of_log()));
        }
        if number == 0 && deployment.schema()? > before {
            violations.extend(deployment.is_refused_beside().await);
        }
        sleep(stage).await;
    }
    is_over.store(true, Ordering::Release);
    for talk in talks {
        talk.await?;
    }

    violations.extend(told(&people, &ledger).await);
    if planted == Some(Planted::ForgetsAMessage) {
        let sql = "DELETE FROM message WHERE id = (SELECT MAX(id) FROM message WHERE seq = 2)";
        deployment.postgres.sql_in(&deployment.url, sql)?;
    }
    // New devices, which have nothing but what the server has. Each node serves some.
    let new_device =
        |(index, user)| Place { label: "new device", user, node: index % 2, roams: false, is_in_room: false };
    let fresh = deployment.log_in(USERS.into_iter().enumerate().map(new_device)).await?;
    let all: Vec<&Person> = people.iter().chain(&fresh).map(|person| &**person).collect();
    violations.extend(histories(&all, &ledger).await);
    violations.extend(deployment.failed_tasks().await?);
    let after = deployment.schema()?;
    for person in all {
        person.device().quit().await;
    }
    for node in &mut deployment.nodes {
        node.stop().await?;
    }
    let errors = deployment.nodes.iter().flat_map(|node| node.complaints().0).collect();
    let ((sent, acknowledged), refusals) = {
        let ledger = ledger.lock();
        (ledger.counts(), ledger.refusals())
    };
    Ok(Upgrade { schemas: (before, after), sent, acknowledged, refusals, errors, violations })
}

impl Deployment {
    /// Starts two nodes of the old version.
    async fn start(settings: Settings) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&settings.folder)?;
        let (postgres, bus) = (Cluster::start()?, Nats::start()?);
        let url = postgres.create_database("rolling")?;
        // No files are sent.
        let shared = vec![format!("database={url}"), format!("bus={}", bus.url()), "https=off".to_owned()];
        let nodes = [0, 1].map(|number| {
            let folder = settings.folder.join(format!("node-{number}"));
            Host::new(settings.old.clone(), &folder, shared.clone())
        });
        let mut deployment = Self { postgres, url, nodes, settings, shared, _bus: bus };
        deployment.nodes[0].start().await.context("the first old node")?;
        share_identity(deployment.nodes[0].folder(), deployment.nodes[1].folder());
        deployment.nodes[1].start().await.context("the second old node")?;
        for number in [0, 1] {
            let problem = deployment.until_ready(number).await;
            ensure!(problem.is_none(), "{}", problem.unwrap_or_default());
        }
        Ok(deployment)
    }

    /// Returns the address of a node.
    fn address(&self, number: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.nodes[number].address().parse()?)
    }

    /// Returns the last migration.
    fn schema(&self) -> anyhow::Result<i64> {
        Ok(self.postgres.sql_in(&self.url, "SELECT MAX(version) FROM schema_migration")?.parse()?)
    }

    /// Logs devices in.
    async fn log_in(&self, places: impl Iterator<Item = Place>) -> anyhow::Result<Vec<Arc<Person>>> {
        let app = self.nodes[0].first_app()?;
        let mut people = Vec::new();
        for (number, place) in places.enumerate() {
            let node = self.address(place.node)?;
            let person = Box::pin(Person::log_in(number, place, &app, node)).await;
            people.push(person.with_context(|| format!("the {} of {}", place.label, place.user))?);
        }
        Ok(people)
    }

    /// Waits until a node is ready and hears the other one. Returns a violation if that takes too long.
    async fn until_ready(&self, number: usize) -> Option<String> {
        let begun = Instant::now();
        loop {
            let readiness = self.nodes[number].readiness().await;
            if readiness.as_deref() == Some("ready") {
                return None;
            }
            if begun.elapsed() > PATIENCE {
                let said = readiness.unwrap_or_default();
                return Some(format!("node {number} is not ready: {said:?} {}", self.nodes[number].last_of_log()));
            }
            sleep(POLL).await;
        }
    }

    /// Starts another node of the old version, which must say that the schema is newer.
    async fn is_refused_beside(&self) -> Option<String> {
        let folder = self.settings.folder.join("node-late");
        share_identity(self.nodes[0].folder(), &folder);
        let mut late = Host::new(self.settings.old.clone(), &folder, self.shared.clone());
        match late.start().await {
            Ok(()) => Some("an old node starts on the newer schema".to_owned()),
            Err(error) if error.to_string().contains("newer than this server") => None,
            Err(error) => {
                Some(format!("an old node does not start on the newer schema, and does not say why: {error:#}"))
            }
        }
    }

    /// Returns the tasks, and the entries of the outbox, that still fail after a while.
    async fn failed_tasks(&self) -> anyhow::Result<Option<String>> {
        let sql = "SELECT 'task', kind, last_error FROM scheduled_task WHERE attempts > 0 \
                   UNION ALL SELECT 'outbox', kind, last_error FROM outbox WHERE attempts > 0";
        let begun = Instant::now();
        loop {
            let failed = self.postgres.sql_in(&self.url, sql)?;
            if failed.is_empty() {
                return Ok(None);
            }
            if begun.elapsed() > PATIENCE {
                return Ok(Some(format!("tasks fail: {failed}")));
            }
            sleep(POLL).await;
        }
    }
}

/// Makes the group of all users.
async fn make_group(owner: &Person) -> anyhow::Result<()> {
    let info = GroupInfo { group_id: GROUP.to_owned(), group_name: GROUP.to_owned(), ..GroupInfo::default() };
    let others = USERS.into_iter().filter(|user| *user != owner.place.user);
    Box::pin(owner.device().create_group(info, others, GroupAdvancedConfig::default())).await?;
    Ok(())
}

/// All devices say a last word on each way, so that what comes late has come. Returns what devices were not told of, or twice.
async fn told(people: &[Arc<Person>], ledger: &Mutex<Ledger>) -> Vec<String> {
    for person in people {
        for to in person.conversations() {
            person.say(ledger, to).await;
        }
    }
    let begun = Instant::now();
    let is_complete = |person: &Arc<Person>| {
        let (number, user) = person.in_ledger();
        ledger.lock().missing(number, user, &person.told()).is_empty()
    };
    while !people.iter().all(is_complete) && begun.elapsed() < PATIENCE {
        sleep(POLL).await;
    }
    people.iter().flat_map(|person| ledger.lock().told(&person.name(), person.in_ledger(), &person.told())).collect()
}

/// Compares the histories that devices have, with each other and with what was acknowledged.
async fn histories(people: &[&Person], ledger: &Mutex<Ledger>) -> Vec<String> {
    let mut conversations = vec![None];
    for (index, one) in USERS.into_iter().enumerate() {
        conversations.extend(USERS.into_iter().skip(index + 1).map(|two| Some((one, two))));
    }
    let mut violations = Vec::new();
    for peers in conversations {
        let name = peers.map_or_else(|| GROUP.to_owned(), |(one, two)| format!("{one} and {two}"));
        let mut all = Vec::new();
        for person in people {
            let user = person.place.user;
            let with = match peers {
                Some((one, two)) if user == one => Some(two),
                Some((one, two)) if user == two => Some(one),
                Some(_) => continue,
                None => None,
            };
            let label = person.name();
            let history = person.history(with).await;
            violations.extend(ledger.lock().stored(&format!("the history of {name} on {label}"), peers, &history));
            all.push((label, history));
        }
        violations.extend(differences(&name, &all));
    }
    violations
}
