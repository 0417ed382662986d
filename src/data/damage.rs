//! Letters that were damaged on the way to the list: decoded by another encoding, replaced, escaped.

/// The characters 0x80 to 0x9f of Windows-1252; those that it does not have are controls.
const WINDOWS_1252: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";

/// `text` as it was, if it is UTF-8 that was decoded as Latin-1 or Windows-1252.
pub(super) fn repaired(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let byte = |c: char| match WINDOWS_1252.chars().position(|other| other == c) {
        Some(at) => Some(0x80 + at as u8),
        None => u8::try_from(c).ok(),
    };
    let bytes: Vec<u8> = text.chars().map(byte).collect::<Option<_>>()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_ascii())
}

/// Whether letters of `name` were lost or escaped on the way to the list.
fn is_damaged(name: &str) -> bool {
    let is_entity = |(_, after): (&str, &str)| {
        let entity = after.split_once(';').map_or("", |(entity, _)| entity);
        (2..9).contains(&entity.len())
            && entity.chars().all(|c| c.is_ascii_alphanumeric() || c == '#')
    };
    let is_between_letters = |(before, after): (&str, &str)| {
        before.ends_with(char::is_alphabetic) && after.starts_with(char::is_alphabetic)
    };
    name.contains('\u{fffd}')
        || name.contains("\\u")
        || name.split_once('&').is_some_and(is_entity)
        || name.split_once('?').is_some_and(is_between_letters)
}

/// Which letters of `names`, each with its line, were damaged, in a sentence.
pub(super) fn damage(names: &[(usize, &str)]) -> Option<String> {
    let all = names.len();
    let mut damaged = names.iter().filter_map(|&(line, name)| Some((line, name, repaired(name)?)));
    if let Some((line, name, was)) = damaged.next() {
        let count = 1 + damaged.count();
        return Some(format!(
            "{count} of {all} names look like UTF-8 that was decoded as Latin-1 or Windows-1252 \
             (line {line}: {name:?} is {was:?}): get the list from its source again"
        ));
    }
    let mut damaged = names.iter().filter(|(_, name)| is_damaged(name));
    if let Some((line, name)) = damaged.next() {
        let count = 1 + damaged.count();
        return Some(format!(
            "{count} of {all} names have letters that were lost or escaped (line {line}: {name:?}): \
             get the list from its source again"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_letters_are_reported_with_an_example() {
        for (list, part) in [
            ("ida\nJosÃ©\nOlÃ©", Some("2 of 3 names look like UTF-8 that was decoded as Latin-1")),
            ("OsnabrÃ¼ck\nOs", Some("(line 1: \"OsnabrÃ¼ck\" is \"Osnabrück\")")),
            ("â‚¬uro\nåÃ¶", Some("\"â‚¬uro\" is \"€uro\"")),
            (
                "ida\nRen\u{fffd}",
                Some("1 of 2 names have letters that were lost or escaped (line 2"),
            ),
            ("Ren&eacute;\nida\nO&#39;Shea", Some("2 of 3")),
            ("M?ller\nRen\\u00e9", Some("2 of 2")),
            ("Âme\nÃ", None),
            ("Who's there?\nM&M's", None),
        ] {
            let names: Vec<(usize, &str)> = (1..).zip(list.lines()).collect();
            let found = damage(&names);
            assert_eq!(found.is_some(), part.is_some(), "{list:?}: {found:?}");
            assert!(found.unwrap_or_default().contains(part.unwrap_or_default()), "{list:?}");
        }
    }
}
