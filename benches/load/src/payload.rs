//! The events that all workloads write: JSON texts of a fixed size, every one distinct.
//!
//! A pool of texts is made beforehand; the next one is a copy with another serial number, so that
//! the load generator spends next to nothing on an event. About half of a text is random (ids, a
//! token, amounts), the rest is what real events repeat: keys, names, a city.

use std::error::Error;
use std::io::Write as _;
use std::sync::OnceLock;

use bytes::{BufMut as _, BytesMut};
use fastrand::Rng;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

/// Bytes of an event's JSON text.
pub const PAYLOAD_BYTES: usize = 256;

/// Bytes of the text of a small event.
pub const SMALL_PAYLOAD_BYTES: usize = 60;

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
const JSONB_VERSION: u8 = 1;

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

/// The type of the event `number`.
pub const fn event_type(number: usize) -> &'static str {
    EVENT_TYPES[number % EVENT_TYPES.len()]
}

/// How large the events are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Size {
    /// [`PAYLOAD_BYTES`].
    Full,
    /// [`SMALL_PAYLOAD_BYTES`].
    Small,
}

impl Size {
    /// Bytes of a text.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Full => PAYLOAD_BYTES,
            Self::Small => SMALL_PAYLOAD_BYTES,
        }
    }

    fn pool(self) -> &'static [Vec<u8>] {
        static POOLS: [OnceLock<Vec<Vec<u8>>>; 2] = [OnceLock::new(), OnceLock::new()];
        POOLS[self as usize].get_or_init(|| {
            let mut rng = Rng::with_seed(42);
            (0..POOL_TEXTS).map(|_| text(self, &mut rng)).collect()
        })
    }
}

/// The JSON text of an event.
#[derive(Debug)]
pub struct Payload(pub Vec<u8>);

/// An endless supply of distinct texts; every client has its own.
pub struct Payloads {
    pool: &'static [Vec<u8>],
    next: usize,
    serial: u64,
}

impl Payloads {
    /// A supply whose texts differ from those of every other `seed`.
    pub fn new(size: Size, seed: u64) -> Self {
        let next = Rng::with_seed(seed).usize(..POOL_TEXTS);
        Self { pool: size.pool(), next, serial: seed << 36 }
    }

    /// The next text.
    pub fn one(&mut self) -> Payload {
        const ODD: u64 = 0x9E37_79B9_7F4A_7C15; // multiplying by it keeps distinct numbers distinct
        let mut text = self.pool[self.next].clone();
        self.next = (self.next + 1) % POOL_TEXTS;
        self.serial += 1;
        let mut digits = &mut text[SERIAL_AT..SERIAL_AT + SERIAL_DIGITS];
        // The digits fit.
        let _ = write!(digits, "{:016x}", self.serial.wrapping_mul(ODD));
        Payload(text)
    }

    /// The next `count` texts.
    pub fn take(&mut self, count: usize) -> Vec<Payload> {
        (0..count).map(|_| self.one()).collect()
    }
}

impl ToSql for Payload {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u8(JSONB_VERSION);
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

fn text(size: Size, rng: &mut Rng) -> Vec<u8> {
    let mut text = match size {
        Size::Full => full_start(rng),
        Size::Small => {
            format!("{{\"id\":\"{:016x}\",\"quantity\":{},\"token\":\"", 0, rng.u8(1..10))
        }
    };
    while text.len() < size.bytes() - 2 {
        text.push(rng.digit(16));
    }
    text.push_str("\"}");
    text.into_bytes()
}

fn full_start(rng: &mut Rng) -> String {
    format!(
        "{{\"id\":\"{:016x}\",\"customer\":\"{} {}\",\"city\":\"{}\",\"sku\":\"{}-{:05}\",\"quantity\":{},\
         \"price\":{}.{:02},\"paid\":{},\"address\":{{\"street\":{},\"zip\":\"{:05}\"}},\"token\":\"",
        0,
        FIRST_NAMES[rng.usize(..FIRST_NAMES.len())],
        LAST_NAMES[rng.usize(..LAST_NAMES.len())],
        CITIES[rng.usize(..CITIES.len())],
        ["AX", "BD", "KT", "QM"][rng.usize(..4)],
        rng.u32(..100_000),
        rng.u8(1..10),
        rng.u32(5..905),
        rng.u8(..100),
        rng.bool(),
        rng.u8(1..=250),
        rng.u32(..100_000),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_json_of_the_size() {
        for size in [Size::Full, Size::Small] {
            for Payload(text) in Payloads::new(size, 1).take(POOL_TEXTS) {
                assert_eq!(text.len(), size.bytes());
                serde_json::from_slice::<serde_json::Value>(&text).expect("valid json");
            }
        }
    }

    #[test]
    fn texts_are_distinct_across_clients_and_pool_rounds() {
        let texts = |seed| Payloads::new(Size::Full, seed).take(POOL_TEXTS + 10);
        let mut all: Vec<_> = texts(1).into_iter().chain(texts(2)).map(|text| text.0).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
