//! A server as a process, which tests kill. `test-server FOLDER DATABASE PORT` (an empty database means SQLite in the
//! folder, port 0 any port; then the bus and the lease of a node in milliseconds, `keeps-rooms` for the history of rooms, `hasty` for
//! short times of rooms and calls, and `supervised=AHEAD` for a node as in production, whose clock is so many milliseconds ahead until
//! it is corrected) prints its address on the first line, reads commands from stdin, one per line, and answers each with `done` or an error. It
//! ends at the end of stdin. `test-server new-epoch FOLDER DATABASE` does what an
//! operator does after a restore, and `test-server migrate FOLDER TO` copies the SQLite database of the folder to PostgreSQL.
//!
//! It injects faults through the public API of the embedded server: statements on the writing connection, and a clock.
//! The released server contains none of this.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use zim_integration_tests::{DATABASE_LOST, print_line, stdin_lines, ticking_clock};
use zim_protocol::clock::Clock;
use zim_server::app::App;
use zim_server::bus::BusState;
use zim_server::config::Config;
use zim_server::db::{Dialect, Scope, Tx, params};
use zim_server::error::Error;
use zim_server::key::AppKey;
use zim_server::task::{self, TaskKind};
use zim_server::{Server, run};

/// A task whose effect is a row: if it took effect twice, there would be two.
static COUNT: TaskKind<App> = TaskKind {
    number: 1_000,
    name: "count",
    // In one of the partitions.
    scope: |subject| Scope::name(AppKey(0), &subject.to_string()),
    run: |_, tx, _, due| {
        Box::pin(async move {
            let sql = "INSERT INTO task_effect (subject, now) VALUES ($1, $2)";
            tx.execute(sql, &params![due.subject, due.now]).await?;
            Ok(())
        })
    },
};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let supervised = arguments.pop_if(|last| last.starts_with("supervised="));
    let ahead_ms = supervised.and_then(|last| last.split_once('=')).map(|(_, ahead)| ahead.parse()).transpose()?;
    let is_hasty = arguments.pop_if(|last| *last == "hasty").is_some();
    let keeps_rooms = arguments.pop_if(|last| *last == "keeps-rooms").is_some();
    match arguments.as_slice() {
        ["new-epoch", folder, database] => {
            let arguments = ["zim-server", "--data-dir", folder, "--database", database, "new-epoch"];
            Ok(run::run(arguments.map(Into::into), []))
        }
        ["migrate", folder, to] => {
            let arguments = ["zim-server", "--data-dir", folder, "--to", to, "migrate"];
            Ok(run::run(arguments.map(Into::into), []))
        }
        [folder, database, port, node @ ..] => {
            let mut config = Config::local(folder);
            // Several on any machine, so that they meet.
            config.database_partitions = 4;
            config.database = database.parse()?;
            config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().context("PORT")?));
            config.rooms.history = keeps_rooms;
            if is_hasty {
                config.limits.room_grace_ms = 1_000;
                config.limits.call_received_within_ms = 300;
                config.limits.max_call_s = 600;
            }
            if let [bus, lease_ms] = node {
                config.bus = bus.parse()?;
                config.node_lease_ms = lease_ms.parse().context("LEASE")?;
                let shared = config.data_dir.with_file_name("media");
                config.media.store = shared.to_string_lossy().parse()?;
            }
            let many = 1_000_000;
            config.limits.message_burst = many;
            config.limits.request_burst = many;
            config.limits.pull_burst = many;
            config.limits.stop_timeout_ms = 1_000;
            tokio::runtime::Runtime::new()?.block_on(serve(config, ahead_ms))
        }
        _ => anyhow::bail!("test-server FOLDER DATABASE PORT [BUS LEASE] [keeps-rooms] [hasty] [supervised=AHEAD]"),
    }
}

