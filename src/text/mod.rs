//! From raw text to sentences, languages, keyword keys and phrase hits, with offsets that lead back to the original.
//!
//! Pure functions over `&str`, for every script. Ranges are byte ranges into the text that was given; [`offsets`] turns
//! them into Unicode scalar values, the unit of the public API. No model lives here; tokenising for models is the
//! engine's.

pub mod offsets;

pub mod script;

pub mod normalize;

pub mod sentence;

pub mod language;

pub mod keyword;

pub mod phrases;

pub mod mail;
