//! `hearken gpu-check` from the outside, with the processor in place of a GPU: the whole report is made, a right device
//! passes, and a machine without a GPU is told why.

use std::{path::Path, process::Command};

use serde_json::Value;

fn hearken(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hearken")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_whole_check_runs_with_the_processor_in_place_of_a_gpu() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let report = path("report.json");
    let arguments = [
        "gpu-check",
        "--host",
        "--made",
        "tiny",
        "--scratch",
        &path("made"),
        "--soak",
        "1",
        "--json",
        &report,
    ];
    let (passed, text) = hearken(&arguments);
    assert!(passed, "{text}");
    assert!(text.contains("everything agrees"), "{text}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(Path::new(&report)).unwrap()).unwrap();
    assert_eq!(report["passed"], true);
    let compared = &report["kernels"][0]["comparisons"];
    assert!(compared.as_array().unwrap().len() > 10, "{compared}");
    let models = report["models"].as_array().unwrap();
    assert_eq!(models.len(), 3, "both kinds of numbers, and both ways of planning");
    for model in models {
        assert_eq!((&model["passed"], &model["same_bits"]), (&Value::Bool(true), &Value::Bool(true)));
        assert!(model["largest_logit_difference"].as_f64().unwrap() > 0.0, "16 bits are not f32");
        assert!(model["speed"][0]["tokens_per_s"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(models[0]["soak"]["results_changed"], 0);
    assert_eq!(models[0]["soak"]["grown_mib"], 0.0);
}

#[test]
fn unknown_models_and_a_missing_gpu_are_said_in_words() {
    let (passed, text) = hearken(&["gpu-check", "--made", "gpt", "--scratch", "/nowhere"]);
    assert!(!passed && text.contains("there are xlm-r-base, xlm-r-large, tiny"), "{text}");
    let (passed, text) = hearken(&["gpu-check", "--gpu", "99", "--kernels-only"]);
    assert!(!passed && text.contains("the check cannot run: "), "{text}");
}
