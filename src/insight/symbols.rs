//! Numbers for strings that many facts share, so that counting them compares and looks up numbers.

use std::collections::HashMap;
use std::sync::Arc;

/// Strings in the order in which they were first seen. What a number means holds for one history only, and nothing of
/// it may show in a document.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Symbols {
    /// The number of a string; a new one where it was not seen before.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    /// All strings, each at its number.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    #[test]
    fn a_string_keeps_its_number() {
        let mut symbols = Symbols::default();
        let numbers: Vec<u32> = ["a", "b", "a", ""].into_iter().map(|name| symbols.number(name)).collect();
        assert_eq!(numbers, [0, 1, 0, 2]);
        assert_eq!(&*symbols.names()[1], "b");
        assert_eq!((symbols.len(), symbols.is_empty()), (3, false));
    }
}
