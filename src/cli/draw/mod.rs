//! Pictures as SVG: the course of a run, heat maps and line charts.

mod axis;
mod heat_map;
mod line_chart;
mod picture;
mod run;

pub(crate) use heat_map::{HeatMap, Scale, heat_maps};
pub(crate) use line_chart::{LineChart, Series};
pub(crate) use picture::{Picture, check_svg};
pub(crate) use run::Run;
