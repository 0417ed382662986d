//! The course of a run as a picture: its losses, its gradients, and the names that it made.

use crate::history::{History, LossCurve};
use crate::model::PARAMETERS;
use crate::optim::{Decay, Gradient};
use crate::plot::{LineChart, Panel, Picture, Series, Table, panels};
use crate::train::Settings;

/// From this ratio of the largest to the smallest on, sizes are drawn on a logarithmic scale.
const WIDE: f64 = 100.;

/// The height of the losses, and of what stands below them.
const LOSSES: f32 = 250.;
const GRADIENTS: f32 = 130.;

/// A run to be drawn.
#[derive(Debug)]
pub struct Run<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The number of names in its list.
    pub names: usize,
    /// Its settings.
    pub settings: &'a Settings,
    /// What it remembers.
    pub history: &'a History,
}

impl Run<'_> {
    /// The picture. What the run does not remember (an older version's gradients, the losses of
    /// held-out names where there are none) is left out. `shown` spells a name.
    pub fn picture(&self, shown: impl Fn(&str) -> String) -> Picture {
        let History { loss, gradients, samples, .. } = self.history;
        let mut parts = vec![Panel::Chart(self.losses(), LOSSES)];
        if !gradients.values().is_empty() {
            let norms = self
                .of_gradients("Norm of the gradient of each tensor, before clipping", |g| g.norm);
            let mut clipped = self
                .of_gradients("Share of its entries that were clipped, in percent", |g| {
                    100. * g.clipped
                });
            // Less than one in a hundred is next to none.
            (clipped.logarithmic, clipped.least[1]) = ([false, false], vec![0., 1.]);
            parts.extend([norms, clipped].map(|chart| Panel::Chart(chart, GRADIENTS)));
        }
        let rows: Vec<(String, Vec<String>)> = samples
            .values()
            .iter()
            .map(|(iteration, names)| {
                (iteration.to_string(), names.iter().map(|name| shown(name)).collect())
            })
            .collect();
        if rows.iter().any(|(_, names)| !names.is_empty()) {
            let (title, label) = ("Names that it made".to_string(), "iteration".to_string());
            parts.push(Panel::Table(Table { title, label, rows }));
        }
        let (done, all) = (loss.iterations(), self.settings.iterations);
        let iterations = match done < all {
            true => format!("{done} of {}", count(all, "iteration")),
            false => count(done, "iteration"),
        };
        let title = format!("{}: {}, {iterations}", self.name, count(self.names as u64, "name"));
        panels(&title, &[self.note()], &parts)
    }

    fn note(&self) -> String {
        let Settings { hidden, batch_size, optimizer, learning_rate, clip, .. } = self.settings;
        let Settings { decay, validation, backprop, dtype, randomness, .. } = self.settings;
        let mut parts = vec![
            format!("{hidden} hidden units"),
            format!("batches of {batch_size}"),
            optimizer.to_string(),
            format!("learning rate {learning_rate}"),
        ];
        if *decay != Decay::None {
            parts.push(format!("decay {decay}"));
        }
        parts.push(format!("clip {clip}"));
        if *validation > 0. {
            parts.push(format!("validation {validation}"));
        }
        parts.push(format!("{backprop} in {}, seed {randomness}", dtype.as_str()));
        parts.join(", ")
    }

    fn losses(&self) -> LineChart {
        let History { loss, validation, .. } = self.history;
        let [each, smoothed] = curves(loss);
        let mean = match loss.stride() {
            1 => "each".to_string(),
            stride => format!("mean of {stride}"),
        };
        let mut series = vec![
            Series { name: mean, points: each, pale: true },
            Series { name: "smoothed".to_string(), points: smoothed, pale: false },
        ];
        let looks = validation.values().iter().map(|&(at, loss)| (at as f64, loss));
        if looks.len() > 0 {
            let name = "held out".to_string();
            series.push(Series { name, points: looks.collect(), pale: false });
        }
        chart("Loss, in nats a name", series)
    }

    fn of_gradients(&self, title: &str, value: impl Fn(&Gradient) -> f64) -> LineChart {
        let series = PARAMETERS.iter().enumerate().map(|(i, name)| {
            let values = self.history.gradients.values().iter();
            Series {
                name: name.to_string(),
                points: values.map(|(at, all)| (*at as f64, value(&all[i]))).collect(),
                pale: false,
            }
        });
        chart(title, series.collect())
    }
}

/// A number of things.
fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The mean losses in the middle of their iterations, and the smoothed one at the end of them.
fn curves(loss: &LossCurve) -> [Vec<(f64, f64)>; 2] {
    let stride = loss.stride() as f64;
    let points = loss.points().iter().enumerate();
    let (each, smoothed) = points
        .map(|(n, point)| {
            let first = n as f64 * stride;
            let (middle, last) = (first + (stride - 1.) / 2., first + stride - 1.);
            ((middle, point.loss), (last, point.smoothed))
        })
        .unzip();
    [each, smoothed]
}

