//! The rules, cell by cell.