/// `ahead_ms`: the node is supervised, and its clock is so far ahead.
async fn serve(config: Config, ahead_ms: Option<i64>) -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("ZIM_TEST_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let clock = ticking_clock();
    if let Some(ahead_ms) = ahead_ms {
        clock.jump(ahead_ms);
        clock.take_corrections(true);
    }
    let server = Server::start_with_tasks(config, clock.clone(), &[&COUNT]).await?;
    print_line(server.local_addr());
    let mut commands = stdin_lines();
    let mut left = 0;
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            reason = server.database_lost(), if ahead_ms.is_some() => {
                tracing::error!(reason, "the server stops");
                // What is left behind waits for a database that does not respond.
                server.stop().await;
                return Ok(ExitCode::from(DATABASE_LOST));
            }
        };
        let Some(command) = command else { break };
        if command == "stop" {
            left = server.stop().await;
            print_line(format_args!("done {left}"));
            break;
        }
        match execute(&server, &clock, &command).await {
            Ok(answer) => print_line(format_args!("done {answer}")),
            Err(error) => print_line(format_args!("{error:#}")),
        }
    }
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How often setting the page limit is tried.
const ROOM_TRIES: u32 = 50;

/// Executes a command, and returns what it answers.
async fn execute(server: &Server, clock: &Clock, command: &str) -> anyhow::Result<String> {
    let mut answer = String::new();
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    match word {
        // Sets the clock, in milliseconds from its present time.
        "jump" => clock.jump(rest.parse()?),
        // Limits the database to this many pages more than it uses.
        "room" => {
            let pages: u64 = rest.parse()?;
            let mut done = Ok(());
            // It writes nothing itself, but another job of its transaction may meet another fault.
            for _ in 0..ROOM_TRIES {
                done = job(server, async move |tx| room(tx, pages).await).await;
                if done.is_ok() {
                    break;
                }
            }
            done?;
        }
        // Makes messages that contain "poison" fail to be stored.
        "poison" => job(server, async |tx| poison(tx).await).await?,
        // Deletes the messages that all members have read.
        "retain" => job(server, async |tx| retain(tx).await).await?,
        // Schedules this many tasks, due within some milliseconds.
        "tasks" => {
            let (count, within_ms) = rest.split_once(' ').context("tasks COUNT MILLISECONDS")?;
            let (count, within_ms, now) = (count.parse()?, within_ms.parse()?, clock.now_ms());
            job(server, async move |tx| schedule(tx, count, within_ms, now).await).await?;
        }
        // Sets the clock forward until all of them are due, and says how far.
        "tasks_due" => {
            let last = server.app().db.read(async |tx| last_task(tx).await).await;
            let last = last.map_err(|error| anyhow::anyhow!("{error}: {:?}", error.cause()))?;
            answer = set_forward(clock, last).to_string();
        }
        // Sets the clock forward until the next times of all running calls have come, and says how far.
        "calls_due" => {
            let last = server.app().db.read(async |tx| last_of_calls(tx).await).await;
            let last = last.map_err(|error| anyhow::anyhow!("{error}: {:?}", error.cause()))?;
            answer = set_forward(clock, last).to_string();
        }
        // The clock no longer follows that of the database, so that it can be set.
        "free" => clock.take_corrections(false),
        // Answers what it is asked: a trace of what the process does shows when that was.
        "mark" => answer = command.to_owned(),
        // Waits for the disk less often than it must: OFF or NORMAL. A fault that only a power cut shows.
        "synchronous" => {
            let level = rest.to_owned();
            job(server, async move |tx| synchronous(tx, &level).await).await?;
        }
        // Says whether hints reach the other nodes.
        "bus" => answer = if server.app().bus().state() == BusState::Down { "down" } else { "up" }.to_owned(),
        _ => anyhow::bail!("unknown command {command:?}"),
    }
    Ok(answer)
}

/// Sets the clock forward to a time, if that has not come. Returns how far.
fn set_forward(clock: &Clock, to: i64) -> i64 {
    let ms = (to - clock.now_ms()).max(0);
    clock.jump(ms);
    ms
}

async fn schedule(tx: &mut Tx<'_>, count: i64, within_ms: i64, now: i64) -> Result<(), Error> {
    for table in
        ["task_wanted (subject BIGINT PRIMARY KEY, at BIGINT NOT NULL)", "task_effect (subject BIGINT, now BIGINT)"]
    {
        tx.execute(&format!("CREATE TABLE IF NOT EXISTS {table}"), &[]).await?;
    }
    let last = tx.fetch_one("SELECT COALESCE(MAX(subject), 0) FROM task_wanted", &[]).await?;
    let last: i64 = last.map_or(Ok(0), |row| row.get(0))?;
    for number in 0..count {
        let (subject, at) = (last + 1 + number, now + within_ms * number / count);
        tx.execute("INSERT INTO task_wanted (subject, at) VALUES ($1, $2)", &params![subject, at]).await?;
        task::schedule(tx, &COUNT, subject, at).await?;
    }
    Ok(())
}

