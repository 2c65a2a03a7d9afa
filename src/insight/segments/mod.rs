//! Many records at once: what segments of customers say, what emerges, what drives, where it chafes, who turned.
//!
//! A record is boiled down to a [`digest::RecordDigest`], a row of numbers per response. A question reads the digests of
//! all records once and adds up ([`gather`]); nothing is kept between two questions, so what was retracted or erased is
//! gone from the next answer. The cost is linear in the responses of the tenant.

pub mod digest;
pub mod gather;

pub mod emerging;
pub mod movement;
pub mod themes;

pub mod report;

pub mod patterns;
