//! What may be told about a connection that could not be made.

/// What libpq has said, without addresses, and without the statement behind it. For each server that it has
/// tried, libpq says where that is, then `failed:`, then why.
pub fn without_addresses(message: &str) -> String {
    let message = message.split(" (SQL statement").next().unwrap_or_default();
    let reasons: Vec<&str> = message
        .split("connection to server")
        .skip(1)
        .filter_map(|attempt| attempt.split_once(" failed: "))
        .filter_map(|(_, reason)| reason.lines().next())
        .map(str::trim)
        .collect();
    if reasons.is_empty() { message.to_owned() } else { reasons.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_left_out() {
        let both = "could not connect to the publisher: connection to server at \"db1\" (10.0.0.1), port 5432 failed: \
                    Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?\n\
                    connection to server at \"db2\" (10.0.0.2), port 5432 failed: FATAL:  role \"r\" is not permitted to log in \
                    (SQL statement \"CREATE SUBSCRIPTION s CONNECTION 'host=db1,db2'\")";
        let told = "Connection refused; FATAL:  role \"r\" is not permitted to log in";
        assert_eq!(without_addresses(both), told);
        let other = "permission denied to create \"s\" (SQL statement \"CREATE SUBSCRIPTION s CONNECTION 'host=db1'\")";
        assert_eq!(without_addresses(other), "permission denied to create \"s\"");
    }
}
