//! Which executor runs a model: what was asked for, what there is, and why the two differ.

use super::{
    cpu::{Arithmetic, CpuExecutor},
    error::ModelError,
    executor::Executor,
    heads::HeadWeights,
    spec::EncoderSpec,
    weights::Checkpoint,
};

/// Least share of labels on which a faster executor must agree with f32 to be chosen by `auto`.
pub const AGREEMENT_MIN: f64 = 0.995;

pub struct Selected {
    pub executor: Box<dyn Executor>,
    pub device_reason: Option<String>,
    pub precision_reason: Option<String>,
}

/// Share of labels, from 0 to 1, on which a candidate agrees with the reference.
pub type Agreement<'a> = dyn Fn(&dyn Executor, &dyn Executor) -> Result<f64, ModelError> + 'a;

/// Builds the executor for `device` (`auto`, `cpu`, `cuda`, `cuda:N`) and `precision` (`auto`, `f32`, `bf16`, `int8`,
/// `f16`). Names that are none of these are errors; what this build cannot run falls back, with the reason.
///
/// The choice depends on the processor and the model only, never on a clock: the same texts get the same scores after
/// a restart.
pub fn select(
    spec: &EncoderSpec,
    checkpoint: &Checkpoint,
    heads: &[HeadWeights],
    device: &str,
    precision: &str,
    threads: usize,
    agreement: Option<&Agreement>,
) -> Result<Selected, ModelError> {
    let device_reason = device_reason(device)?;
    let build = |arithmetic| CpuExecutor::new(spec, checkpoint, heads, arithmetic, threads);
    let (executor, precision_reason) = match precision {
        "f32" => (build(Arithmetic::F32)?, None),
        "int8" => (build(Arithmetic::Int8)?, None),
        "bf16" | "f16" => (
            build(Arithmetic::F32)?,
            Some(format!("{precision} is not built for this device; f32 runs instead")),
        ),
        "auto" => {
            let f32 = build(Arithmetic::F32)?;
            match agreement {
                _ if !CpuExecutor::has_fast_int8() => (
                    f32,
                    Some("auto: this processor has no int8 dot products, where int8 gains little".into()),
                ),
                None => (f32, Some("auto: int8 could not be compared with f32".into())),
                Some(agreement) => {
                    let int8 = build(Arithmetic::Int8)?;
                    let share = agreement(&f32, &int8)?;
                    let percent = 100.0 * share;
                    if share >= AGREEMENT_MIN {
                        let reason = format!(
                            "auto: int8 is fastest here and agrees with f32 on {percent:.1} % of the labels \
                             of the calibration texts"
                        );
                        (int8, Some(reason))
                    } else {
                        let reason = format!(
                            "auto: int8 agrees with f32 on only {percent:.1} % of the labels of the \
                             calibration texts"
                        );
                        (f32, Some(reason))
                    }
                }
            }
        }
        other => {
            return Err(ModelError::Executor(format!(
                "precision {other:?} is not one of auto, f32, bf16, int8, f16"
            )));
        }
    };
    Ok(Selected { executor: Box::new(executor), device_reason, precision_reason })
}

/// Why a CPU runs where `device` was asked for.
fn device_reason(device: &str) -> Result<Option<String>, ModelError> {
    let cuda = device.strip_prefix("cuda").is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|n| n.parse::<u32>().is_ok())
    });
    match device {
        "cpu" => Ok(None),
        "auto" => Ok(Some("this build has no CUDA executor yet".into())),
        _ if cuda => Ok(Some(format!("{device} was asked for, but this build has no CUDA executor yet"))),
        other => Err(ModelError::Executor(format!("device {other:?} is not one of auto, cpu, cuda, cuda:N"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_fall_back_with_a_reason_and_unknown_ones_are_errors() {
        assert_eq!(device_reason("cpu").unwrap(), None);
        assert!(device_reason("auto").unwrap().unwrap().contains("no CUDA executor"));
        assert!(device_reason("cuda:1").unwrap().unwrap().starts_with("cuda:1 was asked for"));
        for wrong in ["gpu", "cuda:", "cuda:x", "cudax", ""] {
            let error = device_reason(wrong).unwrap_err().to_string();
            assert!(error.contains("is not one of auto, cpu, cuda, cuda:N"), "{error}");
        }
    }
}
