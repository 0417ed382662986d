//! `char-rnn completions` and `char-rnn man`: shell completions and manual pages.

use super::error::Failure;
use crate::Error;
use clap::{Args, Command};
use std::io::{Write, stdout};

/// Print a completion script for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn completions bash > ~/.local/share/bash-completion/completions/char-rnn
  char-rnn completions fish > ~/.config/fish/completions/char-rnn.fish")]
pub struct Completions {
    /// Shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self, mut program: Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "char-rnn", &mut script);
        let mut script = String::from_utf8_lossy(&script).into_owned();
        if self.shell == clap_complete::Shell::Bash {
            // The generator's labels do not fit its variable where a program's name has a hyphen.
            script = script.replace("char__subcmd__rnn", "char__rnn");
        }
        Ok(stdout().lock().write_all(script.as_bytes())?)
    }
}

/// Print a manual page in the format of `man`
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn man | man -l -
  char-rnn man train > char-rnn-train.1")]
pub struct Man {
    /// Command [default: the page of the program]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl Man {
    pub fn run(self, mut program: Command) -> Result<(), Failure> {
        // Sets the full names of the commands.
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => match program.find_subcommand(name) {
                Some(command) => command.clone(),
                None => {
                    let rule = "there is no such command; `char-rnn help` lists them";
                    return Err(Error::setting("COMMAND", format!("{name:?}"), rule).into());
                }
            },
        };
        let mut roff = Vec::new();
        clap_mangen::Man::new(page).render(&mut roff)?;
        Ok(stdout().lock().write_all(&roff)?)
    }
}
