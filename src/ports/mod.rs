//! Traits of what the core's steps need from the world. Invariant: a port carries data and returns
//! data; it decides nothing about tasks, money or retries, and knows no runtime.

pub mod author;
pub mod clock;
pub mod files;
pub mod model;
pub mod rates;
pub mod service;
pub mod store;
pub mod tool;

use std::future::Future;
use std::pin::Pin;

/// The one boxed future: ports are object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
