//! Why a list is refused: lines that cannot be used, files of another kind.

use super::warnings::repaired;
use crate::text::breaks_lines;
use std::collections::BTreeSet;

/// The number of lines that a message lists.
const LISTED: usize = 5;

/// The lines of a list that cannot be used.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// The number of lines that were read: that of the current line, counted from 1.
    pub lines: usize,
    count: usize,
    /// The first of them, with what was found there.
    listed: Vec<String>,
    /// What they may be instead of names.
    hints: BTreeSet<&'static str>,
}

impl Faults {
    /// Adds the current line.
    pub fn add(&mut self, found: &str, hint: &'static str) {
        self.count += 1;
        if self.count <= LISTED {
            self.listed.push(format!("line {} ({found})", self.lines));
        }
        self.hints.insert(hint);
    }

    /// Adds the current line if it has control characters; returns whether it does.
    pub fn add_control(&mut self, line: &str) -> bool {
        let found: BTreeSet<char> = line.chars().filter(|&c| breaks_lines(c)).collect();
        let Some(&last) = found.last() else { return false };
        let code = |c: char| match c {
            '\t' => "a tab".to_string(),
            _ => format!("U+{:04X}", u32::from(c)),
        };
        let codes: Vec<String> = found.into_iter().map(code).collect();
        self.add(&codes.join(", "), hint(last, line));
        true
    }

    /// The error message for the list, `bytes`, if it has such lines.
    pub fn message(&self, bytes: &[u8]) -> Option<String> {
        let Self { lines, count, listed, hints } = self;
        if *count == 0 {
            return None;
        }
        if let Some(kind) = kind_of_file(bytes) {
            return Some(format!("this is not a list of names but {kind}"));
        }
        let more =
            if *count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() };
        let (listed, hints) = (listed.join(", "), Vec::from_iter(hints.iter().copied()).join("; "));
        Some(format!("{count} of {lines} lines cannot be used: {listed}{more}; {hints}"))
    }
}

/// What a `line` with this control character may be.
fn hint(control: char, line: &str) -> &'static str {
    match control {
        '\t' => "tabs separate the columns of a table, of which `cut -f1` takes the first",
        '\u{85}' | '\u{2028}' | '\u{2029}' if repaired(line).is_none() => {
            "U+0085, U+2028 and U+2029 end lines in few programs: save the list with ordinary ones"
        }
        '\u{80}'..='\u{9f}' => {
            "letters were lost when this text was decoded: get the list from its source again"
        }
        _ => "a list is plain text with one name a line",
    }
}

/// What a file that is no plain text is, by its first bytes.
fn kind_of_file(bytes: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "a file compressed with gzip"),
        (b"PK\x03\x04", "a zip archive, as .docx and .xlsx are"),
        (b"\xfd7zXZ\0", "a file compressed with xz"),
        (b"\x28\xb5\x2f\xfd", "a file compressed with zstd"),
        (b"BZh", "a file compressed with bzip2"),
        (b"%PDF", "a PDF document"),
        (b"\xff\xfe", UTF_16),
        (b"\xfe\xff", UTF_16),
    ];
    const UTF_16: &str = "UTF-16 text: save it as UTF-8";
    if let Some((_, kind)) = STARTS.iter().find(|(start, _)| bytes.starts_with(start)) {
        return Some(kind);
    }
    // The length of the header comes first, and the header is JSON.
    (bytes.get(8..10) == Some(b"{\"")).then_some("a safetensors file, such as a model")
}

#[cfg(test)]
#[test]
fn files_of_another_kind_are_called_what_they_are() {
    let utf_16 = |text: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    };
    let model = [&9u64.to_le_bytes()[..], b"{\"b\":0}  \x01"].concat();
    for (bytes, kind) in [
        (b"\x1f\x8b\x08\x00".to_vec(), "gzip"),
        (b"BZh91AY&SY\x01".to_vec(), "bzip2"),
        (b"\x28\xb5\x2f\xfd\x04".to_vec(), "zstd"),
        (b"\xfd7zXZ\0\0".to_vec(), "xz"),
        (b"PK\x03\x04\x14".to_vec(), "zip"),
        (model, "safetensors"),
        (utf_16("\u{feff}ida\n", u16::to_be_bytes), "UTF-16"),
        (utf_16("\u{feff}Олег\nЯна", u16::to_le_bytes), "UTF-16"),
    ] {
        let found = kind_of_file(&bytes);
        assert!(found.is_some_and(|found| found.contains(kind)), "{kind}: {found:?}");
    }
    for text in ["ida\nu\0e\n", "id\0\nuwe\neva\n", "ida\nu\u{1b}we", "BMW\nVW\n"] {
        assert_eq!(kind_of_file(text.as_bytes()), None, "{text:?}");
    }
}
