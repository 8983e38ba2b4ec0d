//! Patterns of PostgreSQL's `to_char`, `to_date` and `to_timestamp` as those of `strftime`, and
//! groups of regular expressions.

/// PostgreSQL's words, longest first, with what they are in strftime's.
const WORDS: &[(&str, &str)] = &[
    ("FMMonth", "%B"),
    ("FMMONTH", "%B"),
    ("FMDay", "%A"),
    ("FMMI", "%-M"),
    ("FMMM", "%-m"),
    ("FMDD", "%-d"),
    ("FMHH24", "%-H"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("IYYY", "%G"),
    ("YYYY", "%Y"),
    ("SSSS", ""),
    ("DDD", "%j"),
    ("Mon", "%b"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("DD", "%d"),
    ("Dy", "%a"),
    ("HH", "%I"),
    ("ID", "%u"),
    ("IW", "%V"),
    ("MI", "%M"),
    ("MM", "%m"),
    ("MS", "%3f"),
    ("SS", "%S"),
    ("US", "%6f"),
    ("YY", "%y"),
];

/// The pattern in strftime's words; none where it is one already, or has what these do not say.
///
/// `FM` takes the padding away; names of months and days without it are padded in PostgreSQL, and
/// are not known here.
pub fn strftime(pattern: &str) -> Option<String> {
    if pattern.contains('%') {
        return None;
    }
    let (mut made, mut rest, mut found) = (String::new(), pattern, false);
    while let Some(first) = rest.chars().next() {
        if let Some((word, known)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            if known.is_empty() {
                return None;
            }
            made.push_str(known);
            rest = &rest[word.len()..];
            found = true;
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"')?;
            made.push_str(text);
            rest = after;
        } else if first.is_ascii_alphanumeric() {
            return None;
        } else {
            made.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    found.then_some(made)
}

/// `pattern` whose only group is its `wanted`th, counted from 1; 0 is all of it. None where it has
/// no such group.
pub fn one_group(pattern: &str, wanted: usize) -> Option<String> {
    let mut made = String::with_capacity(pattern.len() + 8);
    let mut groups = 0;
    let mut in_class = false;
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        made.push(character);
        match character {
            '\\' => made.extend(characters.next()),
            '[' if !in_class => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                // `(?:…)` and flags are no groups; `(?P<name>…)` is one, which is told apart.
                if characters.peek() == Some(&'?') {
                    let ahead: String = characters.clone().skip(1).take(2).collect();
                    if ahead.starts_with('P') || ahead.starts_with('<') {
                        return None;
                    }
                    continue;
                }
                groups += 1;
                if groups != wanted {
                    made.push_str("?:");
                }
            }
            _ => {}
        }
    }
    match wanted {
        0 => Some(format!("({made})")),
        wanted if wanted <= groups => Some(format!("(?:{made})")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_postgresql_are_those_of_strftime() {
        for (pattern, expected) in [
            ("DD/MM/YYYY", "%d/%m/%Y"),
            ("YYYY-MM-DD HH24:MI:SS.MS", "%Y-%m-%d %H:%M:%S.%3f"),
            ("FMDD FMMonth YYYY", "%-d %B %Y"),
            ("YYYY\"T\"MM", "%YT%m"),
            ("IYYY-IW", "%G-%V"),
        ] {
            assert_eq!(strftime(pattern).as_deref(), Some(expected), "{pattern}");
        }
        for pattern in ["%Y", "999D99", "Month", "-", "J", "YYYY\"", "SSSS"] {
            assert_eq!(strftime(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn one_group_is_left() {
        for (pattern, wanted, expected) in [
            ("a(b)(c)", 2, Some("(?:a(?:b)(c))")),
            ("a(b)", 0, Some("(a(?:b))")),
            (r"\((a[(]b)", 1, Some(r"(?:\((a[(]b))")),
            ("(?:a)(b)", 1, Some("(?:(?:a)(b))")),
            ("a", 1, None),
            ("(?P<x>a)", 1, None),
        ] {
            assert_eq!(one_group(pattern, wanted).as_deref(), expected, "{pattern}");
        }
    }
}
