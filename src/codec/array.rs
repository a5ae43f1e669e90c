//! PostgreSQL's format of a one-dimensional array, written and read as plain bytes.
//!
//! ```text
//! body (what follows the 4-byte length word)
//! 0   number of dimensions   i32
//! 4   offset of the data     i32   from the length word on; 0 where there are no nulls
//! 8   type of the elements   u32
//! 12  number of elements     i32
//! 16  lower bound            i32
//! 20  null bitmap            one bit per element, set where it is not null; only with nulls
//! ..  elements               each with a length word, on 4-byte boundaries; UUIDs are bare
//! ```
//!
//! Offsets count from the length word, which itself stands on a boundary of 8 bytes.

/// Type numbers from `pg_type`; they are fixed for built-in types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ElementType {
    /// bigint
    Int8 = 20,
    /// integer
    Int4 = 23,
    /// text
    Text = 25,
    /// timestamp with time zone
    Timestamptz = 1184,
    /// uuid
    Uuid = 2950,
    /// jsonb
    Jsonb = 3802,
}

impl ElementType {
    /// Bytes of an element, for types of fixed length.
    fn fixed_len(self) -> Option<usize> {
        match self {
            Self::Int8 | Self::Timestamptz => Some(8),
            Self::Int4 => Some(4),
            Self::Uuid => Some(16),
            Self::Text | Self::Jsonb => None,
        }
    }
}

const LENGTH_WORD: usize = 4;
const HEADER: usize = 24;

/// What an element takes beyond its own bytes: its length word, and what brings the next one to its
/// boundary.
pub const ELEMENT_OVERHEAD_MAX: usize = LENGTH_WORD + 3;

/// What an array of `len` elements takes beyond them: what brings it and its data to their
/// boundaries, its header, and the null bitmap.
pub const fn overhead_max(len: usize) -> usize {
    7 + HEADER + len.div_ceil(8) + 7
}

/// What is wrong with the bytes of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrayError {
    /// More than one dimension.
    #[error("array has {0} dimensions")]
    Dimensions(i32),
    /// Elements of another type than asked for.
    #[error("array has elements of type {0}")]
    ElementType(u32),
    /// The bytes end too early or an element is not stored plainly.
    #[error("array is damaged")]
    Damaged,
}

fn align4(offset: usize) -> usize {
    (offset + 3) & !3
}

fn length_word(len: usize) -> [u8; 4] {
    // SET_VARSIZE of PostgreSQL: the two flag bits are the lowest of a little-endian word, the
    // highest of a big-endian one.
    let len = len as u32;
    if cfg!(target_endian = "little") { (len << 2).to_ne_bytes() } else { len.to_ne_bytes() }
}

fn word_length(word: [u8; 4]) -> usize {
    let word = u32::from_ne_bytes(word);
    (if cfg!(target_endian = "little") { word >> 2 } else { word & 0x3fff_ffff }) as usize
}

/// Appends an array to `out`, length word included, and returns where it begins: a multiple of 8.
pub fn write_array<E: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    element_type: ElementType,
    elements: impl ExactSizeIterator<Item = Option<E>> + Clone,
) -> usize {
    let start = (out.len() + 7) & !7;
    out.resize(start, 0);
    let len = elements.len();
    let has_nulls = elements.clone().any(|element| element.is_none());
    let bitmap = if has_nulls { len.div_ceil(8) } else { 0 };
    let data = if has_nulls { (HEADER + bitmap + 7) & !7 } else { 0 };
    out.extend_from_slice(&[0; LENGTH_WORD]);
    out.extend_from_slice(&1i32.to_ne_bytes());
    out.extend_from_slice(&(data as i32).to_ne_bytes());
    out.extend_from_slice(&(element_type as u32).to_ne_bytes());
    out.extend_from_slice(&(len as i32).to_ne_bytes());
    out.extend_from_slice(&1i32.to_ne_bytes());
    if has_nulls {
        out.resize(start + data, 0);
        for (index, element) in elements.clone().enumerate() {
            if element.is_some() {
                out[start + HEADER + index / 8] |= 1 << (index % 8);
            }
        }
    }
    let fixed = element_type.fixed_len();
    for element in elements.flatten() {
        let element = element.as_ref();
        if fixed.is_none() {
            out.extend_from_slice(&length_word(element.len() + LENGTH_WORD));
        }
        out.extend_from_slice(element);
        if fixed.is_none() {
            out.resize(start + align4(out.len() - start), 0);
        }
    }
    let total = out.len() - start;
    out[start..start + LENGTH_WORD].copy_from_slice(&length_word(total));
    start
}

/// Reads an array: an iterator over its elements.
#[derive(Clone, Copy, Debug)]
pub struct ArrayReader<'a> {
    body: &'a [u8],
    element_len: Option<usize>,
    bitmap: Option<&'a [u8]>,
    next: usize,
    len: usize,
    /// Offset of the next element in `body`.
    offset: usize,
}

