//! JSON put together from pieces. Invariant: what is spliced goes out as the bytes it is, and what a
//! crew adds does not take away what stands beside it.

use serde::Serialize;
use serde_json::{Map, Value};

/// A JSON object that is written member by member.
pub struct Object {
    out: Vec<u8>,
}

impl Object {
    /// `size`: bytes that it will take, more or less.
    pub fn new(size: usize) -> Object {
        let mut out = Vec::with_capacity(size);
        out.push(b'{');
        Object { out }
    }
    /// `json` is one JSON value, encoded.
    pub fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(json);
    }
    pub fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        self.key(key);
        write(&mut self.out, value);
    }
    pub fn end(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
    fn key(&mut self, key: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        write(&mut self.out, key);
        self.out.push(b':');
    }
}

/// A JSON array of items that are encoded already or are encoded now.
#[derive(Default)]
pub struct List {
    out: Vec<u8>,
}

impl List {
    /// `json`: one or more items, encoded, with commas between them.
    pub fn raw(&mut self, json: &[u8]) {
        self.comma();
        self.out.extend_from_slice(json);
    }
    pub fn put<T: Serialize + ?Sized>(&mut self, item: &T) {
        self.comma();
        write(&mut self.out, item);
    }
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
    pub fn end(mut self) -> Vec<u8> {
        if self.out.is_empty() {
            self.out.push(b'[');
        }
        self.out.push(b']');
        self.out
    }
    fn comma(&mut self) {
        self.out.push(if self.out.is_empty() { b'[' } else { b',' });
    }
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Strings, numbers and JSON values into memory: neither the types nor the sink can fail.
    let _ = serde_json::to_writer(out, value);
}

/// What stands between the brackets of an encoded array; `None` where it is no array, or empty.
pub fn items(array: &str) -> Option<&str> {
    let inner = array.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    (!inner.is_empty()).then_some(inner)
}

/// `over` has the last word: objects are merged member by member, anything else is replaced.
pub fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn raw_text_goes_in_as_it_is() {
        let mut list = List::default();
        list.raw(b"{ \"a\" :1},2");
        list.put("x");
        let mut object = Object::new(0);
        object.raw("l", &list.end());
        object.put("n", &1);
        assert_eq!(object.end(), br#"{"l":[{ "a" :1},2,"x"],"n":1}"#);
        assert_eq!((List::default().end(), Object::new(0).end()), (b"[]".to_vec(), b"{}".to_vec()));
        assert_eq!((items(" [ 1, 2 ]"), items("[ ]"), items("{}")), (Some("1, 2"), None, None));
    }

    #[test]
    fn what_a_crew_adds_does_not_take_away_what_stands_beside_it() {
        let mut base = json!({"text": {"format": 1}, "store": false}).as_object().unwrap().clone();
        merge(&mut base, json!({"text": {"verbosity": "low"}, "store": true, "x": {}}).as_object().unwrap());
        assert_eq!(Value::Object(base), json!({"text": {"format": 1, "verbosity": "low"}, "store": true, "x": {}}));
    }
}
