//! The course of a run: its losses, its gradients, and the names that it generated.

use super::line_chart::{LEFT, LineChart, Series};
use super::picture::{FAINT, INK, Picture, fitted, font, write};
use crate::model::PARAMETERS;
use crate::train::{GradientStats, History, TrainConfig};
use plotters::style::text_anchor::HPos;

/// A run to be drawn.
pub(crate) struct Run<'a> {
    pub(crate) title: &'a str,
    /// The number of names in its list.
    pub(crate) names: usize,
    pub(crate) config: &'a TrainConfig,
    pub(crate) history: &'a History,
}

/// From this ratio of the largest to the smallest value on, a chart is logarithmic.
const WIDE: f64 = 100.;

const WIDTH: i32 = 1800;
/// The height of the title and its notes, of the title of a chart or table, and of a line.
const HEAD: i32 = 150;
const TITLE: i32 = 44;
const ROW: i32 = 34;
/// The space between two charts, and below the last.
const GAP: i32 = 40;
const BELOW: i32 = 130;

impl Run<'_> {
    /// The picture; gradients, held-out losses and names are left out where there are none. `shown`
    /// gives the spelling of a name.
    pub(crate) fn picture(&self, shown: impl Fn(&str) -> String) -> Picture {
        let History { loss, gradients, samples, .. } = self.history;
        // Each with the height of its field.
        let mut charts = vec![(self.losses(), 500)];
        if !gradients.values().is_empty() {
            let norms = self.gradients("Gradient norm of each tensor, before clipping", |g| g.norm);
            let clipped = "Share of its entries that were clipped, in percent";
            let mut clipped = self.gradients(clipped, |g| 100. * g.clipped);
            (clipped.logarithmic, clipped.least[1]) = ([false, false], vec![0., 1.]);
            charts.extend([(norms, 260), (clipped, 260)]);
        }
        let (done, all) = (loss.iterations(), self.config.iterations);
        let title = format!("{}: {} names, {done} of {all} iterations", self.title, self.names);
        let fields = charts.iter().map(|(_, field)| TITLE + field + GAP).sum::<i32>();
        let height = HEAD + fields + BELOW + TITLE + ROW * samples.values().len() as i32;
        Picture::new(WIDTH, height, |area| {
            let line = |text: &str, size, y| {
                let text = fitted(text, size, WIDTH - LEFT - GAP);
                write(area, &text, font(size, INK), (LEFT, y), HPos::Left)
            };
            line(&title, 34, 48)?;
            for (i, note) in self.notes().iter().enumerate() {
                line(note, 24, 94 + ROW * i as i32)?;
            }
            let mut top = HEAD;
            for (i, (chart, field)) in charts.iter().enumerate() {
                line(&chart.title, 24, top + 20)?;
                // Iterations are those of the last chart.
                let below = if i + 1 == charts.len() { 90 } else { 0 };
                let place = (0, top + TITLE);
                chart.draw(&area.clone().shrink(place, (WIDTH, field + below)), below)?;
                top += TITLE + field + GAP;
            }
            top += BELOW - GAP;
            if !samples.values().is_empty() {
                line("Sampled names, by iteration", 24, top)?;
            }
            for (iteration, names) in samples.values() {
                top += ROW;
                let label = iteration.to_string();
                write(area, &label, font(22, FAINT), (LEFT - 16, top), HPos::Right)?;
                let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
                line(&names.join(" · "), 24, top)?;
            }
            Ok(())
        })
    }

    fn notes(&self) -> [String; 2] {
        let TrainConfig { hidden, batch_size, backprop, dtype, seed, .. } = self.config;
        let TrainConfig { optimizer, learning_rate, decay, clip, validation, .. } = self.config;
        let dtype = dtype.as_str();
        [
            format!("{hidden} hidden units, {backprop} in {dtype}, seed {seed}"),
            format!(
                "{optimizer}, learning rate {learning_rate}, decay {decay}, clip {clip}, \
                 batch size {batch_size}, validation {validation}"
            ),
        ]
    }

    fn losses(&self) -> LineChart {
        let History { loss, validation, .. } = self.history;
        let stride = loss.stride() as f64;
        let points = || (0..).map(|n| f64::from(n) * stride).zip(loss.points());
        // A mean is in the middle of its iterations, a smoothed loss at the last of them.
        let mean = points().map(|(first, point)| (first + (stride - 1.) / 2., point.loss));
        let smoothed = points().map(|(first, point)| (first + stride - 1., point.smoothed));
        let held_out = validation.values().iter().map(|&(at, loss)| (at as f64, loss));
        let name = if stride == 1. { "each".to_string() } else { format!("mean of {stride}") };
        let mut series = vec![
            Series { name, points: mean.collect(), pale: true },
            Series { name: "smoothed".to_string(), points: smoothed.collect(), pale: false },
        ];
        if held_out.len() > 0 {
            let name = "held out".to_string();
            series.push(Series { name, points: held_out.collect(), pale: false });
        }
        self.chart("Loss, in nats per name", series)
    }

    fn gradients(&self, title: &str, value: impl Fn(&GradientStats) -> f64) -> LineChart {
        let series = PARAMETERS.iter().enumerate().map(|(i, name)| {
            let values = self.history.gradients.values().iter();
            let points = values.map(|(at, all)| (*at as f64, value(&all[i]))).collect();
            Series { name: name.to_string(), points, pale: false }
        });
        self.chart(title, series.collect())
    }

    /// Lines over the iterations of the run.
    fn chart(&self, title: &str, series: Vec<Series>) -> LineChart {
        let values = series.iter().flat_map(|series| &series.points).map(|point| point.1);
        let values = values.filter(|&value| value > 0.);
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let last = self.history.loss.iterations().saturating_sub(1).max(1);
        LineChart {
            title: title.to_string(),
            subtitle: String::new(),
            x: "iteration".to_string(),
            y: String::new(),
            logarithmic: [false, values.fold(0., f64::max) / low > WIDE],
            least: [vec![0., last as f64], vec![]],
            series,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Progress;
    use proptest::prelude::*;
    use roxmltree::{Document, Node};

    fn history(iterations: u64) -> History {
        let mut history = History::default();
        for iteration in 0..iterations {
            let smoothed = 30. - iteration as f64 / 100.;
            history.loss.push(&Progress { iteration, loss: smoothed - 3., smoothed });
            let gradient = |norm| GradientStats { norm, clipped: norm / 10. };
            history.gradients.push(iteration, || [1., 2., 3., 4., 5.].map(gradient));
            if iteration.is_multiple_of(100) {
                history.validation.push(iteration, || smoothed - 1.);
                let names = || vec![format!("na<&>me{iteration}"), "서울".into()];
                history.samples.push(iteration, names);
            }
        }
        history
    }

    fn svg(history: &History) -> String {
        let config = TrainConfig { iterations: 5000, ..TrainConfig::default() };
        let run = Run { title: "towns & co.txt", names: 3, config: &config, history };
        run.picture(|name| name.to_uppercase()).svg
    }

    fn texts(svg: &str) -> Vec<String> {
        let document = Document::parse(svg).unwrap();
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        texts.map(|node| node.text().unwrap_or_default().trim().to_string()).collect()
    }

    /// The points of each line of a colour, but for those of two points, as in a legend.
    fn lines(svg: &str, colour: &str) -> Vec<Vec<(f64, f64)>> {
        let document = Document::parse(svg).unwrap();
        let is_it = |node: &Node| node.attribute("stroke") == Some(colour);
        let points = document.descendants().filter(is_it).filter_map(|n| n.attribute("points"));
        let number = |text: &str| text.parse::<f64>().unwrap();
        let point = |at: &str| at.split_once(',').map(|(x, y)| (number(x), number(y))).unwrap();
        let lines = points.map(|points| points.split_whitespace().map(point).collect());
        lines.filter(|line: &Vec<_>| line.len() > 2).collect()
    }

    #[test]
    fn every_series_and_every_name_is_in_the_picture() {
        let svg = svg(&history(1500));
        let texts = texts(&svg);
        assert_eq!(texts[0], "towns & co.txt: 3 names, 1500 of 5000 iterations");
        for text in ["mean of 2", "smoothed", "held out", "iteration", "0", "1400"] {
            assert!(texts.iter().any(|found| found == text), "{text} is not in {texts:?}");
        }
        for tensor in PARAMETERS {
            assert_eq!(texts.iter().filter(|text| *text == tensor).count(), 2, "{tensor}");
        }
        for iteration in (0..1500).step_by(100) {
            assert!(texts.contains(&format!("NA<&>ME{iteration} · 서울")), "{iteration}");
        }
        // Smoothed loss and twice waa; held-out loss and twice wya; twice wax.
        for (colour, count) in [("#D55E00", 3), ("#009E73", 3), ("#0072B2", 2)] {
            assert_eq!(lines(&svg, colour).len(), count, "{colour}");
        }
    }

    #[test]
    fn what_a_run_has_not_is_not_drawn() {
        let mut history = History::default();
        history.loss.push(&Progress { iteration: 0, loss: 3., smoothed: 4. });
        let texts = texts(&svg(&history));
        assert!(texts.iter().any(|text| text == "smoothed"));
        for absent in ["held out", "waa", "Sampled names, by iteration"] {
            assert!(!texts.iter().any(|text| text == absent), "{absent}");
        }
    }

    #[test]
    fn a_loss_that_falls_evenly_is_a_straight_line_downwards() {
        let points = lines(&svg(&history(1000)), "#D55E00").swap_remove(0);
        let [first, last] = [points[0], points[points.len() - 1]];
        let slope = (last.1 - first.1) / (last.0 - first.0);
        assert!(slope > 0. && last.0 - first.0 > 1200.);
        for (x, y) in points {
            assert!((first.1 + slope * (x - first.0) - y).abs() <= 1.5);
        }
    }

    proptest! {
        #[test]
        fn any_history_can_be_drawn(
            losses in prop::collection::vec(
                prop_oneof![0f64..30., Just(7.), 1e-300..1e300f64, Just(f64::MAX), Just(0.)], 0..30,
            ),
            same: bool,
            norms in prop::collection::vec(
                (prop_oneof![0f64..30., Just(0.), Just(f64::MAX)], 0f64..=1.), 0..9,
            ),
            held_out in prop::collection::vec(0f64..1e9, 0..5),
            names in prop::collection::vec(prop::collection::vec("\\PC{0,60}", 0..8), 0..40),
        ) {
            let mut history = History::default();
            for (iteration, &loss) in (0..).zip(&losses) {
                let loss = if same { losses[0] } else { loss };
                history.loss.push(&Progress { iteration, loss, smoothed: loss });
            }
            for (iteration, &(norm, clipped)) in (0..).zip(&norms) {
                history.gradients.push(iteration, || [GradientStats { norm, clipped }; 5]);
            }
            for (iteration, &loss) in (0..).zip(&held_out) {
                history.validation.push(iteration * 1_000_000_000_000, || loss);
            }
            for (iteration, names) in (0..).zip(&names) {
                history.samples.push(iteration, || names.clone());
            }
            let svg = svg(&history);
            let document = Document::parse(&svg).unwrap();
            for node in document.descendants() {
                for attribute in node.attributes() {
                    let value = attribute.value();
                    prop_assert!(!value.contains("NaN") && !value.contains("inf"), "{value}");
                }
            }
        }
    }
}
