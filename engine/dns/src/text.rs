//! What TXT records say: strings of up to 255 bytes each (RFC 1035, section 3.3.14), written as in zone files (section 5.1).

use std::fmt::{self, Write as _};

/// One TXT record: at least one string, of bytes that may be anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(Vec<Box<[u8]>>);

const LONGEST: usize = 255;
/// All strings with their lengths, as much as an answer has room for.
const LONGEST_WHOLE: usize = 4096;

impl Text {
    /// Of these strings. Nothing if there are none, one is too long, or all are.
    pub(crate) fn new(strings: Vec<Box<[u8]>>) -> Option<Self> {
        let whole: usize = strings.iter().map(|string| string.len() + 1).sum();
        let fits =
            !strings.is_empty() && whole <= LONGEST_WHOLE && strings.iter().all(|string| string.len() <= LONGEST);
        fits.then_some(Self(strings))
    }

    /// Reads strings in quotes with blanks between them; `\X` is X, and `\DDD` the byte of that decimal number.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut strings, mut rest) = (Vec::new(), text.bytes().peekable());
        loop {
            if rest.next()? != b'"' {
                return None;
            }
            let mut string = Vec::new();
            loop {
                match rest.next()? {
                    b'"' => break,
                    b'\\' => {
                        let first = rest.next()?;
                        string.push(if first.is_ascii_digit() {
                            let digits = [first, rest.next()?, rest.next()?];
                            std::str::from_utf8(&digits).ok()?.parse().ok()?
                        } else {
                            first
                        });
                    }
                    byte => string.push(byte),
                }
            }
            strings.push(string.into_boxed_slice());
            match rest.next() {
                None => return Self::new(strings),
                Some(b' ') => {}
                Some(_) => return None,
            }
        }
    }

    /// The strings.
    pub(crate) fn strings(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// As it travels.
    pub(crate) fn wire(&self) -> Box<[u8]> {
        let mut wire = Vec::new();
        for string in &self.0 {
            // None is longer than 255.
            wire.push(u8::try_from(string.len()).unwrap_or(u8::MAX));
            wire.extend_from_slice(string);
        }
        wire.into_boxed_slice()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, string) in self.0.iter().enumerate() {
            f.write_str(if number > 0 { " \"" } else { "\"" })?;
            for byte in string {
                match byte {
                    b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b' '..=b'~' => f.write_char(char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_char('"')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5)) {
            let fits = !strings.is_empty() && strings.iter().all(|string| string.len() <= LONGEST);
            let text = Text::new(strings.into_iter().map(Vec::into_boxed_slice).collect());
            prop_assert_eq!(text.is_some(), fits);
            if let Some(text) = text {
                prop_assert_eq!(Text::parse(&text.to_string()), Some(text));
            }
        }

        #[test]
        fn any_words_read_back_or_are_refused(words in "[\"\\\\a0-9 ]{0,40}") {
            if let Some(text) = Text::parse(&words) {
                prop_assert_eq!(Text::parse(&text.to_string()), Some(text));
            }
        }
    }
}
