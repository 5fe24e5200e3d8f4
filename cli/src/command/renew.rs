//! `zim renew`: replaces the token of a profile before it expires.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::context::{Context, one_shot};
use crate::exit::Failure;
use crate::profile::Profile;
use crate::secret;

/// `zim renew`
#[derive(Debug, Args)]
#[command(after_help = "\
The server checks the new token, which the profile uses from then on, also in place of an app sign. The present one must still be \
valid: `zim login` starts over. A running `zim listen` or `zim chat` goes on with the token that it has.

Examples:
  zim renew --token-file token
  make-token ann | zim renew --token-file -")]
pub(crate) struct RenewArgs {
    /// A file with the new token from the app's back end; - is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "token")]
    token_file: Option<PathBuf>,
    /// The token itself, or - for standard input; other users of this machine can see it in the process list
    #[arg(long, env = "ZIM_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

#[derive(Serialize)]
struct Renewed<'a> {
    profile: &'a str,
    #[serde(rename = "userID")]
    user_id: &'a str,
}

pub(crate) async fn run(args: RenewArgs, context: &Context) -> Result<(), Failure> {
    let profile = context.profiles.logged_in(&context.name)?;
    let token = secret::read(args.token, args.token_file.as_deref(), context.output)?;
    let token = token.ok_or_else(|| Failure::usage("which token? --token-file FILE"))?;
    let session = one_shot(&profile).await?;
    let (user_id, renewed) = (session.user_id.clone(), session.zim.renew_token(&token).await);
    session.end().await;
    let token = renewed?.token;
    context.profiles.save(&context.name, &Profile { app_sign: None, token: Some(token), ..profile })?;
    if context.output.is_json() {
        return context.output.json(&Renewed { profile: &context.name, user_id: &user_id });
    }
    context.output.line(format!("The profile {:?} has a new token for {user_id}.", context.name))
}
