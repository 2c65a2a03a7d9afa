//! Which executor runs a model: what was asked for, what there is, and why the two differ.

use super::{
    cpu::{CpuExecutor, Precision},
    cuda,
    error::ModelError,
    executor::Executor,
    heads::{HeadActivation, HeadWeights},
    spec::{EncoderSpec, Family},
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
    let build = |precision| CpuExecutor::new(spec, checkpoint, heads, precision, threads);
    let device_reason = match gpu_ordinal(device)? {
        None => None,
        Some(_) if !gpu_reads(spec, heads) => {
            Some("models of this family, or with this kind of head, run on the CPU only".into())
        }
        Some(ordinal) => {
            let wanted = cuda::Wanted { spec, checkpoint, heads, ordinal, precision };
            let reference = || Ok(Box::new(build(Precision::F32)?) as Box<dyn Executor>);
            match cuda::attempt(wanted, reference, agreement) {
                cuda::Outcome::Serves(executor, reason) => {
                    let precision_reason = (precision == "auto").then(|| format!("auto: {reason}"));
                    return Ok(Selected { executor, device_reason: Some(reason), precision_reason });
                }
                cuda::Outcome::Unusable(reason) => Some(match device {
                    "auto" => reason,
                    _ => format!("{device} was asked for, but {reason}"),
                }),
            }
        }
    };
    let (executor, precision_reason) = match precision {
        "f32" => (build(Precision::F32)?, None),
        "int8" => (build(Precision::Int8)?, None),
        "bf16" if CpuExecutor::has_bf16() => (build(Precision::Bf16)?, None),
        "bf16" => {
            (build(Precision::F32)?, Some("this processor has no bf16 arithmetic; f32 runs instead".into()))
        }
        "f16" => (build(Precision::F32)?, Some("f16 is not built for this device; f32 runs instead".into())),
        "auto" => fastest_that_agrees(build, agreement)?,
        other => {
            return Err(ModelError::Executor(format!(
                "precision {other:?} is not one of auto, f32, bf16, int8, f16"
            )));
        }
    };
    Ok(Selected { executor: Box::new(executor), device_reason, precision_reason })
}

/// The fastest precision whose labels agree with those of f32, fastest first: int8, bf16 where it pays, f32.
fn fastest_that_agrees(
    build: impl Fn(Precision) -> Result<CpuExecutor, ModelError>,
    agreement: Option<&Agreement>,
) -> Result<(CpuExecutor, Option<String>), ModelError> {
    let f32 = build(Precision::F32)?;
    let Some(agreement) = agreement else {
        return Ok((f32, Some("auto: no texts to compare other precisions with f32 on".into())));
    };
    let candidates =
        [("int8", Precision::Int8, true), ("bf16", Precision::Bf16, CpuExecutor::has_fast_bf16())];
    let mut failed = Vec::new();
    for (name, precision, _) in candidates.into_iter().filter(|(_, _, there)| *there) {
        let candidate = build(precision)?;
        let share = agreement(&f32, &candidate)?;
        let agrees = format!(
            "{name} agrees with f32 on {:.1} % of the labels of the calibration texts",
            100.0 * share
        );
        if share >= AGREEMENT_MIN {
            failed.push(format!("{agrees}, and is the fastest that does"));
            return Ok((candidate, Some(format!("auto: {}", failed.join("; ")))));
        }
        failed.push(agrees);
    }
    let reason =
        format!("auto: {}; at least {:.1} % are asked for", failed.join("; "), 100.0 * AGREEMENT_MIN);
    Ok((f32, Some(reason)))
}

/// Whether the GPU's kernels know the shape of a model: one width throughout, token types, layers and heads as BERT has them.
fn gpu_reads(spec: &EncoderSpec, heads: &[HeadWeights]) -> bool {
    spec.embedding == spec.hidden
        && !spec.shared_layers
        && !matches!(spec.family, Family::Albert | Family::DistilBert)
        && heads.iter().all(|h| h.dense.is_none() || h.activation == HeadActivation::Tanh)
}

/// Which GPU is to be looked for: none for `cpu`, the first for `auto` and `cuda`.
fn gpu_ordinal(device: &str) -> Result<Option<u32>, ModelError> {
    let named = device.strip_prefix("cuda:").and_then(|n| n.parse().ok());
    match (device, named) {
        ("cpu", _) => Ok(None),
        ("auto" | "cuda", _) => Ok(Some(0)),
        (_, Some(ordinal)) => Ok(Some(ordinal)),
        _ => Err(ModelError::Executor(format!("device {device:?} is not one of auto, cpu, cuda, cuda:N"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names_and_others_are_errors() {
        assert_eq!(gpu_ordinal("cpu").unwrap(), None);
        assert_eq!(gpu_ordinal("auto").unwrap(), Some(0));
        assert_eq!(gpu_ordinal("cuda").unwrap(), Some(0));
        assert_eq!(gpu_ordinal("cuda:3").unwrap(), Some(3));
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda:-1", "cudax", ""] {
            let error = gpu_ordinal(wrong).unwrap_err().to_string();
            assert!(error.contains("is not one of auto, cpu, cuda, cuda:N"), "{error}");
        }
    }
}
