//! Reads NumPy's `.npz` files: a ZIP archive of `.npy` arrays.
//!
//! Candle reads them too, but neither arrays in Fortran order, which NumPy writes for a transposed
//! array, nor a file with a false shape, for which it allocates first.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// The most bytes of an array: far more than those of the largest network.
const MAX_BYTES: u64 = 1 << 30;

/// An array of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f64>,
    /// Whether its numbers are f32.
    pub is_single: bool,
}

/// The arrays of the file, by name.
///
/// # Errors
/// [`Error::NumpyFile`] if it is not a file that `np.savez` writes, or an array is not one of
/// numbers; names the array.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Array>> {
    let error = |problem: String| Error::numpy_file(path, problem);
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let not_zip = |e| error(format!("it is no file of np.savez ({e})"));
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(not_zip)?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(not_zip)?;
        let name = entry.name().map_err(not_zip)?.to_string();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_string();
        if entry.compression() != zip::CompressionMethod::Stored {
            let advice = "it is compressed; save it with np.savez, not np.savez_compressed";
            return Err(error(advice.to_string()));
        }
        drop(entry);
        let entry = archive.by_index(index).map_err(not_zip)?; // verifies its checksum
        let mut bytes = Vec::new();
        let read = entry.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::read(path, source))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(error(format!("{name} has more than {MAX_BYTES} bytes")));
        }
        let array = parse(&bytes).map_err(|problem| error(format!("{name} {problem}")))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

/// The number in these bytes, big-endian or little-endian.
type Decode = fn(&[u8], bool) -> f64;

/// An array in the format of `np.save`.
fn parse(bytes: &[u8]) -> std::result::Result<Array, String> {
    let broken = || "is not an array of np.save, or is cut off".to_string();
    let (start, length) = match bytes.get(..12) {
        Some(&[0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..]) => {
            (10, usize::from(u16::from_le_bytes([a, b])))
        }
        Some(&[0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d]) => {
            (12, u32::from_le_bytes([a, b, c, d]) as usize)
        }
        _ => return Err(broken()),
    };
    let header = bytes.get(start..start + length).ok_or_else(broken)?;
    let header = std::str::from_utf8(header).map_err(|_| broken())?;
    // As in {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
    let field = |name: &str| {
        let (_, value) = header.split_once(&format!("'{name}':"))?;
        Some(value.trim_start())
    };
    let kind = field("descr").and_then(|kind| kind.strip_prefix('\'')?.split('\'').next());
    let is_fortran = field("fortran_order").ok_or_else(broken)?.starts_with("True");
    let shape = field("shape").and_then(|shape| shape.strip_prefix('(')?.split(')').next());
    let sizes = shape.ok_or_else(broken)?.split(',').map(str::trim);
    let sizes = sizes.filter(|size| !size.is_empty()).map(|size| size.parse().ok());
    let shape: Vec<usize> = sizes.collect::<Option<_>>().ok_or_else(broken)?;

    let kind = kind.unwrap_or("a structure");
    let (is_big, number) = (kind.starts_with('>'), kind.trim_start_matches(['<', '>', '|', '=']));
    macro_rules! read {
        ($t:ty) => {
            (size_of::<$t>(), |bytes: &[u8], is_big: bool| {
                let bytes = bytes.try_into().expect("the bytes of a number");
                (if is_big { <$t>::from_be_bytes(bytes) } else { <$t>::from_le_bytes(bytes) })
                    as f64
            })
        };
    }
    let (size, number): (usize, Decode) = match number {
        "f8" => read!(f64),
        "f4" => read!(f32),
        "i8" => read!(i64),
        "i4" => read!(i32),
        "i2" => read!(i16),
        "i1" => read!(i8),
        "u8" => read!(u64),
        "u4" => read!(u32),
        "u2" => read!(u16),
        "u1" => read!(u8),
        "O" => {
            return Err("holds Python objects, as an array with None does; give it numbers, and \
                        write -1 for None"
                .to_string());
        }
        _ => return Err(format!("has numbers of the kind {kind:?}, not float64 or int64")),
    };
    let data = &bytes[start + length..];
    let bytes = shape.iter().try_fold(size, |bytes, &size| bytes.checked_mul(size));
    if bytes != Some(data.len()) {
        return Err(broken());
    }
    let mut values: Vec<f64> = data.chunks_exact(size).map(|n| number(n, is_big)).collect();
    if let (true, &[rows, columns]) = (is_fortran, &shape[..]) {
        let flat = 0..rows * columns;
        values = flat.map(|at| values[at % columns * rows + at / columns]).collect();
    }
    Ok(Array { shape, values, is_single: size == 4 && kind.ends_with("f4") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data]
            .concat()
    }

    #[test]
    fn arrays_in_either_order_of_rows_and_of_bytes_are_read() {
        let data = [1i16, 2, 3, 4, 5, 6].map(i16::to_le_bytes).concat();
        let found = parse(&npy("<i2", "False", "(2, 3)", &data)).unwrap();
        assert_eq!((found.shape, found.values), (vec![2, 3], vec![1., 2., 3., 4., 5., 6.]));
        let found = parse(&npy("<i2", "True", "(2, 3)", &data)).unwrap();
        assert_eq!(found.values, [1., 3., 5., 2., 4., 6.]);
        let found = parse(&npy(">f8", "False", "()", &2.5f64.to_be_bytes())).unwrap();
        assert_eq!((found.shape, found.values), (vec![], vec![2.5]));
    }

    #[test]
    fn unusable_arrays_are_errors() {
        for (bytes, says) in [
            (npy("|O", "False", "(3,)", &[0; 9]), "write -1 for None"),
            (npy("<c16", "False", "(1,)", &[0; 16]), "\"<c16\""),
            (npy("<f8", "False", "(9000000000000, 9000000000000)", &[0; 8]), "cut off"),
            (npy("<f8", "False", "(2,)", &[0; 8]), "cut off"),
            (b"text".to_vec(), "cut off"),
        ] {
            let error = parse(&bytes).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_array_or_an_error(
            at: prop::sample::Index, byte: u8, end: prop::sample::Index,
        ) {
            let mut bytes = npy("<f8", "False", "(2, 2)", &[7; 32]);
            let (at, end) = (at.index(bytes.len()), end.index(bytes.len() + 1));
            bytes[at] = byte;
            let _ = parse(&bytes[..end]);
        }
    }
}
