//! The error document: `{"message":"…"}` (definition `ErrorResponse`).

use serde::{Deserialize, Serialize};

/// What every failing request is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    /// The sentence shown to the user.
    pub message: String,
}

/// A reply that only names an object: exec create, commit, build (definition `IDResponse`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdResponse {
    #[serde(rename = "Id")]
    pub id: String,
}
