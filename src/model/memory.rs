//! Memory whose size a caller decides. It is asked for where it can be refused: an allocation that
//! fails elsewhere ends the process, and with it the server.

use std::collections::TryReserveError;

/// There is not as much memory as a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory {
    /// what was asked for
    pub size_bytes: usize,
}

/// An empty vector with room for `len` values.
pub fn with_room<T>(len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = Vec::new();
    reserve(&mut vec, len)?;
    Ok(vec)
}

/// Makes room for `len` more values.
pub fn reserve<T>(vec: &mut Vec<T>, len: usize) -> Result<(), OutOfMemory> {
    vec.try_reserve(len).map_err(|_| refused::<T>(vec.len().saturating_add(len)))
}

/// Appends a value.
pub fn push<T>(vec: &mut Vec<T>, value: T) -> Result<(), OutOfMemory> {
    reserve(vec, 1)?;
    vec.push(value);
    Ok(())
}

/// `len` times the same value.
pub fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = with_room(len)?;
    vec.resize(len, value);
    Ok(vec)
}

/// A copy of the values.
pub fn copied<T: Copy>(values: &[T]) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = with_room(values.len())?;
    vec.extend_from_slice(values);
    Ok(vec)
}

/// All that the iterator gives.
pub fn collect<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = with_room(values.len())?;
    vec.extend(values);
    Ok(vec)
}

/// All that the iterator gives, or its first error.
pub fn try_collect<T, E: From<OutOfMemory>>(
    values: impl ExactSizeIterator<Item = Result<T, E>>,
) -> Result<Vec<T>, E> {
    let mut vec = with_room(values.len())?;
    for value in values {
        vec.push(value?);
    }
    Ok(vec)
}

fn refused<T>(len: usize) -> OutOfMemory {
    OutOfMemory { size_bytes: len.saturating_mul(size_of::<T>()) }
}

/// Names what was refused, where a table of `T` was to have room for `len` of them.
pub fn in_table<T>(reserved: Result<(), TryReserveError>, len: usize) -> Result<(), OutOfMemory> {
    reserved.map_err(|_| refused::<T>(len))
}

/// How many of the values of these sizes are handled together: at most `values_max`, and of `bytes_max`
/// together; but always one.
pub fn fitting(sizes: impl Iterator<Item = usize>, values_max: usize, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |size: &usize| {
        bytes += size;
        bytes <= bytes_max
    };
    sizes.take(values_max).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused() {
        let len = usize::MAX / 16;
        let refused = OutOfMemory { size_bytes: len * 8 };
        assert_eq!(with_room::<u64>(len), Err(refused));
        assert_eq!(filled(0u64, len), Err(refused));
        assert_eq!(collect((0..len).map(|n| n as u64)), Err(refused));
        assert_eq!(try_collect::<u64, OutOfMemory>((0..len).map(|n| Ok(n as u64))), Err(refused));
        let mut vec = vec![1u64];
        assert_eq!(reserve(&mut vec, len), Err(OutOfMemory { size_bytes: len * 8 + 8 }));
        assert_eq!(vec, [1]);
    }

    #[test]
    fn what_there_is_room_for_is_the_same_as_without() {
        assert_eq!(collect(0..5), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(filled('x', 3), Ok(vec!['x'; 3]));
        assert_eq!(copied(b"abc"), Ok(b"abc".to_vec()));
        let odd = |n: i32| if n % 2 == 1 { Err(OutOfMemory { size_bytes: 7 }) } else { Ok(n) };
        assert_eq!(try_collect((0..3).map(odd)), Err(OutOfMemory { size_bytes: 7 }));
        let mut vec = Vec::new();
        assert_eq!(push(&mut vec, 1), Ok(()));
        assert_eq!(vec, [1]);
    }
}
