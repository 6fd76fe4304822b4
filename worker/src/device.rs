//! What a worker computes on.

use tch::{Cuda, Device};

use crate::failure::Failure;

/// `cpu`, `cuda` or `cuda:N`. What is not there is refused, never replaced by the CPU.
///
/// # Errors
/// If the name is none of these, or libtorch does not see that GPU.
pub fn parse(name: &str) -> Result<Device, Failure> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()),
    };
    let index = index.ok_or_else(|| {
        Failure::input(format!("--device \"{name}\" is unknown: expected cpu, cuda or cuda:N"))
    })?;
    let found = Cuda::device_count();
    if i64::try_from(index).unwrap_or(i64::MAX) >= found {
        return Err(Failure::input(format!(
            "--device {name} asks for GPU {index}, and libtorch sees {found}: check the driver and CUDA_VISIBLE_DEVICES, or give --device cpu"
        )));
    }
    Ok(Device::Cuda(index))
}

#[cfg(test)]
mod tests {
    use super::{Device, parse};

    #[test]
    fn a_device_that_is_not_there_is_refused_rather_than_replaced_by_the_cpu() {
        assert_eq!(parse("cpu").ok(), Some(Device::Cpu));
        assert!(parse("cuda:99").is_err_and(|e| e.message.contains("GPU 99")));
        assert!(parse("tpu").is_err_and(|e| e.message.contains("\"tpu\"")));
    }
}
