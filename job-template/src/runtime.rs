//! libtorch: the device that it computes on, its threads, and what it finds of the processor.

use std::ffi::{c_int, c_uint};
use std::fmt;
use std::panic;
use std::process::ExitCode;

use bert_encoder::cpu::{has_avx2, use_mkl_fast_path};
pub use bert_encoder::threads::{leave_computing_to_others, on_each_thread, set_threads};
use tch::{Cuda, Device, Kind};

use crate::config::{ComputeConfig, DeviceChoice, MklFix, Precision};
use crate::{log, process};

/// libtorch, set up.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The device to compute on.
    pub device: Device,
    /// The numbers to compute in.
    pub kind: Kind,
    /// Whether a trained model's encoder computes in int8.
    pub is_int8: bool,
    /// The threads to compute with.
    pub threads: usize,
    /// Whether MKL takes its path for Intel processors.
    pub mkl_fix: bool,
}

/// What is asked for can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A GPU, where there is none.
    #[error("DEVICE={asked}: {reason}")]
    NoDevice {
        /// What was asked for.
        asked: DeviceChoice,
        /// Why it isn't there.
        reason: String,
    },
    /// bfloat16 on a CPU.
    #[error("PRECISION=bf16 needs a GPU; on this processor it is slower than fp32")]
    NoBf16,
    /// bfloat16 on a GPU that has no instructions for it.
    #[error(
        "PRECISION=bf16 needs a GPU of compute capability 8.0 (Ampere) or later; use fp32 here"
    )]
    OldGpu,
    /// The system lets fewer threads start.
    #[error(
        "computing on {asked} threads: only {available} can be started here\n\
         help: set OMP_NUM_THREADS to at most {available}, or raise the limit (docker's --pids-limit, ulimit -u)"
    )]
    TooFewThreads {
        /// What was asked for, or the number of cores.
        asked: usize,
        /// How many there can be, this one included.
        available: usize,
    },
    /// int8 where it isn't fast.
    #[error("PRECISION=int8 needs DEVICE=cpu and a processor with AVX2; elsewhere fp32 is faster")]
    NoInt8,
}

impl Runtime {
    /// Sets libtorch up. To be called once, before anything else of it.
    ///
    /// # Errors
    /// The device isn't there, or can't compute in these numbers.
    pub fn start(config: &ComputeConfig) -> Result<Self, RuntimeError> {
        let mkl_fix = match config.mkl_fix {
            MklFix::Off => false,
            MklFix::On => true,
            MklFix::Auto => has_avx2(),
        };
        // Else libtorch's OpenMP ends the process in the middle of something.
        let available = 1 + process::available_threads(config.threads - 1);
        if available < config.threads {
            return Err(RuntimeError::TooFewThreads {
                asked: config.threads,
                available,
            });
        }
        use_mkl_fast_path(mkl_fix);
        if config.device != DeviceChoice::Cpu && config.is_deterministic {
            #[expect(unsafe_code, reason = "the environment is changed")]
            // SAFETY: this is the start, where there is but one thread.
            // cuBLAS adds in the same order every time only where its workspace is set.
            unsafe {
                std::env::set_var("CUBLAS_WORKSPACE_CONFIG", ":4096:8");
            }
        }
        // libtorch looks for CUDA once, at its first call.
        let cuda = if config.device == DeviceChoice::Cpu {
            Err(String::new())
        } else {
            open_cuda()
        };
        let device = device(config.device, cuda)?;
        let kind = match (config.precision, device) {
            (Precision::Bf16, Device::Cpu) => return Err(RuntimeError::NoBf16),
            (Precision::Int8, Device::Cpu) if has_avx2() => Kind::Float,
            (Precision::Int8, _) => return Err(RuntimeError::NoInt8),
            (Precision::Fp32, _) | (Precision::Auto, Device::Cpu) => Kind::Float,
            (Precision::Bf16 | Precision::Auto, Device::Cuda(index)) if has_bf16(index) => {
                Kind::BFloat16
            }
            (Precision::Bf16, _) => return Err(RuntimeError::OldGpu),
            (Precision::Auto, _) => Kind::Float,
        };
        set_threads(config.threads);
        Ok(Self {
            device,
            kind,
            is_int8: config.precision == Precision::Int8,
            threads: config.threads,
            mkl_fix,
        })
    }

    /// What `PRECISION` calls the numbers that it computes in.
    #[must_use]
    pub fn precision(&self) -> &'static str {
        if self.is_int8 {
            "int8"
        } else if self.kind == Kind::BFloat16 {
            "bf16"
        } else {
            "fp32"
        }
    }

    /// The same for training, which int8 isn't for.
    #[must_use]
    pub fn without_int8(&self) -> Self {
        Self {
            is_int8: false,
            ..self.clone()
        }
    }
}

