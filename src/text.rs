//! Types that are one word of text everywhere (on the command line, in files and in messages), and
//! text of others, which may hold anything.

/// The maximum length of an [`excerpt`], in characters.
const MAX_EXCERPT: usize = 400;

/// Whether `character` is a control character or a line or paragraph separator.
pub(crate) fn breaks_lines(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Whether `character` has no glyph: a control, format or unassigned character, a line or paragraph
/// separator. Spaces have none either, but do no harm, and the joiners are part of words in Persian
/// and Indic scripts.
pub(crate) fn is_invisible(character: char) -> bool {
    let is_space = character.is_whitespace() && !breaks_lines(character);
    let is_ascii = matches!(character, ' '..='~');
    // After a letter, so that a combining mark is not escaped.
    let is_escaped = || format!("a{character}").escape_debug().count() > 2;
    !is_ascii && !is_space && !matches!(character, '\u{200c}' | '\u{200d}') && is_escaped()
}

/// `text` with its invisible characters as their codes, such as `\u{1b}`: what a terminal would
/// obey, and what would change the order or the lines of the text around it.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        c if is_invisible(c) => c.escape_debug().collect(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The first characters of a text whose length others have chosen, [`escaped`].
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

/// Lets serde write `$T` as its `Display` text and read it by `FromStr`; goes with
/// `#[serde(into = "String", try_from = "String")]`.
macro_rules! serialize_as_text {
    ($T:ty) => {
        impl From<$T> for String {
            fn from(value: $T) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $T {
            type Error = String;

            fn try_from(text: String) -> std::result::Result<Self, String> {
                text.parse()
            }
        }
    };
}

/// Gives an enum its variants' names: `ALL`, `NAMES`, `Display`, `FromStr` and [`serialize_as_text!`].
macro_rules! name_variants {
    ($T:ident, $what:literal: $($variant:ident = $name:literal),+) => {
        impl $T {
            /// Every value.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];
            /// Their names.
            pub const NAMES: [&'static str; Self::ALL.len()] = [$($name),+];
        }

        impl std::fmt::Display for $T {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name),+
                })
            }
        }

        impl std::str::FromStr for $T {
            type Err = String;

            fn from_str(name: &str) -> std::result::Result<Self, String> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(format!("there is no {} {name:?}", $what)),
                }
            }
        }

        $crate::text::serialize_as_text!($T);
    };
}

pub(crate) use {name_variants, serialize_as_text};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_names_are_not() {
        let hostile =
            "a\u{1b}[2J\r\n\0\u{7f}\u{9b}1m\u{200e}\u{202e}\u{2066}\u{2028}\u{feff}\u{ad}";
        let shown = r"a\u{1b}[2J\r\n\0\u{7f}\u{9b}1m\u{200e}\u{202e}\u{2066}\u{2028}\u{feff}\u{ad}";
        assert_eq!(escaped(hostile), shown);
        for name in
            ["o'brien \"\\", "jose\u{301}", "東京\u{3000}名簿", "می\u{200c}خواهم", "👩\u{200d}🚀"]
        {
            assert_eq!(escaped(name), name);
        }
        assert_eq!(excerpt(&"é".repeat(400)), "é".repeat(400));
        assert_eq!(excerpt(&"é".repeat(401)), "é".repeat(400) + "…");
    }
}
