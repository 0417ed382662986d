//! A page out of its body, the scripts and the data.

use serde_json::Value;
use sha2::{Digest, Sha256};

const CSS: &str = include_str!("page.css");
pub(super) const CHARTS: &str = include_str!("charts.js");

/// The page of this title and body, with the shared style, these scripts and this value, and a
/// Content-Security-Policy that lets no other script or style in.
pub(super) fn filled(title: &str, body: &str, scripts: &[&str], data: &Value) -> String {
    // A browser drops carriage returns, which a checkout can have added, before it hashes.
    let [style, script] = [CSS.to_string(), scripts.concat()].map(|text| text.replace('\r', ""));
    let hash = |text: &str| format!("sha256-{}", base64::encode(Sha256::digest(text)));
    let (style_hash, script_hash) = (hash(&style), hash(&script));
    // Nothing in it can then end the script element or start a comment.
    let data = data.to_string().replace('<', "\\u003c");
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src
  '{script_hash}'; style-src '{style_hash}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
{body}<script type="application/json" id="data">{data}</script>
<script>{script}</script>
"#
    )
}
