//! Writes a prepared statement's parameters straight into the send buffer, in binary format.
//!
//! JSON goes as its text behind the version byte of `jsonb_recv`; nothing is parsed or copied twice.

use bytes::{BufMut, BytesMut};

const TEXT_OID: u32 = 25;
const JSONB_OID: u32 = 3802;
const BIGINT_OID: u32 = 20;
const JSONB_VERSION: u8 = 1;

/// One Bind message being written, followed by Execute when finished.
pub struct Bind<'a> {
    out: &'a mut BytesMut,
    length_at: usize,
    count_at: usize,
    count: u16,
}

impl<'a> Bind<'a> {
    /// Starts a call of the prepared `statement`.
    pub fn new(out: &'a mut BytesMut, statement: &str) -> Self {
        out.put_u8(b'B');
        let length_at = out.len();
        out.put_u32(0);
        out.put_u8(0); // the unnamed portal
        out.put_slice(statement.as_bytes());
        out.put_u8(0);
        out.put_u16(1); // one format for all parameters:
        out.put_u16(1); // binary
        let count_at = out.len();
        out.put_u16(0);
        Self { out, length_at, count_at, count: 0 }
    }

    /// A `bigint`.
    pub fn i64(mut self, value: i64) -> Self {
        self.value(|out| out.put_i64(value));
        self
    }

    /// A `text`.
    pub fn text(mut self, value: &str) -> Self {
        self.value(|out| out.put_slice(value.as_bytes()));
        self
    }

    /// A `jsonb`, whose text is written by `json`.
    pub fn jsonb(mut self, json: impl FnOnce(&mut BytesMut)) -> Self {
        self.value(|out| {
            out.put_u8(JSONB_VERSION);
            json(out);
        });
        self
    }

    /// A `bigint[]`.
    pub fn i64_array(self, values: impl ExactSizeIterator<Item = i64>) -> Self {
        self.array(BIGINT_OID, values, |out, value| out.put_i64(value))
    }

    /// A `text[]`.
    pub fn text_array<'t>(self, values: impl ExactSizeIterator<Item = &'t str>) -> Self {
        self.array(TEXT_OID, values, |out, value| out.put_slice(value.as_bytes()))
    }

    /// A `jsonb[]` of `count` elements, whose texts are written by `json`, one per call.
    pub fn jsonb_array(self, count: usize, mut json: impl FnMut(&mut BytesMut)) -> Self {
        self.array(JSONB_OID, 0..count, |out, _| {
            out.put_u8(JSONB_VERSION);
            json(out);
        })
    }

    /// Ends the message and asks for all rows, in binary format.
    pub fn execute(self) {
        self.out.put_u16(1);
        self.out.put_u16(1);
        patch_u16(self.out, self.count_at, self.count);
        patch_length(self.out, self.length_at, 0);
        self.out.put_u8(b'E');
        self.out.put_u32(9);
        self.out.put_u8(0);
        self.out.put_u32(0);
    }

    fn array<I: ExactSizeIterator>(
        mut self,
        element_oid: u32,
        values: I,
        mut write: impl FnMut(&mut BytesMut, I::Item),
    ) -> Self {
        self.value(|out| {
            out.put_u32(1); // dimensions
            out.put_u32(0); // no NULLs
            out.put_u32(element_oid);
            out.put_u32(values.len() as u32);
            out.put_u32(1); // lower bound
            for value in values {
                sized(out, |out| write(out, value));
            }
        });
        self
    }

    fn value(&mut self, write: impl FnOnce(&mut BytesMut)) {
        sized(self.out, write);
        self.count += 1;
    }
}

/// Writes what `write` writes, preceded by its length.
fn sized(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let length_at = out.len();
    out.put_u32(0);
    write(out);
    patch_length(out, length_at, 4);
}

/// Sets the length at `at` to the bytes from there to the end, less `excluded`.
fn patch_length(out: &mut BytesMut, at: usize, excluded: usize) {
    let length = (out.len() - at - excluded) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn patch_u16(out: &mut BytesMut, at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cover_what_follows() {
        let mut out = BytesMut::new();
        Bind::new(&mut out, "s").i64(7).text_array(["a", "bc"].into_iter()).execute();
        let bind = u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize;
        assert_eq!(out[1 + bind], b'E');
        assert_eq!(out.len(), 1 + bind + 10);
        // B, length, portal, "s\0", formats, then the count of parameters.
        assert_eq!(&out[12..14], &[0, 2]);
        assert_eq!(&out[14..18], &8u32.to_be_bytes());
        assert_eq!(&out[26..30], &(20u32 + 4 + 1 + 4 + 2).to_be_bytes());
    }
}
