//! `zim admin audit`: what the operator has changed.

use clap::Subcommand;
use zim_protocol::{AuditRow, ListAuditRequest};

use super::{Operator, refused};
use crate::context::{Context, now_ms};
use crate::exit::Failure;
use crate::output::{Align, Table, when};
use crate::text::preview;

/// `zim admin audit`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what the operator has changed, the newest first
    #[command(after_help = "\
A row is stored in the transaction of the change, so there is no change without one. Rows are kept for two years.

Examples:
  zim admin audit list
  zim admin audit list --app-id 860873044 --user ann
  zim admin audit list --all --json > audit.jsonl")]
    List {
        /// Only what concerns this app [default: all apps; with --user, the only one]
        #[arg(long, value_name = "N")]
        app_id: Option<u32>,
        /// Only what concerns this user
        #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
        user: String,
        /// The most rows to list
        #[arg(long, value_name = "N", default_value_t = 50)]
        count: usize,
        /// List all rows
        #[arg(long, conflicts_with = "count")]
        all: bool,
    },
}

pub(super) async fn run(command: AuditCommand, operator: &mut Operator, context: &Context) -> Result<(), Failure> {
    let AuditCommand::List { app_id, user, count, all } = command;
    let app_id = match app_id {
        None if user.is_empty() => 0,
        given => operator.app(given).await?,
    };
    let mut left = if all { usize::MAX } else { count };
    let (mut after, mut is_empty) = (String::new(), true);
    let mut table = Table::new(&[
        ("AT", Align::Left),
        ("FROM", Align::Left),
        ("WHAT", Align::Left),
        ("APP", Align::Right),
        ("USER", Align::Left),
        ("DETAIL", Align::Left),
    ]);
    while left > 0 {
        let count = u32::try_from(left.min(100)).unwrap_or(100);
        let request = ListAuditRequest { app_id, user_id: user.clone(), after, count };
        let page = operator.client.list_audit(request).await.map_err(|status| refused(&status))?.into_inner();
        is_empty &= page.rows.is_empty();
        left -= page.rows.len().min(left);
        for row in &page.rows {
            match context.output.is_json() {
                true => context.output.json(row)?,
                false => table.row(cells(row, now_ms())),
            }
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    match (context.output.is_json(), is_empty) {
        (true, _) => Ok(()),
        (false, true) => context.output.line("Nothing was changed."),
        (false, false) => context.output.table(&table),
    }
}

fn cells(row: &AuditRow, now: i64) -> [String; 6] {
    [
        when(row.at, now),
        preview(&row.actor, 50),
        preview(&row.action, 40),
        if row.app_id == 0 { String::new() } else { row.app_id.to_string() },
        preview(&row.user_id, 32),
        preview(&row.detail, 120),
    ]
}