impl<'a> ArrayReader<'a> {
    /// Opens the body of an array, that is, what follows its length word.
    pub fn new(body: &'a [u8], element_type: ElementType) -> Result<Self, ArrayError> {
        let int = |at: usize| -> Result<i32, ArrayError> {
            let bytes = body.get(at..at + 4).ok_or(ArrayError::Damaged)?;
            bytes.try_into().map(i32::from_ne_bytes).map_err(|_| ArrayError::Damaged)
        };
        let found = int(8)?.cast_unsigned();
        if found != element_type as u32 {
            return Err(ArrayError::ElementType(found));
        }
        let empty = Self {
            body,
            element_len: element_type.fixed_len(),
            bitmap: None,
            next: 0,
            len: 0,
            offset: 0,
        };
        match int(0)? {
            0 => return Ok(empty),
            1 => {}
            dimensions => return Err(ArrayError::Dimensions(dimensions)),
        }
        let len = usize::try_from(int(12)?).map_err(|_| ArrayError::Damaged)?;
        let data = usize::try_from(int(4)?).map_err(|_| ArrayError::Damaged)?;
        let header = HEADER - LENGTH_WORD;
        let (bitmap, offset) = match data {
            0 => (None, header),
            data => (
                Some(body.get(header..header + len.div_ceil(8)).ok_or(ArrayError::Damaged)?),
                data.checked_sub(LENGTH_WORD).ok_or(ArrayError::Damaged)?,
            ),
        };
        Ok(Self { bitmap, len, offset, ..empty })
    }

    /// Elements that are still to come.
    pub fn remaining(&self) -> usize {
        self.len - self.next
    }

    /// The next element; `Ok(None)` is a NULL. Must not be called when none remains.
    pub fn read(&mut self) -> Result<Option<&'a [u8]>, ArrayError> {
        self.read_with_header().map(|element| element.map(|(_, bytes)| bytes))
    }

    /// The next element and the offset, in the body, at which it begins with its length word.
    pub fn read_with_header(&mut self) -> Result<Option<(usize, &'a [u8])>, ArrayError> {
        let index = self.next;
        self.next += 1;
        if self.bitmap.is_some_and(|bitmap| bitmap[index / 8] & (1 << (index % 8)) == 0) {
            return Ok(None);
        }
        let (start, end) = match self.element_len {
            Some(len) => (self.offset, self.offset + len),
            None => {
                // Offsets in the body are 4 less than those in the array: boundaries stay the same.
                self.offset = align4(self.offset);
                let word = self.body.get(self.offset..self.offset + LENGTH_WORD);
                let word = word.and_then(|w| w.try_into().ok()).ok_or(ArrayError::Damaged)?;
                let len = word_length(word);
                if !is_plain(word) || len < LENGTH_WORD {
                    return Err(ArrayError::Damaged);
                }
                (self.offset + LENGTH_WORD, self.offset + len)
            }
        };
        let header = self.offset;
        self.offset = end;
        self.body.get(start..end).map(|bytes| Some((header, bytes))).ok_or(ArrayError::Damaged)
    }

    /// Passes over the next `count` elements.
    pub fn skip(&mut self, count: usize) -> Result<(), ArrayError> {
        for _ in 0..count {
            self.read()?;
        }
        Ok(())
    }
}

/// Whether a length word is that of a plain value: neither short, compressed nor stored elsewhere.
fn is_plain(word: [u8; 4]) -> bool {
    let flags = if cfg!(target_endian = "little") { word[0] & 0x03 } else { word[0] & 0xc0 };
    flags == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(body: &[u8], element_type: ElementType) -> Vec<Option<Vec<u8>>> {
        let mut reader = ArrayReader::new(body, element_type).unwrap();
        (0..reader.remaining()).map(|_| reader.read().unwrap().map(<[u8]>::to_vec)).collect()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            elements in prop::collection::vec(
                prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..40)), 1..70
            ),
            before in 0usize..9,
        ) {
            let mut out = vec![0xff; before];
            let start =
                write_array(&mut out, ElementType::Jsonb, elements.iter().map(|e| e.as_deref()));
            prop_assert_eq!(start % 8, 0);
            let word: [u8; 4] = out[start..start + 4].try_into().unwrap();
            prop_assert_eq!(word_length(word), out.len() - start);
            prop_assert_eq!(read_all(&out[start + 4..], ElementType::Jsonb), elements);
        }

        #[test]
        fn damaged_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80), flip in any::<bool>()
        ) {
            let mut body = bytes;
            if flip && body.len() >= 20 {
                body[0..4].copy_from_slice(&1i32.to_ne_bytes());
                body[8..12].copy_from_slice(&25u32.to_ne_bytes());
            }
            if let Ok(mut reader) = ArrayReader::new(&body, ElementType::Text) {
                while reader.remaining() > 0 && reader.read().is_ok() {}
            }
        }
    }

    #[test]
    fn uuids_are_bare() {
        let ids = [[1u8; 16], [2; 16]];
        let mut out = Vec::new();
        write_array(&mut out, ElementType::Uuid, ids.iter().map(|id| Some(&id[..])));
        assert_eq!(out.len(), HEADER + 32);
        let read = read_all(&out[4..], ElementType::Uuid);
        assert_eq!(read, ids.map(|id| Some(id.to_vec())));
    }

    #[test]
    fn other_shapes_are_refused() {
        let mut out = Vec::new();
        write_array(&mut out, ElementType::Text, [Some(&b"x"[..])].into_iter());
        assert_eq!(
            ArrayReader::new(&out[4..], ElementType::Jsonb).err(),
            Some(ArrayError::ElementType(25))
        );
        out[4..8].copy_from_slice(&2i32.to_ne_bytes());
        assert_eq!(
            ArrayReader::new(&out[4..], ElementType::Text).err(),
            Some(ArrayError::Dimensions(2))
        );
    }
}
