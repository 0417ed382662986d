//! Reads NumPy's `.npz` files: a ZIP archive of `.npy` arrays.
//!
//! Candle reads them too, but neither arrays in Fortran order, which NumPy writes for a transposed
//! array, nor compressed ones, nor a file with a false shape, for which it allocates first. Here the
//! headers are read first, so that names and shapes can be refused before any data is read.

use crate::error::{Error, Result};
use crate::text::excerpt;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

/// The most bytes of a file, and of all of its arrays: more than those of the largest network.
const MAX_BYTES: usize = 1 << 30;
/// The most arrays of a file: far more than have a name here.
const MAX_ARRAYS: usize = 64;
/// The longest header of an array; NumPy reads no longer one either.
const MAX_HEADER: usize = 10_000;

/// The header of an array.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub shape: Vec<usize>,
    /// NumPy's type, as in `<f8`.
    pub kind: String,
    is_fortran: bool,
    /// The bytes before the data.
    start: usize,
    /// The entry of the archive.
    index: usize,
}

impl Header {
    pub fn len(&self) -> usize {
        self.shape.iter().product() // no overflow: bytes() was checked
    }

    /// The type without its byte order.
    pub fn number(&self) -> &str {
        self.kind.trim_start_matches(['<', '>', '|', '='])
    }

    /// The bytes of the data; `None` for a type that is not read.
    fn bytes(&self) -> Option<usize> {
        let size = decoder(self.number())?.0;
        self.shape.iter().try_fold(size, |bytes, &n| bytes.checked_mul(n))
    }
}

/// An open file: the headers of its arrays by name.
pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    pub headers: BTreeMap<String, Header>,
}

impl Archive {
    /// Reads the headers of the file.
    ///
    /// # Errors
    /// [`Error::NumpyFile`] if it is not a file that `np.savez` writes, or too large.
    pub fn open(path: &Path) -> Result<Self> {
        let error = |problem: &str| Error::numpy_file(path, problem);
        let read = |source| Error::read(path, source);
        let metadata = std::fs::metadata(path).map_err(read)?;
        if !metadata.is_file() {
            return Err(error("this is not a file"));
        }
        if metadata.len() > MAX_BYTES as u64 {
            return Err(error(&format!("it has more than {MAX_BYTES} bytes")));
        }
        let mut start = Vec::new();
        File::open(path).map_err(read)?.take(6).read_to_end(&mut start).map_err(read)?;
        if start == b"\x93NUMPY" {
            return Err(error("it is a file of np.save; use np.savez"));
        }
        let not_zip = |e| error(&format!("it is no file of np.savez ({e})"));
        let file = File::open(path).map_err(read)?;
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(not_zip)?;
        if zip.len() > MAX_ARRAYS {
            return Err(error(&format!(
                "it has {} arrays; at most {MAX_ARRAYS} are read",
                zip.len()
            )));
        }
        let mut headers = BTreeMap::new();
        let mut total = 0;
        for index in 0..zip.len() {
            let entry = zip.by_index(index).map_err(not_zip)?;
            let name = entry.name().map_err(not_zip)?.to_string();
            let name = name.strip_suffix(".npy").unwrap_or(&name).to_string();
            let header = header(entry, index).ok_or_else(|| broken(path, &name))?;
            // As doubles.
            total = header.len().saturating_mul(8).saturating_add(total);
            headers.insert(name, header);
        }
        if total > MAX_BYTES {
            return Err(error(&format!("its arrays have more than {MAX_BYTES} bytes")));
        }
        Ok(Self { zip, headers })
    }

