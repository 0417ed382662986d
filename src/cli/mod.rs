//! The command line: a file for each command.
//!
//! Names and answers go to standard output, everything else to standard error.

mod args;
mod best;
mod error;
mod eval;
mod explain;
mod export;
mod files;
mod flags;
mod gradcheck;
mod info;
mod job;
mod log;
mod notebook_log;
mod progress;
mod python;
mod resume;
mod sample;
mod sampled;
mod saving;
mod session;
mod shell;
mod signals;
mod train;
mod vocab;

use crate::text::escaped;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use error::Failure;
use flags::show_defaults;
use std::io::Write;
use std::process::ExitCode;

/// Learn a list of names, character by character, and make new ones.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Start with:
  char-rnn train                          train on the built-in dinosaurs
  char-rnn sample dinos.safetensors       more names from the saved model
  char-rnn train --help                   all flags of training"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::Train>),
    Sample(sample::Sample),
    Info(info::Info),
    Export(export::Export),
    Eval(eval::Eval),
    Explain(explain::Explain),
    Vocab(vocab::Vocab),
    Gradcheck(gradcheck::Gradcheck),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Runs the program.
pub fn main() -> ExitCode {
    signals::fail_writes_over_a_limit();
    let matches = command().try_get_matches().map_err(|error| {
        // The message quotes arguments, which may hold anything.
        let printable = std::env::args_os().map(|argument| escaped(&argument.to_string_lossy()));
        command().try_get_matches_from(printable).err().unwrap_or(error)
    });
    let result = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => run(cli.command),
        Err(error) if error.use_stderr() => error.exit(),
        // The help or the version, which may fail to be written.
        Err(help) => {
            let mut out = anstream::stdout().lock();
            let written = write!(out, "{}", help.render().ansi()).and_then(|()| out.flush());
            written.map_err(Failure::from)
        }
    };
    ExitCode::from(result.map_or_else(|failure| failure.report(), |()| 0))
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(command) => command.run(),
        Command::Sample(command) => command.run(),
        Command::Info(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Vocab(command) => command.run(),
        Command::Gradcheck(command) => command.run(),
        Command::Completions(command) => command.run(self::command()),
        Command::Man(command) => command.run(self::command()),
    }
}

/// The commands and their flags.
fn command() -> clap::Command {
    // So that -1e-5 is a number out of range, not an unknown flag.
    let allow_sign = |arg: Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        let is_number = matches!(names, [name] if ["N", "X", "P"].contains(&name.as_str()));
        arg.allow_hyphen_values(is_number)
    };
    Cli::command()
        .mut_subcommand("train", show_defaults)
        .mut_subcommands(|command| command.mut_args(allow_sign))
}
