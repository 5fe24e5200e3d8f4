//! `zim typing`: shows somebody that you are writing.

use clap::Args;

use crate::context::Context;
use crate::exit::Failure;
use crate::text::preview;

/// `zim typing`
#[derive(Debug, Args)]
#[command(after_help = "\
It holds for five seconds, or until your message arrives. Who is not online is not told.

Examples:
  zim typing bob")]
pub(crate) struct TypingArgs {
    /// The user
    user: String,
}

pub(crate) async fn run(args: TypingArgs, context: &Context) -> Result<(), Failure> {
    let session = context.one_shot().await?;
    let told = session.zim.peer(&args.user).typing().await;
    session.end().await;
    told?;
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "userID": args.user }));
    }
    context.output.line(format!("{} is told that you are writing.", preview(&args.user, 32)))
}
