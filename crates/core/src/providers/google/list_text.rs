//! A list of events as JSON text: its keys are read, its `items` are not.
//!
//! A page holds up to 2,500 events, and as JSON values they take ten times the space of their text; so they are read one
//! at a time.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A list, as far as it is read.
pub(crate) struct ListText<'a> {
    /// All keys but `items`.
    pub keys: Map<String, Value>,
    pub items: Option<&'a RawValue>,
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
                    } else {
                        read.keys.insert(key, map.next_value()?);
                    }
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(Object)
    }
}
