//! The contract is what it was, is named as the reference names it, and is what the book says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod pages;
mod surface;
mod wire;
