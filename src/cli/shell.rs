//! `char-rnn completions` and `char-rnn man`: the command line as shells and manuals want it.

use super::{Cli, Failure};
use clap::{Args, CommandFactory};
use std::io::{Write, stdout};

/// Print a script that completes this program's flags in a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn completions bash > ~/.local/share/bash-completion/completions/char-rnn
  char-rnn completions fish > ~/.config/fish/completions/char-rnn.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "char-rnn", &mut script);
        Ok(stdout().lock().write_all(&script)?)
    }
}

/// Print the manual, or one command's part of it, for `man`
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn man | man -l -
  char-rnn man train > char-rnn-train.1")]
pub struct Man {
    /// The command whose page it is [default: the program's own page]
    #[arg(value_name = "COMMAND", value_parser = known)]
    command: Option<String>,
}

/// The argument parser of a command's name.
fn known(name: &str) -> Result<String, String> {
    match Cli::command().find_subcommand(name) {
        Some(_) => Ok(name.to_string()),
        None => Err("there is no such command; `char-rnn help` lists them".to_string()),
    }
}

impl Man {
    pub fn run(self) -> Result<(), Failure> {
        let mut program = Cli::command();
        // Gives the commands their full names.
        program.build();
        let page = match &self.command {
            Some(name) => {
                program.find_subcommand(name).expect("the argument parser knows it").clone()
            }
            None => program,
        };
        let mut roff = Vec::new();
        clap_mangen::Man::new(page).render(&mut roff)?;
        Ok(stdout().lock().write_all(&roff)?)
    }
}
