//! The contract has not changed by accident, has the reference's names, and agrees with the book.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod pages;
mod reference;
mod surface;
mod tables;
mod wire;
