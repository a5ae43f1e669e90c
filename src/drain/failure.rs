//! What an error means for the records that met it.

/// Why a batch could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// its SQLSTATE
    pub sqlstate: [u8; 5],
    /// the message
    pub message: String,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The records are at fault, or one of them: find it, and set it aside.
    SetAside,
    /// An event is there already: append one by one, which recognises a retry.
    OneByOne,
    /// The server is at fault, or somebody is in the way: the same will work later.
    TryLater,
    /// Unknown: try again, and when it stays, treat the records as at fault.
    SetAsideIfItStays,
}

impl Failure {
    /// The SQLSTATE as text.
    pub fn sqlstate(&self) -> &str {
        std::str::from_utf8(&self.sqlstate).unwrap_or("XX000")
    }

    /// What is to be done, by the class of the SQLSTATE (Appendix A of PostgreSQL's manual).
    pub fn remedy(&self) -> Remedy {
        match (self.sqlstate(), &self.sqlstate()[..2]) {
            ("23505", _) => Remedy::OneByOne,
            // A dropped table or role of the extension: the records are not at fault.
            ("42P01" | "42704" | "42501" | "3F000", _) => Remedy::TryLater,
            // Data exceptions, constraints, limits.
            (_, "22" | "23" | "44" | "54") => Remedy::SetAside,
            // Connections, features switched off (row security), transactions that lost, resources,
            // states, operators, the system.
            (_, "08" | "0A" | "25" | "40" | "53" | "55" | "57" | "58" | "F0") => Remedy::TryLater,
            _ => Remedy::SetAsideIfItStays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_record_can_be_guilty_of_sets_it_aside() {
        let remedy =
            |sqlstate: &[u8; 5]| Failure { sqlstate: *sqlstate, message: String::new() }.remedy();
        assert_eq!(remedy(b"22023"), Remedy::SetAside);
        assert_eq!(remedy(b"54000"), Remedy::SetAside);
        assert_eq!(remedy(b"23505"), Remedy::OneByOne);
        assert_eq!(remedy(b"53100"), Remedy::TryLater);
        assert_eq!(remedy(b"40P01"), Remedy::TryLater);
        assert_eq!(remedy(b"55P03"), Remedy::TryLater);
        assert_eq!(remedy(b"57014"), Remedy::TryLater);
        assert_eq!(remedy(b"42P01"), Remedy::TryLater);
        assert_eq!(remedy(b"XX001"), Remedy::SetAsideIfItStays);
    }
}
