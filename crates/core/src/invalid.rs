//! Arguments that cannot be answered, and how to say it right.

/// What is wrong with an argument. The message names the argument, or the path inside it (`groups[1].any`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    message: String,
    hint: String,
}

impl Invalid {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// What to say instead.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// More than we are willing to compute.
    #[error("{0}")]
    TooMuch(Invalid),
}

impl Refusal {
    pub fn too_much(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::TooMuch(Invalid::new(message, hint))
    }
}
