//! The header of a safetensors file, believed only as far as the file bears it out.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::{Dtype, TensorInfo};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The format's own bound.
const MAX_BYTES: usize = 100_000_000;
/// The header's length stands before it.
const PREFIX: usize = size_of::<u64>();
/// No published name comes near.
const MAX_NAME: usize = 512;

/// Where a tensor lies, checked.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Within the file.
    pub(crate) bytes: Range<usize>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    _about: Option<IgnoredAny>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

/// The tensors of a whole safetensors file by name.
///
/// # Errors
/// If it was cut short, or its header is no header or lies; the message names the tensor.
pub(crate) fn entries(file: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let (header, data) = split(file)?;
    let header: Header =
        serde_json::from_slice(header).map_err(|e| format!("its header does not describe tensors: {e}"))?;
    let mut tensors: Vec<(String, TensorInfo)> = header.tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let start = file.len() - data.len();
    let mut end = 0;
    let mut entries = BTreeMap::new();
    for (name, info) in tensors {
        check(&name, &info, end)?;
        end = info.data_offsets.1;
        if end > data.len() {
            return Err(format!(
                "tensor {name} ends at byte {end} of the data, of which there are {}",
                data.len()
            ));
        }
        let bytes = start + info.data_offsets.0..start + end;
        entries.insert(name, Entry { dtype: info.dtype, shape: info.shape, bytes });
    }
    if end == data.len() {
        return Ok(entries);
    }
    Err(format!("its tensors end at byte {end} of the data, of which there are {}", data.len()))
}

/// The header and the data.
fn split(file: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let Some((length, rest)) = file.split_first_chunk::<PREFIX>() else {
        return Err(format!("it has {} bytes, the length of its header alone takes {PREFIX}", file.len()));
    };
    let length = u64::from_le_bytes(*length);
    let within = usize::try_from(length).ok().filter(|&length| length <= MAX_BYTES);
    within.and_then(|length| rest.split_at_checked(length)).ok_or_else(|| {
        let most = rest.len().min(MAX_BYTES);
        format!("its header is said to have {length} bytes, expected at most {most}")
    })
}

/// A tensor begins where the one before it ended, and has the bytes of its shape.
fn check(name: &str, info: &TensorInfo, end: usize) -> Result<(), String> {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let start: String = name.chars().take(40).collect();
        return Err(format!(
            "{start:?}… is no name of a tensor: expected {MAX_NAME} plain characters at most"
        ));
    }
    let (from, to) = info.data_offsets;
    if from != end {
        return Err(format!(
            "tensor {name} begins at byte {from} of the data, expected {end}: neither gap nor overlap"
        ));
    }
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |size, &side| size.checked_mul(side));
    let given = to.checked_sub(from);
    if given.is_none() || bits != given.and_then(|bytes| bytes.checked_mul(8)) {
        return Err(format!(
            "tensor {name} of type {:?} and shape {:?} cannot lie at bytes {from} to {to} of the data",
            info.dtype, info.shape
        ));
    }
    Ok(())
}
