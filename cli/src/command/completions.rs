//! `zim completions`: prints shell completions.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit::Failure;

/// `zim completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Create the folder first if there is none. The shell reads it when it starts.

Examples:
  zim completions bash > ~/.local/share/bash-completion/completions/zim
  zim completions zsh > \"${fpath[1]}/_zim\"
  zim completions fish > ~/.config/fish/completions/zim.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions for `program`, the whole command line.
pub(crate) fn run(args: &CompletionsArgs, mut program: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "zim", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}
