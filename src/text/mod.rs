//! From raw text to sentences, words, languages and keyword keys, with offsets that lead back to the original.
