//! The names and small values of a manifest, each with the rule of the published schemas.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Text that keeps a rule: parsed once, shown in the JSON Schema as `$schema`.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $rule:expr, $needs:literal, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            /// Says what is needed.
            pub fn new(text: impl Into<String>) -> Result<Self, String> {
                let text = text.into();
                let rule: fn(&str) -> bool = $rule;
                if rule(&text) {
                    Ok(Self(text))
                } else {
                    let shown: String = text.chars().take(60).collect();
                    Err(format!("`{}` must be {}", shown.escape_debug(), $needs))
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

text!(
    /// A module's name.
    ModuleName,
    |text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
    "letters, digits, `_` and `-`",
    { "type": "string", "pattern": "^[a-zA-Z0-9_-]+$" }
);

text!(
    /// The name of a route or of a registry: a key of a twin.
    PlainName,
    |text| !text.is_empty() && !text.contains(['.', '$', '#', ' ']),
    "a name without `.`, `$`, `#` and spaces",
    { "type": "string", "pattern": "^[^\\.\\$# ]+$" }
);

text!(
    /// The name of an environment variable.
    EnvName,
    |text| {
        !text.is_empty() && !text.contains(|c: char| matches!(c, '+' | '#' | '$' | '.') || c.is_whitespace())
    },
    "a name without `+`, `#`, `$`, `.` and white space",
    { "type": "string", "pattern": "^[^\\+#$\\s\\.]+$" }
);

text!(
    /// Text that is there and holds no white space, such as an image's reference.
    Unspaced,
    |text| !text.is_empty() && !text.contains(char::is_whitespace),
    "text without white space",
    { "type": "string", "pattern": "^[^\\s]+$" }
);

text!(
    /// Text that is there.
    NonEmpty,
    |text| !text.is_empty(),
    "text that is not empty",
    { "type": "string", "minLength": 1 }
);

text!(
    /// `createOptions`, `createOptions01` …; the older spelling `createoptions` is read too.
    CreateOptionsKey,
    |text| number_of(text).is_some(),
    "`createOptions` and a number",
    { "type": "string", "pattern": "^(createoptions|createOptions)[0-9]{0,9}$" }
);

text!(
    /// A piece of the options, at most [`CreateOptionsPiece::MAX_CHARS`] characters.
    CreateOptionsPiece,
    |text| text.chars().count() <= CreateOptionsPiece::MAX_CHARS,
    "text of at most 512 characters",
    { "type": "string", "maxLength": 512 }
);

impl CreateOptionsPiece {
    /// The most characters: a twin's limit on one value, which edgeAgent's pieces are cut to.
    pub const MAX_CHARS: usize = 512;
}

impl CreateOptionsKey {
    /// Which piece the key names: `createOptions` is 0, `createOptions07` is 7.
    pub fn number(&self) -> u32 {
        number_of(&self.0).unwrap_or_default()
    }
}

fn number_of(key: &str) -> Option<u32> {
    let digits = key.strip_prefix("createOptions").or_else(|| key.strip_prefix("createoptions"))?;
    match digits.len() {
        0 => Some(0),
        1..=9 if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

/// How urgent a route's messages are: 0, the most urgent, to 9.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            priority @ 0..=9 => Ok(Self(priority)),
            other => Err(serde::de::Error::custom(format_args!("`{other}` must be 0 to 9"))),
        }
    }
}

impl schemars::JsonSchema for Priority {
    fn schema_name() -> Cow<'static, str> {
        "Priority".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 0, "maximum": 9 })
    }
}
