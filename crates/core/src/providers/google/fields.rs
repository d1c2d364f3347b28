//! Reading JSON objects field by field, so that what is wrong can be named.

use serde_json::{Map, Value};

use super::text::quoted;

/// What is wrong with one field of an event resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldProblem {
    /// Its path within the item, e.g. `start.dateTime`; empty: the item as a whole.
    pub field: String,
    pub reason: String,
}

impl FieldProblem {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    fn wrong_type(field: &str, wanted: &str) -> Self {
        Self::new(field, format!("it is not {wanted}"))
    }

    /// The same problem, seen from the object that holds the object.
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), reason: self.reason }
    }
}

/// A JSON object whose fields are read by type. A field that is null counts as absent.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub fn of(value: &'a Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    pub fn of_map(fields: &'a Map<String, Value>) -> Self {
        Self(fields)
    }

    pub fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn text(self, name: &str) -> Result<Option<&'a str>, FieldProblem> {
        self.typed(name, "a string", Value::as_str)
    }

    pub fn flag(self, name: &str) -> Result<bool, FieldProblem> {
        Ok(self.typed(name, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    pub fn whole_number(self, name: &str) -> Result<Option<i32>, FieldProblem> {
        self.typed(name, "a whole number of 32 bits", |value| value.as_i64().and_then(|number| number.try_into().ok()))
    }

    pub fn object(self, name: &str) -> Result<Option<Self>, FieldProblem> {
        self.typed(name, "an object", Self::of)
    }

    pub fn list(self, name: &str) -> Result<&'a [Value], FieldProblem> {
        Ok(self.typed(name, "an array", |value| value.as_array())?.map_or(&[], Vec::as_slice))
    }

    fn typed<T>(
        self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FieldProblem> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| FieldProblem::wrong_type(name, wanted)),
        }
    }

    /// An event's id: Google's are 5 to 1024 characters; longer ones (in bytes) would not fit an index either.
    pub fn id(self, name: &str) -> Result<Option<&'a str>, FieldProblem> {
        const LONGEST: usize = 1024;
        let Some(id) = self.text(name)? else { return Ok(None) };
        let problem = match id {
            "" => "it is empty".to_owned(),
            _ if id.len() > LONGEST => format!("it is longer than {LONGEST} bytes: {}", quoted(id)),
            _ if id.contains('\0') => format!("it holds a NUL character: {}", quoted(id)),
            _ => return Ok(Some(id)),
        };
        Err(FieldProblem::new(name, problem))
    }
}
