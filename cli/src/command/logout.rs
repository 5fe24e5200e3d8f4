//! `zim logout`: removes the secrets of a profile from this machine.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Failure;
use crate::profile::Profile;

/// `zim logout`
#[derive(Debug, Args)]
#[command(after_help = "\
The address of the server is kept for the next login. The server is not contacted: a running \
`zim listen` continues until it ends.")]
pub(crate) struct LogoutArgs {
    /// Remove the whole profile and its local copies of messages
    #[arg(long)]
    forget: bool,
}

#[derive(Serialize)]
struct LoggedOut<'a> {
    profile: &'a str,
    forgotten: bool,
}

pub(crate) fn run(args: &LogoutArgs, context: &Context) -> Result<(), Failure> {
    let name = context.name.as_str();
    let Some(profile) = context.profiles.load(name)? else {
        return context.profiles.logged_in(name).map(drop);
    };
    if args.forget {
        context.profiles.remove(name)?;
    } else {
        let kept = Profile { user_id: None, token: None, app_sign: None, ..profile };
        context.profiles.save(name, &kept)?;
    }
    if context.output.is_json() {
        return context.output.json(&LoggedOut { profile: name, forgotten: args.forget });
    }
    context.output.line(format!("Profile {name:?} is {}.", if args.forget { "removed" } else { "logged out" }))
}
