//! The events that all workloads write: JSON texts of a fixed size, every one distinct.
//!
//! A pool of texts is made beforehand; writing one copies it and overwrites its serial number, so
//! that the load generator spends next to nothing on an event. About half of a text is random (ids,
//! a token, amounts), the rest is what real events repeat: keys, names, a city.

use std::rc::Rc;

use bytes::BytesMut;

use crate::rng::{Rng, mix};

/// Bytes of an event's JSON text.
pub const PAYLOAD_BYTES: usize = 256;

/// Bytes of the text of a small event.
pub const SMALL_PAYLOAD_BYTES: usize = 60;

/// How large the events are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// [`PAYLOAD_BYTES`].
    Full,
    /// [`SMALL_PAYLOAD_BYTES`].
    Small,
}

/// The event types, taken in turn.
pub const EVENT_TYPES: [&str; 8] = [
    "OrderPlaced",
    "PaymentReceived",
    "ItemPicked",
    "ParcelPacked",
    "ParcelShipped",
    "AddressCorrected",
    "ParcelDelivered",
    "InvoiceSettled",
];

const POOL_TEXTS: usize = 16_384;
const SERIAL_AT: usize = 7; // behind {"id":"
const SERIAL_DIGITS: usize = 16;

const FIRST_NAMES: [&str; 12] = [
    "Ada", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kofi",
    "Lena",
];
const LAST_NAMES: [&str; 12] = [
    "Okafor", "Brandt", "Silva", "Novak", "Haddad", "Larsen", "Moreau", "Tanaka", "Costa", "Weber",
    "Mensah", "Ivanova",
];
const CITIES: [&str; 8] =
    ["Lisbon", "Gdansk", "Utrecht", "Nairobi", "Osaka", "Valparaiso", "Leeds", "Bergen"];

/// A supply of distinct JSON texts; every client has its own.
pub struct Payloads {
    pool: Rc<Pool>,
    next: usize,
    serial: u64,
}

struct Pool {
    texts: Vec<u8>,
    text_bytes: usize,
}

impl Payloads {
    /// Texts of [`PAYLOAD_BYTES`].
    pub fn full() -> Self {
        Self::with(PAYLOAD_BYTES, full_text)
    }

    /// Texts of [`SMALL_PAYLOAD_BYTES`].
    pub fn small() -> Self {
        Self::with(SMALL_PAYLOAD_BYTES, small_text)
    }

    fn with(text_bytes: usize, text: fn(&mut Rng) -> String) -> Self {
        let mut rng = Rng::new(42);
        let mut texts = Vec::with_capacity(POOL_TEXTS * text_bytes);
        for _ in 0..POOL_TEXTS {
            let text = text(&mut rng);
            debug_assert_eq!(text.len(), text_bytes);
            texts.extend_from_slice(text.as_bytes());
        }
        Self { pool: Rc::new(Pool { texts, text_bytes }), next: 0, serial: 0 }
    }

    /// A supply over the same pool whose texts differ from those of every other `seed`.
    pub fn fork(&self, seed: u64) -> Self {
        Self {
            pool: Rc::clone(&self.pool),
            next: Rng::new(seed).below(POOL_TEXTS),
            serial: seed << 36,
        }
    }

    /// Appends the next text to `out`.
    pub fn write(&mut self, out: &mut BytesMut) {
        let bytes = self.pool.text_bytes;
        let from = self.next * bytes;
        let to = out.len();
        out.extend_from_slice(&self.pool.texts[from..from + bytes]);
        self.next = (self.next + 1) % POOL_TEXTS;
        self.serial += 1;
        let mut rest = mix(self.serial);
        for digit in &mut out[to + SERIAL_AT..to + SERIAL_AT + SERIAL_DIGITS] {
            *digit = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
    }
}

fn full_text(rng: &mut Rng) -> String {
    let mut text = format!(
        "{{\"id\":\"{:016x}\",\"customer\":\"{} {}\",\"city\":\"{}\",\"sku\":\"{}-{:05}\",\"quantity\":{},\
         \"price\":{}.{:02},\"paid\":{},\"address\":{{\"street\":{},\"zip\":\"{:05}\"}},\"token\":\"",
        0,
        FIRST_NAMES[rng.below(FIRST_NAMES.len())],
        LAST_NAMES[rng.below(LAST_NAMES.len())],
        CITIES[rng.below(CITIES.len())],
        ["AX", "BD", "KT", "QM"][rng.below(4)],
        rng.below(100_000),
        1 + rng.below(9),
        5 + rng.below(900),
        rng.below(100),
        rng.below(2) == 0,
        1 + rng.below(250),
        rng.below(100_000),
    );
    fill(&mut text, rng, PAYLOAD_BYTES);
    text
}

fn small_text(rng: &mut Rng) -> String {
    let mut text =
        format!("{{\"id\":\"{:016x}\",\"quantity\":{},\"token\":\"", 0, 1 + rng.below(9));
    fill(&mut text, rng, SMALL_PAYLOAD_BYTES);
    text
}

/// Random hexadecimal digits until the closed text has `bytes`.
fn fill(text: &mut String, rng: &mut Rng, bytes: usize) {
    while text.len() < bytes - 2 {
        text.push(char::from(b"0123456789abcdef"[rng.below(16)]));
    }
    text.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(mut payloads: Payloads, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let mut out = BytesMut::new();
                payloads.write(&mut out);
                String::from_utf8(out.to_vec()).expect("utf-8")
            })
            .collect()
    }

    #[test]
    fn every_text_is_json_of_the_size() {
        let texts =
            [(texts(Payloads::full(), POOL_TEXTS), 256), (texts(Payloads::small(), 50), 60)];
        for (texts, bytes) in texts {
            for text in texts {
                assert_eq!(text.len(), bytes);
                serde_json::from_str::<serde_json::Value>(&text).expect("valid json");
            }
        }
    }

    #[test]
    fn texts_are_distinct_across_clients_and_pool_rounds() {
        let parent = Payloads::full();
        let mut all = texts(parent.fork(1), POOL_TEXTS + 10);
        all.extend(texts(parent.fork(2), POOL_TEXTS + 10));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
