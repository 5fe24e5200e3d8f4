//! `zim revoke`: takes back a message.

use clap::Args;
use zim_protocol::{MessageRevokeConfig, PushConfig};

use crate::context::Context;
use crate::exit::Failure;
use crate::target::Target;

/// `zim revoke`
#[derive(Debug, Args)]
#[command(after_help = "\
The message stays in its place as a revoked one. What a text said is still in originalTextMessageContent, \
for all who could read it, as in the reference. In a group, owners and administrators also revoke messages \
of members.

Examples:
  zim revoke bob 120                  the message with the number 120 in zim history
  zim revoke --group crew 1
  zim history bob -n 1 --json | jq .messageSeq")]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    with: Target,
    /// The sequence number of the message
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    seq: i64,
    /// Data for the apps of those who see it, up to 200 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    extended_data: String,
    /// Tell devices that are away with a push, under this title
    #[arg(long, value_name = "TITLE")]
    push: Option<String>,
}

pub(crate) async fn run(args: RevokeArgs, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let message = args.with.message(args.seq);
    let push_config = args.push.map(|title| PushConfig { title, ..PushConfig::default() });
    let config = MessageRevokeConfig { push_config, revoke_extended_data: args.extended_data };
    let revoked = session.zim.revoke_message(&message, config).await;
    session.end().await;
    let revoked = revoked?;
    if context.output.is_json() {
        return context.output.json(&revoked);
    }
    let place = args.with.place("to");
    context.output.line(format!("Revoked message {} {place}.", args.seq))
}
