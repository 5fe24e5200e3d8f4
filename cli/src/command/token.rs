//! `zim token`: makes a token like an app's back end, for experiments and scripts.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use zim_protocol::MintTokenRequest;
use zim_protocol::clock::Clock;
use zim_protocol::token::Token;

use super::admin::{AdminAccess, only_app, refused, validity};
use crate::context::Context;
use crate::exit::Failure;
use crate::output::Output;
use crate::secret;

/// `zim token`
#[derive(Debug, Args)]
#[command(after_help = "\
With the server secret, the token is made locally; without it, by the operator's service of the server. \
The output is only the token, to use in $(…); with --json it is an object.

Examples:
  zim token ann --app-id 1 --secret-file secret
  zim token ann --server-data zim-data --for 12h | zim login ann --token -")]
pub(crate) struct TokenArgs {
    /// The user who will log in
    #[arg(value_name = "USER")]
    user_id: String,
    /// The app [default: the only one of the server, else the profile's]
    #[arg(long, value_name = "N")]
    app_id: Option<u32>,
    /// A file with the server secret of the app: 32 characters; - is standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The secret itself; other users of this machine can see it in the process list
    #[arg(long, env = "ZIM_SERVER_SECRET", hide_env_values = true, value_name = "SECRET")]
    secret: Option<String>,
    /// How long it is valid, as in 90s, 15m, 12h, 7d; at most 24 days
    #[arg(long = "for", value_name = "TIME", default_value = "1d", value_parser = validity)]
    valid: Duration,
    #[command(flatten)]
    admin: AdminAccess,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Minted {
    token: String,
    #[serde(rename = "userID")]
    user_id: String,
    #[serde(rename = "appID")]
    app_id: u32,
    /// Unix seconds.
    #[serde(rename = "expiresAt")]
    expires_at: i64,
}

pub(crate) async fn run(args: TokenArgs, context: &Context) -> Result<(), Failure> {
    let of_profile = context.profiles.load(&context.name)?.and_then(|profile| profile.app_id);
    let minted = match secret::read(args.secret.clone(), args.secret_file.as_deref(), context.output)? {
        Some(secret) => {
            let app_id = args.app_id.or(of_profile).ok_or_else(|| Failure::usage("--app-id N is needed"))?;
            mint(&args, app_id, &secret, Clock::system().now_s())?
        }
        None => mint_by_server(&args, of_profile, context.output).await?,
    };
    // The token is used in other commands: JSON only if it is requested, not in every pipe.
    if context.json_requested {
        return context.output.json(&minted);
    }
    context.output.line(&minted.token)
}

fn mint(args: &TokenArgs, app_id: u32, secret: &str, now_s: i64) -> Result<Minted, Failure> {
    let seconds = i64::try_from(args.valid.as_secs()).unwrap_or(i64::MAX);
    let token = Token::generate(app_id, &args.user_id, secret, now_s, seconds)
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Minted { token, user_id: args.user_id.clone(), app_id, expires_at: now_s.saturating_add(seconds) })
}

async fn mint_by_server(args: &TokenArgs, of_profile: Option<u32>, output: Output) -> Result<Minted, Failure> {
    let mut operator = args.admin.connect(output).await?;
    let app_id = match args.app_id {
        Some(app_id) => app_id,
        None => {
            let apps = operator.apps().await?;
            // The profile may be for another server.
            let of_profile = of_profile.filter(|app_id| apps.contains(app_id));
            only_app(&apps).or_else(|several| of_profile.ok_or(several))?
        }
    };
    let request = MintTokenRequest {
        app_id,
        user_id: args.user_id.clone(),
        effective_seconds: i64::try_from(args.valid.as_secs()).unwrap_or(i64::MAX),
    };
    let minted = operator.client.mint_token(request).await.map_err(|status| refused(&status))?.into_inner();
    Ok(Minted { token: minted.token, user_id: args.user_id.clone(), app_id, expires_at: minted.expires_at })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use zim_protocol::token::Cbc;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }

    #[test]
    fn a_locally_made_token_is_valid() {
        let secret = "0123456789abcdef0123456789abcdef";
        let line = ["token", "ann", "--app-id", "7", "--for", "2h"];
        let args = Line::try_parse_from(line).unwrap().args;
        let minted = mint(&args, 7, secret, 1_700_000_000).unwrap();
        assert_eq!(minted.expires_at, 1_700_007_200);
        let token = Token::verify(&minted.token, 7, "ann", &[secret], Cbc::Refused, 1_700_000_000).unwrap();
        assert_eq!(token.expire, minted.expires_at);
        assert!(mint(&args, 7, "short", 1_700_000_000).is_err());
    }

    #[test]
    fn a_token_is_valid_for_a_second_to_24_days() {
        assert_eq!(validity("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(validity("24d"), Ok(Duration::from_secs(2_073_600)));
        for bad in ["0s", "2073601s", "25d", "1w"] {
            assert!(validity(bad).is_err(), "{bad}");
        }
    }
}
