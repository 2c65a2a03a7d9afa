//! hearken listens to what customers say: it scores texts with multilingual transformer models and keeps, for every
//! CRM record, a ready-made insight document.
//!
//! The modules stand in the order in which data flows. Start with `ARCHITECTURE.md`, then [`scores`], the small value
//! that passes from the engine to the documents.

pub mod scores;

pub mod text;

pub mod engine;

pub mod insight;

pub mod store;

pub mod pipeline;

pub mod http;

pub mod pages;

pub mod config;

pub mod demo;

pub mod cli;
