//! What an error means for the records that could not be written.

/// Why records could not be written.
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
    /// A record is at fault: find it, and set it aside.
    SetAside,
    /// The records wait until they can be written. If others of the partition can be, only their streams
    /// wait.
    Wait,
    /// Unknown. The records wait. One that cannot be written is at fault if others of its partition can
    /// be.
    WaitOrSetAside,
    /// Others have locked what is needed.
    GiveWay,
    /// The server is at fault: nothing can be written now.
    TryLater,
}

impl Failure {
    /// The SQLSTATE as text.
    pub fn sqlstate(&self) -> &str {
        std::str::from_utf8(&self.sqlstate).unwrap_or("XX000")
    }

    /// What is to be done, by the class of the SQLSTATE (Appendix A of PostgreSQL's manual).
    pub fn remedy(&self) -> Remedy {
        match (self.sqlstate(), &self.sqlstate()[..2]) {
            // A sequence has reached its end, which is no record's fault.
            ("2200H", _) => Remedy::TryLater,
            // Data exceptions, constraints, limits.
            (_, "22" | "23" | "44" | "54") => Remedy::SetAside,
            // The file of a table is missing, and nobody knows of other tables.
            ("58P01", _) => Remedy::Wait,
            ("55P03", _) | (_, "40") => Remedy::GiveWay,
            // Row security, transactions that lost, rights and names, locks and states.
            (_, "0A" | "42" | "3F" | "55") => Remedy::Wait,
            // Connections, invalid states, resources, operators, the system.
            (_, "08" | "25" | "53" | "57" | "58" | "F0") => Remedy::TryLater,
            _ => Remedy::WaitOrSetAside,
        }
    }

    /// Whether there was too little memory: fewer records at once may have enough.
    pub fn is_out_of_memory(&self) -> bool {
        self.sqlstate() == "53200"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_record_can_be_guilty_of_sets_it_aside() {
        let remedy =
            |sqlstate: &[u8; 5]| Failure { sqlstate: *sqlstate, message: String::new() }.remedy();
        for (sqlstate, expected) in [
            (b"22023", Remedy::SetAside),
            (b"23505", Remedy::SetAside),
            (b"54000", Remedy::SetAside),
            (b"2200H", Remedy::TryLater),
            (b"53100", Remedy::TryLater),
            (b"53200", Remedy::TryLater),
            (b"53400", Remedy::TryLater),
            (b"57014", Remedy::TryLater),
            (b"40P01", Remedy::GiveWay),
            (b"55P03", Remedy::GiveWay),
            (b"55000", Remedy::Wait),
            (b"42P01", Remedy::Wait),
            (b"58P01", Remedy::Wait),
            (b"58030", Remedy::TryLater),
            (b"P0001", Remedy::WaitOrSetAside),
            (b"XX001", Remedy::WaitOrSetAside),
        ] {
            assert_eq!(remedy(sqlstate), expected, "{}", String::from_utf8_lossy(sqlstate));
        }
    }
}