/// Lines over iterations, on a logarithmic scale where that shows more.
fn chart(title: &str, series: Vec<Series>) -> LineChart {
    let sizes = || series.iter().flat_map(|series| &series.points).map(|point| point.1);
    let largest = sizes().fold(0., f64::max);
    // A zero has no place on a logarithmic scale, and is not seen by it.
    let smallest = sizes().filter(|&size| size > 0.).fold(f64::INFINITY, f64::min);
    LineChart {
        title: title.to_string(),
        subtitle: String::new(),
        x: "iteration".to_string(),
        y: String::new(),
        logarithmic: [false, largest / smallest > WIDE],
        least: [vec![0., 1.], vec![]],
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Progress;
    use proptest::prelude::*;

    /// All text of an SVG, piece by piece.
    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        texts.map(|node| node.text().unwrap_or_default().to_string()).collect()
    }

    /// How many lines of each colour an SVG has, without the grid, the frames and the legend.
    fn lines_of(svg: &str, colour: &str) -> usize {
        let document = roxmltree::Document::parse(svg).unwrap();
        let lines = document.descendants().filter(|node| node.has_tag_name("polyline"));
        let of_colour = lines.filter(|node| node.attribute("stroke") == Some(colour));
        of_colour.filter(|node| node.attribute("points").unwrap().len() > 60).count()
    }

    fn history(iterations: u64) -> History {
        let mut history = History::default();
        for iteration in 0..iterations {
            let smoothed = 30. - iteration as f64 / 100.;
            history.loss.push(&Progress { iteration, loss: smoothed - 3., smoothed });
            let gradient = |norm| Gradient { norm, clipped: norm / 10. };
            history.gradients.push(iteration, || [1., 2., 3., 4., 5.].map(gradient));
            if iteration.is_multiple_of(100) {
                history.validation.push(iteration, || smoothed - 1.);
                history
                    .samples
                    .push(iteration, || vec![format!("na<&>me{iteration}"), "서울".into()]);
            }
        }
        history
    }

    fn picture(history: &History) -> Picture {
        let settings = Settings { iterations: 5000, ..Settings::default() };
        let run = Run { name: "towns & co.txt", names: 3, settings: &settings, history };
        run.picture(|name| name.to_uppercase())
    }

    #[test]
    fn every_series_and_every_name_is_in_the_picture() {
        let picture = picture(&history(1500));
        let svg = picture.svg();
        let texts = texts(&svg);
        assert_eq!(texts[0], "towns & co.txt: 3 names, 1500 of 5000 iterations");
        for text in ["mean of 2", "smoothed", "held out", "iteration", "서울", "0", "1400"] {
            assert!(texts.iter().any(|found| found == text), "{text} is not in {texts:?}");
        }
        for tensor in PARAMETERS {
            assert_eq!(texts.iter().filter(|text| *text == tensor).count(), 2, "{tensor}");
        }
        for iteration in (0..1500).step_by(100) {
            assert!(texts.contains(&format!("NA<&>ME{iteration}")), "{iteration}");
        }
        // Smoothed loss and twice waa; held-out loss and twice wya; twice wax.
        assert_eq!(lines_of(&svg, "#d55e00"), 3);
        assert_eq!(lines_of(&svg, "#009e73"), 3);
        assert_eq!(lines_of(&svg, "#0072b2"), 2);
        assert_eq!(picture.boxes().into_iter().collect::<String>(), "서울");
    }

    #[test]
    fn what_a_run_does_not_remember_is_left_out() {
        let mut history = History::default();
        history.loss.push(&Progress { iteration: 0, loss: 3., smoothed: 4. });
        let texts = texts(&picture(&history).svg());
        assert!(texts.iter().any(|text| text == "smoothed"));
        for absent in ["held out", "waa", "Names that it made"] {
            assert!(!texts.iter().any(|text| text == absent), "{absent}");
        }
    }

    #[test]
    fn a_line_is_where_its_numbers_are() {
        let svg = picture(&history(1000)).svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let smoothed = document
            .descendants()
            .filter(|node| node.attribute("stroke") == Some("#d55e00"))
            .find(|node| node.attribute("points").is_some_and(|points| points.len() > 1000))
            .unwrap();
        let numbers: Vec<f64> = smoothed
            .attribute("points")
            .unwrap()
            .split([' ', ','])
            .filter(|number| !number.is_empty())
            .map(|number| number.parse().unwrap())
            .collect();
        let points: Vec<(f64, f64)> = numbers.chunks_exact(2).map(|xy| (xy[0], xy[1])).collect();
        // A loss that falls evenly is a straight line, downwards on a page.
        let [first, last] = [points[0], points[points.len() - 1]];
        let slope = (last.1 - first.1) / (last.0 - first.0);
        assert!(slope > 0. && last.0 - first.0 > 600.);
        for (x, y) in points {
            assert!((first.1 + slope * (x - first.0) - y).abs() < 0.2);
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
            looks in prop::collection::vec(0f64..1e9, 0..5),
            names in prop::collection::vec(prop::collection::vec("\\PC{0,60}", 0..8), 0..40),
        ) {
            let mut history = History::default();
            for (iteration, &loss) in (0..).zip(&losses) {
                let loss = if same { losses[0] } else { loss };
                history.loss.push(&Progress { iteration, loss, smoothed: loss });
            }
            for (iteration, &(norm, clipped)) in (0..).zip(&norms) {
                history.gradients.push(iteration, || [Gradient { norm, clipped }; 5]);
            }
            for (iteration, &loss) in (0..).zip(&looks) {
                history.validation.push(iteration * 1_000_000_000_000, || loss);
            }
            for (iteration, names) in (0..).zip(&names) {
                history.samples.push(iteration, || names.clone());
            }
            let picture = picture(&history);
            let svg = picture.svg();
            roxmltree::Document::parse(&svg).unwrap();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn a_history_can_be_drawn_in_pixels() {
        for iterations in [0, 1, 700] {
            let png = picture(&history(iterations)).png();
            let pixels = tiny_skia::Pixmap::decode_png(&png).unwrap();
            assert_eq!(pixels.width(), 1800);
            let blue = pixels
                .pixels()
                .iter()
                .filter(|pixel| (pixel.red(), pixel.green(), pixel.blue()) == (0x00, 0x72, 0xb2));
            assert!(iterations == 0 || blue.count() > 50);
        }
    }
}
