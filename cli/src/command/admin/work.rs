//! `zim admin task` and `zim admin outbox`: what the server does later, and what of it has failed.

use clap::Subcommand;
use zim_protocol::{DropWorkRequest, ListWorkRequest, RetryWorkRequest, Work, WorkQueue};

use super::{Operator, refused};
use crate::context::{Context, now_ms};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, when};
use crate::text::preview;

/// `zim admin task` and `zim admin outbox`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim admin task list              what has failed
  zim admin task list --all
  zim admin outbox list --all      what waits to be delivered, too")]
pub(crate) enum WorkCommand {
    /// List what has failed; the server tries it again by itself, up to ten times
    List {
        /// Also what has not failed
        #[arg(long)]
        all: bool,
    },
    /// Try something that has failed again at once
    Retry {
        /// What is done, as listed
        kind: String,
        /// What it is about, as listed
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Drop something: it is never done
    Drop {
        /// What is done, as listed
        kind: String,
        /// What it is about, as listed
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Runs a command on one of the two queues.
pub(super) async fn run(
    queue: WorkQueue,
    command: WorkCommand,
    operator: &mut Operator,
    context: &Context,
) -> Result<(), Failure> {
    let output = context.output;
    match command {
        WorkCommand::List { all } => list(queue, all, operator, context).await,
        WorkCommand::Retry { kind, id } => {
            let request = RetryWorkRequest { queue: queue as i32, kind: kind.clone(), id: id.clone() };
            let done = operator.client.retry_work(request).await.map_err(|status| refused(&status))?.into_inner();
            found(done.is_found, "failed", &kind, &id)?;
            if output.is_json() { output.json(&done) } else { output.line("It is tried again now.") }
        }
        WorkCommand::Drop { kind, id } => {
            let request = DropWorkRequest { queue: queue as i32, kind: kind.clone(), id: id.clone() };
            let done = operator.client.drop_work(request).await.map_err(|status| refused(&status))?.into_inner();
            found(done.is_found, "scheduled", &kind, &id)?;
            if output.is_json() { output.json(&done) } else { output.line("It is dropped.") }
        }
    }
}

fn found(is_found: bool, what: &str, kind: &str, id: &str) -> Result<(), Failure> {
    if is_found {
        return Ok(());
    }
    let (kind, id) = (preview(kind, 40), preview(id, 20));
    Err(Failure::new(Exit::Refused, format!("no {kind} {id} has {what}; it may be done by now")).hint("see the list"))
}

async fn list(queue: WorkQueue, all: bool, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("KIND", Align::Left),
        ("ID", Align::Left),
        ("NEXT", Align::Left),
        ("FAILED", Align::Right),
        ("LAST ERROR", Align::Left),
    ]);
    let (mut after, mut is_empty) = (String::new(), true);
    loop {
        let request = ListWorkRequest { queue: queue as i32, all, after, count: 0 };
        let page = operator.client.list_work(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.works.is_empty();
        for work in &page.works {
            if context.output.is_json() {
                context.output.json(work)?;
            }
            table.row(row(work, now_ms()));
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) if all => context.output.line("Nothing is scheduled."),
        (false, true) => context.output.line("Nothing has failed."),
        (false, false) => context.output.table(&table),
    }
}

fn row(work: &Work, now_ms: i64) -> [String; 5] {
    let next = match work.next_at {
        0 => "never: retry or drop it".to_owned(),
        at => when(at, now_ms),
    };
    [preview(&work.kind, 40), preview(&work.id, 20), next, work.attempts.to_string(), preview(&work.last_error, 80)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_failed_too_often_is_never_tried_again() {
        let dead = Work { kind: "lost-logins".into(), id: "7".into(), attempts: 10, ..Work::default() };
        assert_eq!(row(&dead, 0)[2..4], ["never: retry or drop it".to_owned(), "10".to_owned()]);
        let later = Work { next_at: 1, ..dead };
        assert_eq!(row(&later, 0)[2], when(1, 0));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        assert!(found(true, "failed", "lost-logins", "7").is_ok());
        let failure = found(false, "failed", "lost-logins", "7").unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
    }
}
