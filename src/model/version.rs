//! Optimistic concurrency: what a writer believes about a stream before it appends.

use super::error::StoreError;

/// The expected version of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Whatever the version is. NULL in SQL.
    Any,
    /// The stream exists, with or without events. -1 in SQL.
    Exists,
    /// Exactly this version; 0 says that the stream has no events, and need not exist.
    Exactly(i64),
}

impl ExpectedVersion {
    /// From the value in SQL: NULL, -1, 0 or a version.
    pub fn from_sql(value: Option<i64>) -> Result<Self, StoreError> {
        match value {
            None => Ok(Self::Any),
            Some(-1) => Ok(Self::Exists),
            Some(version) if version >= 0 => Ok(Self::Exactly(version)),
            Some(version) => Err(StoreError::BadExpectedVersion { version }),
        }
    }

    /// The value in SQL.
    pub fn to_sql(self) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::Exists => Some(-1),
            Self::Exactly(version) => Some(version),
        }
    }

    /// Whether a stream at `current` may be appended to; `None` is a stream that does not exist.
    pub fn is_satisfied_by(self, current: Option<i64>) -> bool {
        match self {
            Self::Any => true,
            Self::Exists => current.is_some(),
            Self::Exactly(version) => current.unwrap_or(0) == version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expectation_meets_every_stream() {
        let streams = [None, Some(0), Some(3)];
        let table = [
            (None, [true, true, true]),
            (Some(-1), [false, true, true]),
            (Some(0), [true, true, false]),
            (Some(3), [false, false, true]),
        ];
        for (sql, satisfied) in table {
            let expected = ExpectedVersion::from_sql(sql).unwrap();
            assert_eq!(expected.to_sql(), sql);
            assert_eq!(streams.map(|s| expected.is_satisfied_by(s)), satisfied, "{expected:?}");
        }
        assert_eq!(
            ExpectedVersion::from_sql(Some(-2)),
            Err(StoreError::BadExpectedVersion { version: -2 })
        );
    }
}
