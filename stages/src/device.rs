//! `--device auto|cpu|wgpu|cuda[:N]` → a Burn device, or a clear word that there is none.
//!
//! Burn's own constructors are lazy and panic at first use where no such device exists, and `Device::default()` prefers any
//! GPU runtime that was compiled in. So devices are always enumerated first, and `auto` means what a reader expects: the best
//! device that exists.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use nerpipe_engine::{Context, StageError};

/// A device as asked for on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA if compiled in and present, else the CPU. Never wgpu: on many machines that is a software renderer.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The graphics adapter that wgpu prefers.
    Wgpu,
    /// The CUDA device with this number.
    Cuda(usize),
}

/// No such device, or no such word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DeviceError {
    message: String,
    /// What the user can do.
    pub help: &'static str,
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError {
            message: format!("unknown device `{text}`"),
            help: "use auto, cpu, wgpu, cuda or cuda:N",
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// The Burn device, which is sure to exist.
    ///
    /// # Errors
    /// If the program was built without this backend, or the machine has no such device.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Auto => Ok(cuda(0).unwrap_or_else(|_| Device::flex())),
            Self::Cpu => Ok(Device::flex()),
            Self::Wgpu => wgpu(),
            Self::Cuda(number) => cuda(number),
        }
    }
}

/// The device that the run asked for.
///
/// # Errors
/// If there is no such device, or no such word.
pub fn open_device(ctx: &Context) -> Result<Device, StageError> {
    let opened = ctx.device().parse().and_then(DeviceChoice::open);
    opened.map_err(|error| StageError::new(error.message).help(error.help))
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Device, DeviceError> {
    use burn::tensor::DeviceType;
    Device::enumerate(DeviceType::Wgpu)
        .into_iter()
        .next()
        .ok_or_else(|| DeviceError {
            message: "no device for wgpu: this machine shows no graphics adapter".to_owned(),
            help: "install a Vulkan driver (on Debian `mesa-vulkan-drivers` gives a software one), or use --device cpu",
        })
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Device, DeviceError> {
    Err(DeviceError {
        message: "this nerpipe was built without wgpu".to_owned(),
        help: "build it with `cargo build --release --features wgpu`, or use --device cpu",
    })
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device, DeviceError> {
    use burn::tensor::DeviceType;
    let devices: Vec<Device> = Device::enumerate(DeviceType::Cuda).into_iter().collect();
    let found = devices.len();
    devices.into_iter().nth(number).ok_or_else(|| DeviceError {
        message: format!("no device cuda:{number}: this machine shows {found} CUDA devices"),
        help: "check that the NVIDIA driver is loaded (`nvidia-smi`), or use --device cpu",
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_number: usize) -> Result<Device, DeviceError> {
    Err(DeviceError {
        message: "this nerpipe was built without CUDA".to_owned(),
        help: "build it with `cargo build --release --features cuda`, or use --device cpu",
    })
}

/// The class of numerics: results are equal to the byte within one class, and may differ in last digits across classes.
/// It is recorded beside artifacts, never part of a fingerprint.
pub fn numerics_class(choice: DeviceChoice) -> String {
    match choice {
        DeviceChoice::Wgpu | DeviceChoice::Cuda(_) => choice.to_string(),
        DeviceChoice::Auto if cuda(0).is_ok() => DeviceChoice::Cuda(0).to_string(),
        DeviceChoice::Auto | DeviceChoice::Cpu => format!("cpu-{}{}", std::env::consts::ARCH, instruction_set()),
    }
}

#[cfg(target_arch = "x86_64")]
fn instruction_set() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx512f") {
        "-avx512"
    } else if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        "-avx2"
    } else {
        "-sse2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_set() -> &'static str {
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for word in ["auto", "cpu", "wgpu", "cuda:0", "cuda:3"] {
            assert_eq!(word.parse::<DeviceChoice>().expect(word).to_string(), word);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for word in ["gpu", "cuda:", "cuda:x", "CPU"] {
            let error = word.parse::<DeviceChoice>().expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn auto_always_opens_something() {
        assert!(DeviceChoice::Auto.open().is_ok());
        assert!(DeviceChoice::Cpu.open().is_ok());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_that_was_not_built_says_how_to_build_it() {
        let error = DeviceChoice::Cuda(0).open().expect_err("no CUDA in this build");
        assert!(error.help.contains("--features cuda"));
    }
}
