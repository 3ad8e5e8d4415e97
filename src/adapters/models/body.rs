//! Request bodies, written once. Invariant: what is spliced in stays the bytes it is; a key is written
//! once; what the worst case of a call depends on is set by nobody else.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};

/// Why a body cannot be built; nothing was sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSay {
    #[error("`extra` sets `{0}`, which Bosun sets itself because the call's worst cost depends on it: remove it")]
    Fixed(String),
    #[error("message {number} of the conversation cannot be read: {why}")]
    Message { number: usize, why: String },
}

/// Those of the `fixed` keys that `extra` sets.
pub fn fixed(extra: &Map<String, Value>, fixed: &[&str]) -> impl Iterator<Item = CannotSay> {
    fixed.iter().filter(|key| extra.contains_key(**key)).map(|key| CannotSay::Fixed((*key).to_owned()))
}

/// JSON of tool sets and schemas, by identity. An agent's set is one `Arc` for its whole life, so it
/// is encoded once; the entry holds the `Arc`, so its address is not given to another.
pub struct Encoded<T: ?Sized>(Mutex<Vec<(Arc<T>, Arc<str>)>>);

/// Sets in use at once; beyond it the oldest is encoded again when it comes back.
const ENCODED_MAX: usize = 64;

impl<T: ?Sized> Default for Encoded<T> {
    fn default() -> Self {
        Encoded(Mutex::new(Vec::new()))
    }
}

impl<T: ?Sized> Encoded<T> {
    pub fn get(&self, of: &Arc<T>, encode: impl FnOnce(&T) -> String) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = known.iter().find(|(held, _)| Arc::ptr_eq(held, of)) {
            return text.clone();
        }
        let text: Arc<str> = encode(of).into();
        if known.len() == ENCODED_MAX {
            known.remove(0);
        }
        known.push((of.clone(), text.clone()));
        text
    }
}

/// A body under construction. `extra` has the last word on every key but the fixed ones.
pub struct Body<'a> {
    out: Vec<u8>,
    extra: &'a Map<String, Value>,
}

impl<'a> Body<'a> {
    /// `size`: bytes to expect. Fails where `extra` sets one of `fixed`.
    pub fn new(size: usize, extra: &'a Map<String, Value>, fixed: &[&str]) -> Result<Body<'a>, CannotSay> {
        match self::fixed(extra, fixed).next() {
            Some(why) => Err(why),
            None => Ok(Body { out: Vec::with_capacity(size), extra }),
        }
    }
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }
    pub fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        // Strings, numbers and JSON values into memory: neither the types nor the sink can fail.
        let _ = serde_json::to_writer(&mut self.out, value);
    }
    pub fn key(&mut self, key: &str) {
        self.raw(",");
        self.json(key);
        self.raw(":");
    }
    /// `extra` has the last word: a key that it sets is not written here.
    pub fn put<T: Serialize>(&mut self, key: &str, value: &T) {
        if !self.extra.contains_key(key) {
            self.key(key);
            self.json(value);
        }
    }
    pub fn put_some<T: Serialize>(&mut self, key: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
    /// What `extra` sets, at the end of the body.
    pub fn extra(&mut self) {
        let extra = self.extra;
        for (key, value) in extra {
            self.key(key);
            self.json(value);
        }
    }
}
