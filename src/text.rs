//! Types that are one word of text everywhere: on the command line, in files and in messages.

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
