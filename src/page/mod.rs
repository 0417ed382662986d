//! One HTML page of a model, that works without a network: sample names, see the predictions and the
//! states at each character of a name, how far the gradient reaches back, and the course of the run.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `rnn.js` | the network: forward, backward, sampling, as in [`mod@crate::reference`] |
//! | `names.js` | the random numbers, the spelling and the known names |
//! | `charts.js` | charts as SVG |
//! | `page.js`, `page.html`, `page.css` | the page |
//! | `gradients.js`, `gradients.html` | another page: two gradients side by side, with `charts.js` |
//!
//! The model is one JSON value in the page, made by `data.rs`. A page requests nothing, and its
//! Content-Security-Policy lets no other script run.

mod data;
mod fill;
mod gradients;

pub use gradients::gradients_page;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use fill::{CHARTS, filled};

const HTML: &str = include_str!("page.html");
const SCRIPTS: [&str; 4] =
    [include_str!("rnn.js"), include_str!("names.js"), CHARTS, include_str!("page.js")];

/// The most bytes of parameters: a browser's texts end at 512 MiB.
const MAX_BYTES: usize = 256 << 20;

/// The page of a model, which it calls `title`: one file in UTF-8. It has the weights as the model
/// file has them, which takes 4/3 of their size, 6 bytes for each name of the list, and 75 KB more.
///
/// # Errors
/// If there are more than 256 MiB of parameters, or the device fails.
///
/// ```
/// use char_rnn::{checkpoint::Checkpoint, data::Corpus, page::page, train::{TrainConfig, train}};
/// let (corpus, config) = (Corpus::dinos(), TrainConfig { iterations: 10, ..TrainConfig::default() });
/// let saved = Checkpoint::new(&corpus, &config, train(&corpus, &config, &mut ())?);
/// assert!(page(&saved, "dinosaurs")?.starts_with("<!doctype html>"));
/// # Ok::<(), char_rnn::Error>(())
/// ```
pub fn page(saved: &Checkpoint, title: &str) -> Result<String> {
    let parameters: usize = saved.model.parameters().iter().map(|(_, p)| p.elem_count()).sum();
    check_size(parameters.saturating_mul(saved.model.dtype().size_in_bytes()))?;
    Ok(filled("char-rnn", HTML, &SCRIPTS, &data::data(saved, title)?))
}

/// Refuses a page with too many bytes of parameters.
fn check_size(bytes: usize) -> Result<()> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let rule = format!(
        "the parameters take {} MiB, and a browser opens pages with up to {} MiB of them",
        bytes >> 20,
        MAX_BYTES >> 20
    );
    Err(Error::setting("format", "html", rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_no_browser_opens_is_refused() {
        assert!(check_size(MAX_BYTES).is_ok());
        let message = check_size(MAX_BYTES * 2).unwrap_err().to_string();
        assert!(message.contains("take 512 MiB") && message.contains("up to 256 MiB"), "{message}");
    }
}
