//! `zim logout`: nothing that could log in stays on this machine.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Failure;
use crate::profile::Profile;

/// `zim logout`
#[derive(Debug, Args)]
#[command(after_help = "\
The address of the server is kept, so that the next login is short. A `zim listen` that runs goes \
on until it ends.")]
pub(crate) struct LogoutArgs {
    /// Remove the whole profile and what was kept of its messages
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
    context.output.line(format!("Profile {name:?} is {}.", if args.forget { "gone" } else { "logged out" }))
}
