//! `zim user …`

use clap::Subcommand;
use zim_protocol::{UserFullInfo, UsersInfoQueryConfig};

use crate::context::{Context, Session};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Ink, Table, preview};

/// What one question may ask for.
const MOST: usize = 10;

/// `zim user`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  zim user show bob carol
  zim user name \"Ann B.\"")]
pub(crate) enum UserCommand {
    /// Show profiles of users
    Show {
        /// The users [default: oneself]
        #[arg(value_name = "USER", num_args = ..=MOST)]
        users: Vec<String>,
    },
    /// Change one's own name
    Name {
        /// The new name
        name: String,
    },
}

pub(crate) async fn run(command: UserCommand, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let outcome = match command {
        UserCommand::Show { users } => show(users, context, &session).await,
        UserCommand::Name { name } => rename(&name, context, &session).await,
    };
    session.end().await;
    outcome
}

async fn show(mut users: Vec<String>, context: &Context, session: &Session) -> Result<(), Failure> {
    if users.is_empty() {
        users.push(session.user_id.clone());
    }
    let ids: Vec<&str> = users.iter().map(String::as_str).collect();
    let config = UsersInfoQueryConfig { is_query_from_server: true };
    let found = session.zim.query_users_info(ids.iter().copied(), config).await?;
    if context.output.is_json() {
        found.user_list.iter().try_for_each(|user| context.output.json(user))?;
    } else if !found.user_list.is_empty() {
        context.output.table(&table(&found.user_list))?;
    }
    let unknown: Vec<_> = found.error_user_list.iter().map(|error| preview(&error.user_id, 32)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("there is no user {}", unknown.join(", "))))
}

fn table(users: &[UserFullInfo]) -> Table {
    let mut table = Table::new(&[("USER", Align::Left), ("NAME", Align::Left)]);
    for user in users.iter().filter_map(|user| user.base_info.as_ref()) {
        table.row([preview(&user.user_id, 32), preview(&user.user_name, 60)]);
    }
    table
}

async fn rename(name: &str, context: &Context, session: &Session) -> Result<(), Failure> {
    let updated = session.zim.update_user_name(name).await?;
    if context.output.is_json() {
        return context.output.json(&updated);
    }
    let name = context.output.paint(Ink::Name, &preview(&updated.user_name, 60));
    context.output.line(format!("Your name is now {name}"))
}
