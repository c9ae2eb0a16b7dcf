//! Azure: signing in, and what its services share.

pub mod auth;
pub mod customvision;
pub mod iothub;
pub mod pipelines;
pub mod speech;
pub mod storage;
