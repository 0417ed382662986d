//! What can be watched of a run, beside what it prints: a log and TensorBoard's events on the way,
//! and a picture in the end.

use super::json_log::JsonLog;
use super::progress::Bar;
use super::{Failure, plot, shown};
use char_rnn::corpus::{Case, Corpus};
use char_rnn::engine::Gradients;
use char_rnn::history_plot;
use char_rnn::model::PARAMETERS;
use char_rnn::optim::Gradient;
use char_rnn::output_file::{self, is_same_place};
use char_rnn::plot::Format;
use char_rnn::sample::Sampled;
use char_rnn::tensorboard::Events;
use char_rnn::train::{Progress, Settings, Training};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a line may wait to be written. Asking the clock costs an iteration little.
const FLUSH: Duration = Duration::from_secs(1);

/// What a sink that fails on the way means for the run.
const ON_THE_WAY: &str = "; training goes on without it";

/// What to write of a run.
#[derive(Args, Default)]
pub struct Flags {
    /// Draw how training went: losses, gradients, names (see `char-rnn plot`)
    ///
    /// The picture is drawn when training ends, however it ends, in place of what is there.
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    plot: Option<PathBuf>,

    /// Write what is measured to FILE, as JSON, a line for each iteration
    ///
    /// The first line has the settings, the last tells how the run ended. A file that is there
    /// already is refused, but with --resume the lines are added to it, after those are cut off that
    /// tell of iterations which are run again.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Write what is measured to the folder DIR, for TensorBoard
    ///
    /// A folder that has events already is refused, but with --resume they go on there.
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
}

impl Flags {
    /// Refuses what cannot be written, or would be written over what is read or written otherwise:
    /// the places in `taken`, each with a sentence that says why it is taken.
    pub fn check<'a>(
        &'a self,
        taken: impl IntoIterator<Item = (Option<&'a Path>, &'static str)>,
    ) -> char_rnn::Result<()> {
        let mut taken: Vec<_> = taken.into_iter().collect();
        for (name, path, rule) in [
            ("--log", &self.log, "it is where --log goes"),
            ("--tensorboard", &self.tensorboard, "it is where --tensorboard goes"),
            ("--plot", &self.plot, "it is where --plot goes"),
        ] {
            let Some(path) = path else { continue };
            let is_taken = |other: &Path| is_same_place(path, other);
            if let Some((_, rule)) = taken.iter().find(|(other, _)| other.is_some_and(is_taken)) {
                let (value, rule) = (path.display().to_string(), rule.to_string());
                return Err(char_rnn::Error::Setting { name, value, rule });
            }
            taken.push((Some(path), rule));
        }
        if let Some((path, _)) = self.plot()? {
            output_file::check_writable(path)?;
        }
        Ok(())
    }

    fn plot(&self) -> char_rnn::Result<Option<(&Path, Format)>> {
        let Some(path) = &self.plot else { return Ok(None) };
        Ok(Some((path, Format::of(path, "--plot")?)))
    }
}

/// A run that is watched.
pub struct Run<'a> {
    pub corpus: &'a Corpus,
    pub case: Case,
    pub settings: &'a Settings,
    /// Where the list is; the built-in one is nowhere.
    pub list: Option<&'a Path>,
    /// Where the model goes.
    pub model: Option<&'a Path>,
    pub device: String,
}

/// What an iteration told.
pub struct Measured {
    pub progress: Progress,
    pub gradients: Option<Gradients>,
    pub validation: Option<f64>,
    pub names: Option<Vec<String>>,
}

impl Measured {
    /// The gradients, each with its tensor's name.
    pub fn named_gradients(&self) -> Option<impl Iterator<Item = (&'static str, Gradient)>> {
        self.gradients.map(|gradients| PARAMETERS.into_iter().zip(gradients))
    }
}

