//! The pure heart: from events and scores to the insight document of a record.
//!
//! No IO, no clock, no randomness, no async. The same surviving events give the same document, byte for byte, in
//! whatever order they came. Nothing here knows how scores are made or where documents are kept.

pub mod action;
pub mod event;
pub mod settings;
pub mod statistics;

pub mod digest;
pub mod history;
pub mod identity;
pub mod lexicon;
pub mod precedence;
pub mod reading;
pub mod standing;
pub mod symbols;
pub mod tally;
pub mod timeline;
pub mod view;

pub mod alerts;
pub mod document;
pub mod evidence;
pub mod metrics;
pub mod panels;
pub mod render;
pub mod rules;
pub mod summary;

pub mod segments;
