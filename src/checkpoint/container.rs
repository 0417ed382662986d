//! The safetensors file around a model: its bytes, its header, and its tensors.

use crate::device::is_available;
use crate::error::{Error, Result};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

/// The safetensors format's own limit, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// A result, or what is wrong with a file.
pub(super) type Fallible<T> = std::result::Result<T, String>;
pub(super) const NOT_A_MODEL: &str = "this is not a char-rnn model, or it is damaged";

/// The bytes of a safetensors file. Its header is sorted: the safetensors crate writes the metadata
/// in an arbitrary order, and equal runs should give equal files.
///
/// # Errors
/// Where the device fails.
pub(crate) fn serialize(
    tensors: &[(String, Tensor)],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    type Entries = BTreeMap<String, BTreeMap<String, serde_json::Value>>;
    // Candle panics where it cannot copy the numbers from a GPU.
    let on_cpu =
        |(name, tensor): &(String, Tensor)| Ok((name.clone(), tensor.to_device(&Device::Cpu)?));
    let tensors: Vec<_> = tensors.iter().map(on_cpu).collect::<candle_core::Result<_>>()?;
    let bytes =
        safetensors::serialize(tensors, Some(metadata)).map_err(candle_core::Error::from)?;

    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let (header, data) = rest.split_at(length);
    let header: Entries = serde_json::from_slice(header).expect("it was just written");
    let mut header = serde_json::to_vec(&header).expect("plain data");
    // The format's alignment.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
}

type Header = (Vec<u8>, HashMap<String, String>);

/// The bytes of a file up to the end of its header, and the header's metadata; None for a file that
/// is no safetensors file. No more is read: a file of another kind can be larger than the memory.
pub(super) fn read_header(file: &mut dyn Read) -> io::Result<Option<Header>> {
    #[derive(Deserialize)]
    struct Start {
        #[serde(rename = "__metadata__", default)]
        metadata: HashMap<String, String>,
    }

    let mut bytes = Vec::new();
    file.take(8).read_to_end(&mut bytes)?;
    let Ok(length) = <[u8; 8]>::try_from(bytes.as_slice()) else { return Ok(None) };
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || file.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Ok(None);
    }
    let header = serde_json::from_slice::<Start>(&bytes[8..]).ok();
    Ok(header.map(|start| (bytes, start.metadata)))
}

/// Reads the rest of a file, of which `bytes` has the header: what the header promises and one byte
/// more, since a longer file is damaged and can be larger than the memory.
pub(super) fn read_data(file: &mut dyn Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    // A header that is no good has no data; `deserialize` reports it.
    let header = serde_json::from_slice::<Metadata>(&bytes[8..]);
    let length = header.map_or(0, |header| header.data_len()) as u64;
    // The bytes, the tensors, and a copy of the largest.
    if !is_available(3 * u128::from(length)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    file.take(length + 1).read_to_end(bytes).map(drop)
}

/// The tensors of a whole file.
pub(super) fn deserialize(bytes: &[u8]) -> Fallible<SafeTensors<'_>> {
    SafeTensors::deserialize(bytes).map_err(|error| match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            "the file is cut short or has grown: its header and its length do not agree".to_string()
        }
        error => format!("the file is damaged: {error}"),
    })
}

/// The tensor `name` of a file, in its own number type.
///
/// # Errors
/// Where it is missing, the type is not `F32` or `F64`, a value is not finite, or the device fails.
pub(super) fn tensor_of(file: &SafeTensors, name: &str, device: &Device) -> Fallible<Tensor> {
    let view = file.tensor(name).map_err(|_| format!("it has no tensor {name:?}"))?;
    let dtype = view.dtype();
    if !matches!(dtype, Dtype::F32 | Dtype::F64) {
        return Err(format!("the numbers of its tensor {name:?} are {dtype:?}, not F32 or F64"));
    }
    let failed = |error: candle_core::Error| Error::from(error).to_string();
    let tensor = view.load(&Device::Cpu).map_err(failed)?;
    let values = tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()?.to_vec1::<f64>());
    if !values.map_err(failed)?.iter().all(|value| value.is_finite()) {
        return Err(format!("its tensor {name:?} has a value that is not finite"));
    }
    tensor.to_device(device).map_err(failed)
}
