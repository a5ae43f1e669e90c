//! Numbers of few bytes where they are small: seven bits to a byte, the lowest first, the high bit of
//! all but the last byte set (LEB128, as protobuf has it).

/// Bytes of the longest number.
pub const VARINT_BYTES_MAX: usize = 10;

/// Appends a number. Room for [`VARINT_BYTES_MAX`] should have been made before.
#[inline]
pub fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length.
#[inline]
pub fn write_len(out: &mut Vec<u8>, len: usize) {
    write(out, len as u64);
}

/// Takes a number from the front of `bytes`; `None` if there is none, or one that is too large.
#[inline]
pub fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes a length.
#[inline]
pub fn read_len(bytes: &mut &[u8]) -> Option<usize> {
    read(bytes).and_then(|len| usize::try_from(len).ok())
}

/// Takes as many bytes from the front.
#[inline]
pub fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (part, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(value: u64, shift in 0..64u32, rest in ".{0,3}") {
            let value = value >> shift;
            let mut out = Vec::new();
            write(&mut out, value);
            prop_assert!(out.len() <= VARINT_BYTES_MAX);
            for len in 0..out.len() {
                prop_assert_eq!(read(&mut &out[..len]), None);
            }
            out.extend_from_slice(rest.as_bytes());
            let mut bytes = &out[..];
            prop_assert_eq!(read(&mut bytes), Some(value));
            prop_assert_eq!(bytes, rest.as_bytes());
        }

        #[test]
        fn any_bytes_are_a_number_or_none(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = read(&mut &bytes[..]);
        }
    }

    #[test]
    fn small_numbers_have_one_byte() {
        for value in [0, 1, 127] {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(out.len(), 1, "{value}");
        }
        assert_eq!(read(&mut &[0xff; 10][..]), None);
    }
}
