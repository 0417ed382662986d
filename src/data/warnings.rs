//! What a list is warned of: letters that were damaged on the way to it (decoded by another encoding,
//! replaced, escaped), tables and markup.

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

/// What may be wrong with `names`, each with its line, in a sentence.
pub(super) fn warning(names: &[(usize, &str)]) -> Option<String> {
    let reported = |what: &str, damaged: &dyn Fn(&str) -> Option<String>| {
        let mut found = names.iter().filter_map(|&(line, name)| Some((line, damaged(name)?)));
        let (line, example) = found.next()?;
        let (count, all) = (1 + found.count(), names.len());
        Some(format!(
            "{count} of {all} names {what} (line {line}: {example}): get the list from its source \
             again"
        ))
    };
    let decoded = "look like UTF-8 that was decoded as Latin-1 or Windows-1252";
    reported(decoded, &|name| Some(format!("{name:?} is {:?}", repaired(name)?)))
        .or_else(|| {
            let lost = "have letters that were lost or escaped";
            reported(lost, &|name| is_damaged(name).then(|| format!("{name:?}")))
        })
        .or_else(|| suspicion(names))
}

/// What `names` may be instead of a list of names, where nearly all have the same form.
fn suspicion(names: &[(usize, &str)]) -> Option<String> {
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
#[test]
fn damaged_letters_tables_markup_and_lists_on_one_line_are_reported() {
    for (list, part) in [
        ("ida\nJosÃ©\nOlÃ©", Some("2 of 3 names look like UTF-8 that was decoded as Latin-1")),
        ("OsnabrÃ¼ck\nOs", Some("(line 1: \"OsnabrÃ¼ck\" is \"Osnabrück\")")),
        ("â‚¬uro\nåÃ¶", Some("\"â‚¬uro\" is \"€uro\"")),
        ("ida\nRen\u{fffd}", Some("1 of 2 names have letters that were lost or escaped (line 2")),
        ("Ren&eacute;\nida\nO&#39;Shea", Some("2 of 3")),
        ("M?ller\nRen\\u00e9", Some("2 of 2")),
        ("Âme\nÃ", None),
        ("Who's there?\nM&M's", None),
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
        let found = warning(&names);
        assert_eq!(found.is_some(), part.is_some(), "{list:?}: {found:?}");
        assert!(found.unwrap_or_default().contains(part.unwrap_or_default()), "{list:?}");
    }
}