    /// The values of the array `name`, which it has, row by row.
    ///
    /// # Errors
    /// [`Error::NumpyFile`] if it is not an array of numbers, is cut off or has a wrong checksum.
    pub fn values(&mut self, path: &Path, name: &str) -> Result<Vec<f64>> {
        let header = &self.headers[name];
        let (Some(bytes), Some((size, decode))) = (header.bytes(), decoder(header.number())) else {
            let kind = excerpt(&header.kind);
            let problem = format!("{name} has numbers of the kind {kind:?}, not float64 or int64");
            return Err(Error::numpy_file(path, problem));
        };
        let Ok(entry) = self.zip.by_index(header.index) else { return Err(broken(path, name)) };
        let mut data = Vec::new();
        // One byte more than there should be: at the end the checksum is verified.
        let read = entry.take((header.start + bytes + 1) as u64).read_to_end(&mut data);
        if read.is_err() || data.len() != header.start + bytes {
            return Err(broken(path, name));
        }
        let is_big = header.kind.starts_with('>');
        let values = data[header.start..].chunks_exact(size).map(|number| decode(number, is_big));
        let values: Vec<f64> = values.collect();
        Ok(if header.is_fortran { row_by_row(values, &header.shape)? } else { values })
    }
}

fn broken(path: &Path, name: &str) -> Error {
    Error::numpy_file(path, format!("{} is not an array of np.save, or is cut off", excerpt(name)))
}

/// The number in these bytes, big-endian or little-endian.
type Decode = fn(&[u8], bool) -> f64;

/// The size of a number of this type, and how it is read.
fn decoder(number: &str) -> Option<(usize, Decode)> {
    macro_rules! decoders {
        ($($name:literal $t:ty),*) => {
            match number {
                $($name => Some((size_of::<$t>(), |bytes, is_big| {
                    let bytes = bytes.try_into().expect("the bytes of a number");
                    (if is_big { <$t>::from_be_bytes(bytes) } else { <$t>::from_le_bytes(bytes) })
                        as f64
                })),)*
                _ => None,
            }
        };
    }
    decoders!("f8" f64, "f4" f32, "i8" i64, "i4" i32, "i2" i16, "i1" i8, "u8" u64, "u4" u32,
        "u2" u16, "u1" u8)
}

/// The header of an array in the format of `np.save`; `None` if it is none.
fn header(mut entry: impl Read, index: usize) -> Option<Header> {
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        entry.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let start = read(8)?;
    let (prefix, length) = match start.strip_prefix(b"\x93NUMPY")?[0] {
        1 => (10, usize::from(u16::from_le_bytes(read(2)?.try_into().ok()?))),
        2 | 3 => (12, u32::from_le_bytes(read(4)?.try_into().ok()?) as usize),
        _ => return None,
    };
    let text = read((length <= MAX_HEADER).then_some(length)?)?;
    let text = std::str::from_utf8(&text).ok()?;
    // As in {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
    let field = |name: &str| Some(text.split_once(&format!("'{name}':"))?.1.trim_start());
    let kind = field("descr")?.strip_prefix('\'').and_then(|kind| kind.split('\'').next());
    let sizes = field("shape")?.strip_prefix('(')?.split(')').next()?.split(',').map(str::trim);
    let sizes = sizes.filter(|size| !size.is_empty()).map(|size| size.parse().ok());
    let header = Header {
        shape: sizes.collect::<Option<_>>()?,
        kind: kind.unwrap_or("a structure").to_string(),
        is_fortran: field("fortran_order")?.starts_with("True"),
        start: prefix + length,
        index,
    };
    // No more elements than can be counted, of any type.
    header.shape.iter().try_fold(8usize, |n, &size| n.checked_mul(size.max(1)))?;
    Some(header)
}

/// Values in Fortran order, the first index fastest, in the order of C: the last one fastest.
fn row_by_row(values: Vec<f64>, shape: &[usize]) -> candle_core::Result<Vec<f64>> {
    let dimensions: Vec<usize> = (0..shape.len()).rev().collect();
    let reversed: Vec<usize> = shape.iter().rev().copied().collect();
    let tensor = Tensor::from_vec(values, reversed, &Device::Cpu)?;
    tensor.permute(dimensions)?.flatten_all()?.to_vec1()
}
