//! The six steps, one module each: options as typed → a validated plan → the work.

pub mod import;