/// Returns when the last task is due that has not failed too often.
async fn last_task(tx: &mut Tx<'_>) -> Result<i64, Error> {
    let sql = "SELECT COALESCE(MAX(next_at), 0) FROM scheduled_task WHERE kind = $1 AND next_at < $2";
    let row = tx.fetch_one(sql, &params![COUNT.number, i64::MAX]).await?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}

/// Returns the last of the times at which something happens to a running call by itself.
async fn last_of_calls(tx: &mut Tx<'_>) -> Result<i64, Error> {
    let sql = "SELECT COALESCE(MAX(timer_at), 0) FROM chat_call WHERE state = $1";
    let row = tx.fetch_one(sql, &params![zim_protocol::CallState::Started as i64]).await?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}

/// Runs a job on the writing connection.
async fn job(
    server: &Server,
    job: impl AsyncFnOnce(&mut Tx<'_>) -> Result<(), Error> + Send + 'static,
) -> anyhow::Result<()> {
    let done = server.app().db.submit(Scope::none(), job).await;
    done.map_err(|error| anyhow::anyhow!("{error}: {:?}", error.cause()))
}

async fn room(tx: &mut Tx<'_>, pages: u64) -> Result<(), Error> {
    if tx.dialect() == Dialect::Postgres {
        // PostgreSQL has no such limit.
        return Ok(());
    }
    let used = tx.fetch_one("PRAGMA page_count", &[]).await?;
    let used: i64 = used.map_or(Ok(0), |row| row.get(0))?;
    tx.fetch(&format!("PRAGMA max_page_count = {}", used.unsigned_abs().saturating_add(pages)), &[]).await?;
    Ok(())
}

async fn synchronous(tx: &mut Tx<'_>, level: &str) -> Result<(), Error> {
    // SQLite refuses it within a transaction, so it comes between two. The server ends the second one, which has the savepoint that
    // other jobs of the first one expect.
    for statement in ["COMMIT", &format!("PRAGMA synchronous = {level}"), "BEGIN IMMEDIATE", "SAVEPOINT job"] {
        tx.execute(statement, &[]).await?;
    }
    Ok(())
}

async fn poison(tx: &mut Tx<'_>) -> Result<(), Error> {
    let statements: &[&str] = match tx.dialect() {
        Dialect::Sqlite => &["CREATE TRIGGER IF NOT EXISTS poison BEFORE INSERT ON message \
             WHEN instr(NEW.body, x'706f69736f6e') > 0 BEGIN SELECT RAISE(ABORT, 'poison'); END"],
        Dialect::Postgres => &[
            "CREATE OR REPLACE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
             IF position(''poison''::bytea IN NEW.body) > 0 THEN RAISE EXCEPTION ''poison''; END IF; RETURN NEW; END'",
            "CREATE OR REPLACE TRIGGER poison BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION poison()",
        ],
    };
    for statement in statements {
        tx.execute(statement, &[]).await?;
    }
    Ok(())
}

async fn retain(tx: &mut Tx<'_>) -> Result<(), Error> {
    let statements = [
        // Rooms have no such members.
        "UPDATE conversation SET floor_seq = (SELECT MIN(base_seq) FROM member WHERE conversation = id) WHERE type <> 1",
        "UPDATE conversation SET floor_n = COALESCE((SELECT m.n FROM message m WHERE m.conversation = conversation.id \
         AND m.seq = conversation.floor_seq), 0)",
        // The last message of a group, and of each stay in it, stays for its time, as with the server's own retention.
        "DELETE FROM message WHERE seq <= (SELECT floor_seq FROM conversation c WHERE c.id = message.conversation) \
         AND NOT EXISTS (SELECT 1 FROM conversation c WHERE c.id = message.conversation AND c.type = 2 AND c.seq = message.seq) \
         AND NOT EXISTS (SELECT 1 FROM member m WHERE m.conversation = message.conversation AND m.to_seq = message.seq) \
         AND NOT EXISTS (SELECT 1 FROM span s WHERE s.conversation = message.conversation AND s.to_seq = message.seq)",
    ];
    for statement in statements {
        tx.execute(statement, &[]).await?;
    }
    Ok(())
}