/// How a run ended.
#[derive(Serialize)]
pub struct End {
    /// In a word.
    pub end: &'static str,
    /// How many iterations were done, by this run and those that it goes on from.
    pub iterations: u64,
    /// What ended it, where it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// What a log says of a run at its beginning, or where it goes on after so many iterations `done`.
fn settings_of(run: &Run, done: u64) -> Value {
    let Run { corpus, case, settings, list, model, device } = run;
    // Each by its name, so that a new one is not forgotten.
    let Settings {
        iterations,
        batch_size,
        hidden,
        optimizer,
        learning_rate,
        decay,
        weight_decay,
        clip,
        zero_state,
        validation,
        patience,
        sample_every,
        samples,
        backprop,
        threads,
        dtype,
        // As it was asked for.
        device: _,
        randomness,
    } = settings;
    json!({
        "program": format!("char-rnn {}", env!("CARGO_PKG_VERSION")),
        "list": list.map(|path| path.display().to_string()),
        "list_sha256": corpus.digest(),
        "names": corpus.names().len(),
        "characters": corpus.vocabulary().size() - 1,
        "keep_case": *case == Case::Keep,
        "model": model.map(|path| path.display().to_string()),
        "iterations_done": done,
        "iterations": iterations,
        "batch_size": batch_size,
        "hidden": hidden,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "decay": decay,
        "weight_decay": weight_decay,
        // Infinity, which is no number in JSON, becomes null.
        "clip": clip,
        "zero_state": zero_state,
        "validation": validation,
        "patience": patience,
        "sample_every": sample_every,
        "samples": samples,
        "backprop": backprop.to_string(),
        "threads": threads,
        "dtype": dtype.as_str(),
        "device": device,
        "seed": randomness.to_string(),
    })
}

/// Where measurements go.
pub trait Sink {
    /// Adds an iteration.
    fn write(&mut self, measured: &Measured) -> io::Result<()>;
    /// Hands all that was added to the operating system.
    fn flush(&mut self) -> io::Result<()>;
    /// Adds how the run ended.
    fn end(&mut self, end: &End) -> io::Result<()>;
}

/// Gathers what each iteration tells, and hands it on. What cannot be written does not end training:
/// it is said once, and left out from then on.
pub struct Metrics<'a> {
    flags: &'a Flags,
    run: Run<'a>,
    bar: Bar,
    sinks: Vec<(PathBuf, Box<dyn Sink>)>,
    gradients: Option<Gradients>,
    validation: Option<f64>,
    names: Option<Vec<String>>,
    flushed: Instant,
    /// How many iterations are done.
    iterations: u64,
    failed: bool,
}

impl<'a> Metrics<'a> {
    /// Begins what `flags` ask for; `before` is the last progress of a run that goes on.
    pub fn open(
        flags: &'a Flags,
        run: Run<'a>,
        before: Option<Progress>,
        bar: &Bar,
    ) -> char_rnn::Result<Self> {
        let resumed_at = before.map(|before| before.iteration + 1);
        let (iterations, bar) = (resumed_at.unwrap_or_default(), bar.clone());
        let mut sinks: Vec<(PathBuf, Box<dyn Sink>)> = Vec::new();
        let folder = flags.tensorboard.as_deref();
        let events = folder.map(|folder| Events::create(folder, resumed_at)).transpose()?;
        if let Some(path) = &flags.log {
            let settings = settings_of(&run, iterations);
            let log = JsonLog::open(path, before, &settings).inspect_err(|_| {
                // A run that was refused leaves nothing that stands in the way of the next.
                let _ = events.as_ref().map(|events| std::fs::remove_file(events.path()));
            });
            let (log, cut) = log?;
            if cut {
                bar.say(&format!(
                    "{} went further than the model: cut off from iteration {iterations} on",
                    path.display()
                ));
            }
            sinks.push((path.clone(), Box::new(log)));
        }
        if let Some(events) = events {
            sinks.push((events.path().to_path_buf(), Box::new(events)));
        }
        let (gradients, validation, names) = (None, None, None);
        let flushed = Instant::now();
        let failed = false;
        Ok(Self {
            flags,
            run,
            bar,
            sinks,
            gradients,
            validation,
            names,
            flushed,
            iterations,
            failed,
        })
    }

