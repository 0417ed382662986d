//! Text as Python's `repr` writes it.

/// A string.
pub fn python_str(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let escaped: String = text.chars().map(|c| escape(c, quote)).collect();
    format!("{quote}{escaped}{quote}")
}

/// A character, in quotes and as its code if it cannot be seen.
pub fn visible(character: char) -> String {
    match is_printable(character) {
        true => character.to_string(),
        false => python_str(&character.to_string()),
    }
}

/// A list of strings.
pub fn python_list(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| python_str(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

fn escape(character: char, quote: char) -> String {
    let code = u32::from(character);
    match character {
        '\n' => r"\n".to_string(),
        '\r' => r"\r".to_string(),
        '\t' => r"\t".to_string(),
        '\\' => r"\\".to_string(),
        c if c == quote => format!("\\{c}"),
        c if is_printable(c) => c.to_string(),
        _ if code <= 0xff => format!(r"\x{code:02x}"),
        _ if code <= 0xffff => format!(r"\u{code:04x}"),
        _ => format!(r"\U{code:08x}"),
    }
}

/// Python's `str.isprintable`. Rust's debug form escapes the same characters, quotes and the
/// backslash apart, and combining marks only where nothing precedes them.
fn is_printable(character: char) -> bool {
    matches!(character, '"' | '\'') || format!("a{character}").escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python 3.11 prints.
    #[test]
    fn text_is_quoted_and_escaped_as_in_python() {
        for (text, quoted) in [
            ("a", "'a'"),
            ("\"", "'\"'"),
            ("'", "\"'\""),
            ("o'brien", "\"o'brien\""),
            ("'\"", r#"'\'"'"#),
            (" ", "' '"),
            ("\\", r"'\\'"),
            ("\t\r\n", r"'\t\r\n'"),
            ("각", "'각'"),
            ("\u{301}", "'\u{301}'"),
            ("\u{a0}", r"'\xa0'"),
            ("\u{ad}", r"'\xad'"),
            ("\u{200d}", r"'\u200d'"),
            ("\u{3000}", r"'\u3000'"),
            ("\u{e000}", r"'\ue000'"),
            ("\u{feff}", r"'\ufeff'"),
            ("\u{e0001}", r"'\U000e0001'"),
        ] {
            assert_eq!(python_str(text), quoted);
        }
    }
}
