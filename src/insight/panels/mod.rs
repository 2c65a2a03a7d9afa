//! One file for each part of the document: the shape that is served, and how it is counted.
//!
//! Every panel reads the same [`super::reading::Reading`], so that they agree: the rings, the channels and the series
//! count the same interactions.

pub mod actions;
pub mod channels;
pub mod competitors;
pub mod conversion;
pub mod deals;
pub mod drivers;
pub mod emotions;
pub mod friction;
pub mod highlights;
pub mod hypotheses;
pub mod intent;
pub mod journey;
pub mod keywords;
pub mod operations;
pub mod predictions;
pub mod profile;
pub mod sentiment;
pub mod signals;
pub mod watch;