impl Runtime {
    /// The device, as DEVICE names it.
    #[must_use]
    pub fn device_name(&self) -> String {
        match self.device {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        }
    }
}

fn device(asked: DeviceChoice, cuda: Result<(), String>) -> Result<Device, RuntimeError> {
    let index = match asked {
        DeviceChoice::Cpu => return Ok(Device::Cpu),
        DeviceChoice::Auto if cuda.is_err() || Cuda::device_count() == 0 => return Ok(Device::Cpu),
        DeviceChoice::Auto => 0,
        DeviceChoice::Cuda(index) => index,
    };
    let count = Cuda::device_count();
    let reason = match cuda {
        Err(reason) => reason,
        Ok(()) if count == 0 => "the driver shows no GPU; is the container run with --gpus?".into(),
        Ok(()) if index >= count as usize => format!("there are {count} GPUs, from cuda:0 on"),
        Ok(()) => return Ok(Device::Cuda(index)),
    };
    Err(RuntimeError::NoDevice { asked, reason })
}

/// Has libtorch find CUDA, where its library for it is installed. The program itself doesn't need
/// it, so that it is one for machines with and without.
fn open_cuda() -> Result<(), String> {
    use std::error::Error as _;

    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    #[expect(unsafe_code, reason = "a library is opened, whose start runs code")]
    // SAFETY: it is libtorch's own, made to be loaded with the part that is linked.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    match library {
        Ok(library) => {
            // For as long as the program runs.
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => {
            let reason = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            Err(format!("there is no CUDA here: {reason}"))
        }
    }
}

/// Whether a GPU has instructions for bfloat16, as its driver says (CUDA Driver API, `cuDeviceGetAttribute`).
fn has_bf16(index: usize) -> bool {
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`
    const MAJOR: c_int = 75;
    const AMPERE: c_int = 8;
    #[expect(unsafe_code, reason = "the interface of the driver's library")]
    // SAFETY: the functions are declared as the driver has them, and are given places to write to.
    let major = unsafe {
        (|| {
            let driver = libloading::Library::new("libcuda.so.1").ok()?;
            let init = driver
                .get::<unsafe extern "C" fn(c_uint) -> c_int>(b"cuInit")
                .ok()?;
            let get = driver
                .get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet")
                .ok()?;
            let attribute = driver
                .get::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(
                    b"cuDeviceGetAttribute",
                )
                .ok()?;
            let (mut device, mut major) = (0, 0);
            let is_known = init(0) == 0
                && get(&raw mut device, index as c_int) == 0
                && attribute(&raw mut major, MAJOR, device) == 0;
            is_known.then_some(major)
        })()
    };
    major.is_some_and(|major| major >= AMPERE)
}

/// What libtorch and the system say where there is no more memory, and on what.
const OUT_OF_MEMORY: [(&str, &str); 2] = [
    ("CUDA out of memory", "the GPU"),
    ("can't allocate memory", "this machine or container"),
];

/// The error that a panic of libtorch is, if it is for want of memory.
fn out_of_memory(panic: &str) -> Option<String> {
    let (_, place) = OUT_OF_MEMORY
        .iter()
        .find(|(message, _)| panic.contains(message))?;
    Some(format!(
        "{place} has too little memory for this\n\
         help: lower BATCH_SIZE or NUM_MAX_POSITIONS; to serve, also MAX_BATCH_TOKENS"
    ))
}

/// Calls `body`. Where libtorch panics for want of memory, one error says so, on any thread; if it is this one,
/// the result is a failure.
pub fn report_out_of_memory(body: impl FnOnce() -> ExitCode) -> ExitCode {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        match panic.payload_as_str().and_then(out_of_memory) {
            Some(error) => log::fail(&error),
            None => report(panic),
        }
    }));
    panic::catch_unwind(panic::AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>();
        match message.and_then(|message| out_of_memory(message)) {
            Some(_) => ExitCode::FAILURE,
            None => panic::resume_unwind(panic),
        }
    })
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, kind) = (self.device_name(), self.precision());
        match self.device {
            Device::Cuda(_) => write!(f, "{device}, {kind}"),
            _ if self.threads == 1 => write!(f, "{device} with 1 thread, {kind}"),
            _ => write!(f, "{device} with {} threads, {kind}", self.threads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_is_told_from_other_panics() {
        let cuda = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to \
                    allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB\")";
        let error = out_of_memory(cuda).unwrap();
        assert!(
            error.starts_with("the GPU has too little memory"),
            "{error}"
        );
        assert_eq!(out_of_memory("index out of range in self"), None);
    }
}
