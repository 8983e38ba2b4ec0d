//! A document in the making: text, and where its identifying spans are.

use anyhow::{Result, bail};

/// Kind of an identifying span, as `text_deidentify` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nom,
    Date,
    Tel,
    Nir,
    Adresse,
    Mail,
    Ville,
    Hopital,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nom => "NOM",
            Self::Date => "DATE",
            Self::Tel => "TEL",
            Self::Nir => "NIR",
            Self::Adresse => "ADRESSE",
            Self::Mail => "MAIL",
            Self::Ville => "VILLE",
            Self::Hopital => "HOPITAL",
        }
    }
}

/// An identifying span: characters (not bytes) `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
    pub kind: Kind,
}

/// What a `{key}` of a template stands for.
pub enum Filled {
    Plain(String),
    Identifying(Kind, String),
}

/// Fills the keys of templates.
pub trait Fill {
    /// The value of a key; None when there is no such key.
    fn value(&mut self, key: &str) -> Option<Filled>;
}

#[derive(Debug, Default)]
pub struct Document {
    pub text: String,
    pub spans: Vec<Span>,
    characters: u32,
}

impl Document {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.characters += text.chars().count() as u32;
    }

    /// Adds a template, each `{key}` filled.
    pub fn say(&mut self, template: &str, fill: &mut impl Fill) -> Result<()> {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            self.push(before);
            let Some((key, after)) = after.split_once('}') else {
                bail!("a template has an open key near `{after}`");
            };
            match fill.value(key) {
                None => bail!("a template names the unknown key `{key}`"),
                Some(Filled::Plain(value)) => self.push(&value),
                Some(Filled::Identifying(kind, value)) => {
                    let start = self.characters;
                    self.push(&value);
                    let end = self.characters;
                    self.spans.push(Span { start, end, kind });
                }
            }
            rest = after;
        }
        self.push(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names;

    impl Fill for Names {
        fn value(&mut self, key: &str) -> Option<Filled> {
            match key {
                "NOM" => Some(Filled::Identifying(Kind::Nom, "Hélène".to_owned())),
                "age" => Some(Filled::Plain("80".to_owned())),
                _ => None,
            }
        }
    }

    #[test]
    fn spans_count_characters() {
        let mut document = Document::default();
        document
            .say("Âgée de {age} ans, {NOM} va bien. ", &mut Names)
            .expect("known keys");
        document.say("{NOM} sort.", &mut Names).expect("known keys");
        assert_eq!(
            document.text,
            "Âgée de 80 ans, Hélène va bien. Hélène sort."
        );
        let characters: Vec<char> = document.text.chars().collect();
        for span in &document.spans {
            let text: String = characters[span.start as usize..span.end as usize]
                .iter()
                .collect();
            assert_eq!(text, "Hélène");
        }
        assert!(document.say("{age", &mut Names).is_err());
        assert!(document.say("{other}", &mut Names).is_err());
    }
}
