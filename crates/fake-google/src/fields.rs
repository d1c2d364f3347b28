//! Partial responses: `fields=items(id,etag),nextPageToken`.
//!
//! <https://developers.google.com/workspace/calendar/api/guides/performance#partial>

use serde_json::{Map, Value};

/// What the mask keeps of a value; `None` when the mask cannot be read.
pub fn select(value: &Value, mask: &str) -> Option<Value> {
    let mut rest = mask;
    let selected = parse(&mut rest)?;
    rest.is_empty().then(|| selected.apply(value))
}

/// Names and what is wanted inside them; empty means everything.
#[derive(Debug, Default)]
struct Mask(Vec<(String, Mask)>);

fn parse(rest: &mut &str) -> Option<Mask> {
    let mut all = Vec::new();
    loop {
        all.push(parse_one(rest)?);
        match rest.strip_prefix(',') {
            Some(more) => *rest = more,
            None => return Some(Mask(all)),
        }
    }
}

fn parse_one(rest: &mut &str) -> Option<(String, Mask)> {
    let end = rest.find(['/', '(', ')', ',']).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    if name.is_empty() {
        return None;
    }
    *rest = tail;
    let inner = if let Some(tail) = rest.strip_prefix('/') {
        *rest = tail;
        Mask(vec![parse_one(rest)?])
    } else if let Some(tail) = rest.strip_prefix('(') {
        *rest = tail;
        let inner = parse(rest)?;
        *rest = rest.strip_prefix(')')?;
        inner
    } else {
        Mask::default()
    };
    Some((name.trim().to_owned(), inner))
}

impl Mask {
    fn apply(&self, value: &Value) -> Value {
        if self.0.is_empty() {
            return value.clone();
        }
        match value {
            Value::Array(items) => Value::Array(items.iter().map(|item| self.apply(item)).collect()),
            Value::Object(fields) => {
                let mut kept = Map::new();
                for (name, inner) in &self.0 {
                    if name == "*" {
                        kept.extend(fields.iter().map(|(n, v)| (n.clone(), inner.apply(v))));
                    } else if let Some(value) = fields.get(name) {
                        kept.insert(name.clone(), inner.apply(value));
                    }
                }
                Value::Object(kept)
            }
            other => other.clone(),
        }
    }
}
