//! The command line: a file for each command.
//!
//! Names and answers go to standard output, everything else to standard error.

mod args;
mod best;
mod draw;
mod error;
mod eval;
mod explain;
mod export;
mod files;
mod flags;
mod gradcheck;
mod info;
mod json_log;
mod metrics;
mod notebook_log;
mod plot;
mod progress;
mod python;
mod resume;
mod sample;
mod saving;
mod shell;
mod signals;
mod train;
mod vocab;

use args::say;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use error::Failure;
use flags::show_defaults;
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
    Plot(plot::Plot),
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
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Train(command) => command.run(),
        Command::Sample(command) => command.run(),
        Command::Info(command) => command.run(),
        Command::Plot(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Vocab(command) => command.run(),
        Command::Gradcheck(command) => command.run(),
        Command::Completions(command) => command.run(self::command()),
        Command::Man(command) => command.run(self::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough, as with `head`.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure @ Failure::AlreadyReported) => ExitCode::from(failure.exit_status()),
        Err(failure) => {
            say(&format!("char-rnn: {failure}"));
            ExitCode::from(failure.exit_status())
        }
    }
}

/// The commands and their flags.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("train", show_defaults)
}
