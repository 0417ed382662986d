//! What is wrong with a list: lines that cannot be used, files of another kind, tables and markup.

use super::damage::repaired;
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
        '\u{80}'..='\u{9f}' if repaired(line).is_some() => {
            "this looks like UTF-8 that was decoded as Latin-1"
        }
        '\u{85}' | '\u{2028}' | '\u{2029}' => {
            "U+0085, U+2028 and U+2029 end lines in few programs: save the list with ordinary ones"
        }
        // The others are no letters in Windows-1252.
        '\u{80}'..='\u{9f}'
            if !line.contains(['\u{81}', '\u{8d}', '\u{8f}', '\u{90}', '\u{9d}']) =>
        {
            "this looks like Windows-1252 that was decoded as Latin-1"
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
    if let Some((length, header)) = bytes.split_first_chunk()
        && u64::from_le_bytes(*length) < bytes.len() as u64
        && header.starts_with(b"{\"")
    {
        return Some("a safetensors file, such as a model");
    }
    let is_line_end = |c| matches!(c, '\n' | '\r');
    let line_ends = bytes.iter().filter(|&&byte| is_line_end(byte.into())).count();
    let utf_16 = [u16::from_le_bytes, u16::from_be_bytes].into_iter().any(|unit| {
        let (pairs, rest) = bytes.as_chunks();
        let units = pairs.iter().map(|&pair| unit(pair));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        // One-byte text decodes too, but loses its line ends.
        text.is_ok_and(|text| {
            rest.is_empty()
                && text.contains(is_line_end)
                && text.matches(is_line_end).count() * 2 >= line_ends
                && !text.contains(|c| breaks_lines(c) && !is_line_end(c))
        })
    });
    utf_16.then_some(UTF_16)
}

/// What `names` may be instead of a list of names, where nearly all have the same form.
pub(super) fn suspicion(names: &[(usize, &str)]) -> Option<String> {
    let all = names.len();
    if let [(_, only)] = names {
        let is_list = only.contains([',', ';', '|']) || only.split_whitespace().count() > 5;
        return is_list.then(|| "the list has only one line, so it is one name".to_string());
    }
    let nearly_all = |fits: &dyn Fn(&str) -> bool| {
        names.iter().filter(|(_, name)| fits(name)).count() * 10 >= all * 9
    };
    // "Smith, John" is a name, as are 's-Gravenhage and St. Ives.
    let has = |name: &str, sign| name.replace(", ", " ").contains(sign);
    let is_sign = |c: &char| {
        !c.is_alphanumeric() && (c.is_ascii_graphic() || *c == '•') && !['\'', '-', '.'].contains(c)
    };
    let is_number =
        |word: &str| word.starts_with(char::is_numeric) && !word.contains(char::is_alphabetic);
    let sign = names[all / 2].1.chars().filter(is_sign).find(|&c| nearly_all(&|name| has(name, c)));
    let starts = nearly_all(&|name| !name.starts_with(|c: char| c.is_alphabetic() || c == '\''));
    let is_numbered = nearly_all(&|name| name.contains(' ') && name.split(' ').any(is_number));
    let count = |sign, name: &str| name.trim_end_matches(sign).matches(sign).count();
    let command = match sign {
        Some('<') => "sed 's/<[^>]*>//g'".to_string(),
        Some('"') if starts => "cut -d'\"' -f2".to_string(),
        _ if starts || is_numbered => "sed -E 's/^[^[:alpha:]]+|[^[:alpha:]]+$//g'".to_string(),
        None => return None,
        Some(sign) => match count(sign, names[0].1) {
            columns if nearly_all(&|name| count(sign, name) == columns) => {
                format!("cut -d'{sign}' -f1")
            }
            _ => format!("tr '{sign}' '\\n'"),
        },
    };
    let what = sign.map_or("a number".to_string(), |sign| format!("{sign:?}"));
    Some(format!(
        "nearly every line has {what}, as in a table or markup; for the names alone: {command}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (utf_16("ida\r\nuwe\r\n", u16::to_le_bytes), "UTF-16"),
            (utf_16("Олег\nЯна", u16::to_be_bytes), "UTF-16"),
            (utf_16("上海\n上田\n", u16::to_le_bytes), "UTF-16"),
        ] {
            let found = kind_of_file(&bytes);
            assert!(found.is_some_and(|found| found.contains(kind)), "{kind}: {found:?}");
        }
        for text in ["ida\nu\0e\n", "id\0\nuwe\neva\n", "ida\nu\u{1b}we", "BMW\nVW\n"] {
            assert_eq!(kind_of_file(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn tables_markup_and_lists_on_one_line_are_suspected() {
        for (list, part) in [
            ("ida;f;12\nuwe;m;7\njan;m;3", Some("cut -d';' -f1")),
            ("ida,12\nuwe,7", Some("cut -d',' -f1")),
            ("ida,\nuwe,", Some("cut -d',' -f1")),
            ("ida,uwe,jan\neva,ina\nute,ole,kai,pia", Some("tr ',' '\\n'")),
            ("ida = 5\nuwe = 7", Some("has '='")),
            ("ida (f)\nuwe (m)", Some("cut -d'(' -f1")),
            ("ida   12   0.5%\nuwe     7   0.3%", Some("sed -E")),
            ("ida 12\nuwe 7", Some("a number")),
            ("1. ida\n2. uwe", Some("sed -E")),
            ("<li>ida</li>\n<li>uwe</li>", Some("sed 's/<[^>]*>//g'")),
            ("\"ida\",\n\"uwe\",\n\"jan\"", Some("cut -d'\"' -f2")),
            ("\"Berg, Ida\";3\n\"Moe, Uwe\";4", Some("cut -d'\"' -f2")),
            ("- ida\n- uwe", Some("sed -E")),
            ("• ida\n• uwe", Some("has '•'")),
            ("ida, uwe, jan", Some("one line")),
            ("ida uwe jan eva ute ina", Some("one line")),
            ("ida\nuwe", None),
            ("new york", None),
            ("smith, john\njones, ann", None),
            ("apollo 11\nsoyuz", None),
            ("bad aibling\nhof", None),
            ("'s-gravenhage\n't harde", None),
        ] {
            let names: Vec<(usize, &str)> = (1..).zip(list.lines()).collect();
            let found = suspicion(&names);
            assert_eq!(found.is_some(), part.is_some(), "{list:?}: {found:?}");
            assert!(found.unwrap_or_default().contains(part.unwrap_or_default()), "{list:?}");
        }
    }
}
