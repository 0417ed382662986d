//! A page from its template, the scripts and the data.

use serde_json::Value;
use sha2::{Digest, Sha256};

const CSS: &str = include_str!("page.css");
pub(super) const CHARTS: &str = include_str!("charts.js");

/// The template with the shared style, these scripts and this value, and the hashes that its
/// Content-Security-Policy names.
///
/// # Panics
/// If the template has not each of the places, in their order.
pub(super) fn filled(template: &str, scripts: &[&str], data: &Value) -> String {
    // A browser drops carriage returns, which a checkout can have added, before it hashes.
    let [style, script] = [CSS.to_string(), scripts.concat()].map(|text| text.replace('\r', ""));
    // Nothing in it can then end the script element or start a comment.
    let data = data.to_string().replace('<', "\\u003c");
    let parts = [
        ("SCRIPT_HASH", hash(&script)),
        ("STYLE_HASH", hash(&style)),
        ("STYLE", style),
        ("DATA", data),
        ("SCRIPT", script),
    ];
    let (mut page, mut rest) = (String::new(), template);
    for (place, part) in parts {
        let place = format!("{{{{{place}}}}}");
        let (before, after) = rest.split_once(&place).expect("templates have them in this order");
        page += before;
        page += &part;
        rest = after;
    }
    page + rest
}

/// As a Content-Security-Policy names a script or a style.
fn hash(text: &str) -> String {
    format!("sha256-{}", base64::encode(Sha256::digest(text)))
}
