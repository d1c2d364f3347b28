//! A list of events as JSON text: the keys that matter are read, its `items` are not.
//!
//! As JSON values a text takes ten to thirty times its space, and a provider gone bad may send anything up to
//! `calsync.max_response_size`. So items are read one at a time, they are counted before they are kept, and of what
//! nobody asks for nothing is built.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The keys that are read, of a provider's list and of a delta.
const KEYS: [&str; 6] = ["calendar", "expectedSyncToken", "nextPageToken", "nextSyncToken", "pageToken", "timeZone"];

/// A list, as far as it is read.
pub(crate) struct ListText<'a> {
    /// Those of [`KEYS`] that are there. An array or an object is kept as an empty one: none of them may be one.
    pub keys: Map<String, Value>,
    pub items: Option<&'a RawValue>,
}

/// What stands in the place of items.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoItems {
    NotAnArray,
    TooMany,
}

impl<'de: 'a, 'a> Deserialize<'de> for ListText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = ListText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListText<'de>, A::Error> {
                let mut read = ListText { keys: Map::new(), items: None };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "items" {
                        read.items = Some(map.next_value()?);
                    } else if KEYS.contains(&key.as_str()) {
                        let value: &RawValue = map.next_value()?;
                        read.keys.insert(key, scalar(value).map_err(serde::de::Error::custom)?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn scalar(value: &RawValue) -> serde_json::Result<Value> {
    match value.get().as_bytes().first() {
        Some(b'[') => Ok(Value::Array(Vec::new())),
        Some(b'{') => Ok(Value::Object(Map::new())),
        _ => serde_json::from_str(value.get()),
    }
}

/// The text of each item, of at most so many.
pub(crate) fn items_of(items: &RawValue, most: usize) -> Result<Vec<&RawValue>, NoItems> {
    struct Array(usize);
    impl<'de> Visitor<'de> for Array {
        type Value = Result<Vec<&'de RawValue>, NoItems>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut read = Vec::new();
            while read.len() < self.0 {
                match items.next_element()? {
                    Some(item) => read.push(item),
                    None => return Ok(Ok(read)),
                }
            }
            let mut ended = true;
            while items.next_element::<IgnoredAny>()?.is_some() {
                ended = false;
            }
            Ok(if ended { Ok(read) } else { Err(NoItems::TooMany) })
        }
    }
    serde_json::Deserializer::from_str(items.get()).deserialize_seq(Array(most)).unwrap_or(Err(NoItems::NotAnArray))
}