    /// The settings of the run.
    pub fn settings(&self) -> &'a Settings {
        self.run.settings
    }

    /// Hands all that was measured so far to the operating system.
    pub fn flush(&mut self) {
        self.flushed = Instant::now();
        self.each(ON_THE_WAY, |sink| sink.flush());
    }

    /// Tells how the run `ended`, also where it failed.
    pub fn end<T>(&mut self, ended: &Result<T, Failure>, training: &Training) {
        let (end, because) = match ended {
            Ok(_) if training.is_done() => ("done", None),
            Ok(_) => ("stopped", None),
            Err(Failure::Stopped(signal, _)) => ("stopped", Some(signal.name().to_string())),
            Err(Failure::Diverged(error, _)) => ("diverged", Some(error.to_string())),
            Err(failure) => ("failed", Some(failure.to_string())),
        };
        let end = End { end, iterations: self.iterations, because };
        self.each("", |sink| sink.end(&end).and_then(|()| sink.flush()));
        if let Err(error) = self.draw(training) {
            self.bar.warn(&format!("char-rnn: {error}"));
            self.failed = true;
        }
    }

    fn draw(&self, training: &Training) -> char_rnn::Result<()> {
        let Some((path, format)) = self.flags.plot()? else { return Ok(()) };
        let Run { corpus, case, settings, list, .. } = self.run;
        let name = match list.and_then(Path::file_name) {
            Some(name) => name.to_string_lossy(),
            None => "The built-in dinosaurs".into(),
        };
        let (names, history) = (corpus.names().len(), training.history());
        let run = history_plot::Run { name: &name, names, settings, history };
        let picture = run.picture(|name| shown(name, case));
        picture.save(path, format)?;
        if let Some(boxes) = plot::boxes(&picture, format) {
            self.bar.say(&boxes);
        }
        Ok(())
    }

    /// Whether all could be written.
    pub fn finish(self) -> Result<(), Failure> {
        if self.failed { Err(Failure::Told) } else { Ok(()) }
    }

    /// Writes to each sink that has not failed; `consequence` ends what is said of one that does.
    fn each(&mut self, consequence: &str, mut write: impl FnMut(&mut dyn Sink) -> io::Result<()>) {
        self.sinks.retain_mut(|(path, sink)| {
            let Err(source) = write(&mut **sink) else { return true };
            let error = char_rnn::Error::Write { path: path.clone(), source };
            self.bar.warn(&format!("char-rnn: {error}{consequence}"));
            self.failed = true;
            false
        });
    }
}

/// What an [`Observer`](char_rnn::train::Observer) is told, of one iteration after the other.
impl Metrics<'_> {
    pub fn gradients(&mut self, gradients: &Gradients) {
        self.gradients = Some(*gradients);
    }

    pub fn validated(&mut self, loss: f64) {
        self.validation = Some(loss);
    }

    pub fn samples(&mut self, names: &[Sampled]) {
        if self.sinks.is_empty() {
            return;
        }
        let Run { corpus, case, .. } = self.run;
        let name = |sampled: &Sampled| shown(&corpus.vocabulary().decode(&sampled.indices), case);
        self.names = Some(names.iter().map(name).collect());
    }

    /// The last thing that is told of an iteration.
    pub fn iteration(&mut self, progress: &Progress) {
        self.iterations = progress.iteration + 1;
        if self.sinks.is_empty() {
            return;
        }
        let measured = Measured {
            progress: *progress,
            gradients: self.gradients.take(),
            validation: self.validation.take(),
            names: self.names.take(),
        };
        self.each(ON_THE_WAY, |sink| sink.write(&measured));
        if self.flushed.elapsed() >= FLUSH {
            self.flush();
        }
    }
}

impl Sink for Events {
    fn write(&mut self, measured: &Measured) -> io::Result<()> {
        let Measured { progress, validation, names, .. } = measured;
        let step = progress.iteration;
        self.scalars(
            step,
            &[("loss/iteration", progress.loss), ("loss/smoothed", progress.smoothed)],
        )?;
        if let Some(gradients) = measured.named_gradients() {
            for (name, gradient) in gradients {
                self.scalars(
                    step,
                    &[
                        (&format!("gradient_norm/{name}"), gradient.norm),
                        (&format!("clipped/{name}"), gradient.clipped),
                    ],
                )?;
            }
        }
        if let Some(loss) = validation {
            self.scalars(step, &[("loss/validation", *loss)])?;
        }
        if let Some(names) = names {
            self.lines(step, "names", names)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::flush(self)
    }

    fn end(&mut self, _end: &End) -> io::Result<()> {
        Ok(())
    }
}
