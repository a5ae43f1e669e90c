//! Names of streams, tenants, entities and event types.

use super::error::StoreError;

/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 255;

/// The kind of a name, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// `stream_id`
    Stream,
    /// `after_stream_id`
    AfterStream,
    /// `tenant_id`
    Tenant,
    /// `entity_id`
    Entity,
    /// `event_type`
    EventType,
}

impl NameKind {
    /// The argument's name in SQL.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Stream => "stream_id",
            Self::AfterStream => "after_stream_id",
            Self::Tenant => "tenant_id",
            Self::Entity => "entity_id",
            Self::EventType => "event_type",
        }
    }
}

/// Checks a name: not empty, and at most [`NAME_CHARS_MAX`] characters. Names are compared byte by
/// byte and are never normalized, so every character is allowed. `count_chars` counts characters
/// in the database's encoding and is asked only for names that have more bytes than that.
pub fn check_name(
    kind: NameKind,
    name: Option<&[u8]>,
    count_chars: impl Fn(&[u8]) -> usize,
) -> Result<&[u8], StoreError> {
    let argument = kind.argument();
    let name = name.ok_or(StoreError::NullArgument { argument })?;
    if name.is_empty() {
        return Err(StoreError::EmptyName { argument });
    }
    if name.len() > NAME_CHARS_MAX {
        let chars = count_chars(name);
        if chars > NAME_CHARS_MAX {
            return Err(StoreError::NameTooLong { argument, chars });
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: Option<&str>) -> Result<&[u8], StoreError> {
        check_name(NameKind::Stream, name.map(str::as_bytes), |bytes| {
            std::str::from_utf8(bytes).unwrap().chars().count()
        })
    }

    #[test]
    fn names_have_1_to_255_characters() {
        let longest = "ß".repeat(255);
        assert!(check(Some("a")).is_ok());
        assert!(check(Some(&longest)).is_ok());
        assert_eq!(check(None), Err(StoreError::NullArgument { argument: "stream_id" }));
        assert_eq!(check(Some("")), Err(StoreError::EmptyName { argument: "stream_id" }));
        assert_eq!(
            check(Some(&"ß".repeat(256))),
            Err(StoreError::NameTooLong { argument: "stream_id", chars: 256 })
        );
    }
}
