//! `nerpipe completions`: the script that teaches a shell to complete nerpipe's command lines.

use clap::{Args, ValueEnum};

use crate::completion::{SHELLS, VARIABLE};
use crate::exit::{Error, Exit};
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// A shell that can complete.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    /// Put `source <(nerpipe completions bash)` into ~/.bashrc
    Bash,
    /// Put `source <(nerpipe completions zsh)` into ~/.zshrc, below `compinit`
    Zsh,
    /// Put `nerpipe completions fish | source` into ~/.config/fish/config.fish
    Fish,
}

/// Prints the script.
pub(crate) fn completions(args: &CompletionsArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let name = args.shell.to_possible_value();
    let name = name.as_ref().map_or("", |value| value.get_name());
    let shell = SHELLS
        .completer(name)
        .ok_or_else(|| Error::usage(format!("unknown shell `{name}`"), None))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "nerpipe", "nerpipe", "nerpipe", &mut script)
        .map_err(Error::environment)?;
    terminal.out(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}
