//! Tensors of the Open Inference Protocol: as JSON, and in its binary extension.
//!
//! With `Inference-Header-Content-Length` a body is JSON followed by the bytes of those tensors that say
//! `binary_data_size`. An element of a `BYTES` tensor is its length, four bytes little-endian, and its bytes.

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::{
    extract::{self, parse_json},
    problem::{self, Problem},
};

pub const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// An inference request.
#[derive(Deserialize, ToSchema)]
pub struct InferRequest {
    pub id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: Option<TensorParameters>,
    pub inputs: Vec<InputTensor>,
    #[serde(default)]
    pub outputs: Vec<WantedOutput>,
}

/// `TEXT`, and `TEXT_PAIR` for a pair.
#[derive(Deserialize, ToSchema)]
pub struct InputTensor {
    #[schema(example = "TEXT")]
    pub name: String,
    #[schema(example = json!([1]))]
    pub shape: Vec<u64>,
    #[schema(example = "BYTES")]
    pub datatype: String,
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Option<TensorParameters>,
    #[serde(default)]
    #[schema(example = json!(["It broke again"]))]
    data: Value,
}

/// An output by its name; all of them where none is named.
#[derive(Deserialize, ToSchema)]
pub struct WantedOutput {
    #[schema(example = "LABEL")]
    pub name: String,
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Option<TensorParameters>,
}

#[derive(Deserialize)]
pub struct TensorParameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
}

/// Reads a request body: JSON, perhaps with tensors behind it. Gives the request and those bytes.
pub fn read(headers: &HeaderMap, body: &Bytes) -> Result<(InferRequest, Bytes), Problem> {
    let json_len = match headers.get(&HEADER_LENGTH) {
        None => body.len(),
        Some(value) => {
            let said = value.to_str().ok().and_then(|v| v.trim().parse::<usize>().ok());
            said.filter(|n| *n <= body.len()).ok_or_else(|| {
                let detail =
                    format!("Inference-Header-Content-Length does not fit a body of {} bytes", body.len());
                Problem::new(problem::BAD_REQUEST, detail)
            })?
        }
    };
    let request = parse_json(extract::text(&body[..json_len])?)?;
    Ok((request, body.slice(json_len..)))
}

/// The texts of the tensor `name`; `None` where the request has none. `binary` is what follows the JSON.
pub fn texts(request: &InferRequest, name: &str, binary: &Bytes) -> Result<Option<Vec<String>>, Problem> {
    let mut at = 0usize;
    for (i, tensor) in request.inputs.iter().enumerate() {
        let size = tensor.parameters.as_ref().and_then(|p| p.binary_data_size);
        let from = at;
        at = at.saturating_add(size.unwrap_or(0));
        if tensor.name != name {
            continue;
        }
        let pointer = format!("/inputs/{i}");
        let refuse = |detail: String| Problem::at(problem::INVALID_INPUT, pointer.clone(), detail);
        if tensor.datatype != "BYTES" {
            return Err(refuse(format!("{name} is {}; it must be BYTES", tensor.datatype)));
        }
        let found = match size {
            Some(_) => {
                let bytes =
                    binary.get(from..at).ok_or_else(|| refuse("the binary data ends too early".into()))?;
                elements(bytes).map_err(refuse)?
            }
            None => strings(&tensor.data).ok_or_else(|| refuse("`data` is no list of texts".into()))?,
        };
        let wanted = tensor.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        if wanted != Some(found.len() as u64) {
            return Err(refuse(format!("shape {:?} does not fit {} texts", tensor.shape, found.len())));
        }
        return Ok(Some(found));
    }
    Ok(None)
}

/// Texts of a list, or of lists in a list (a shape of several dimensions).
fn strings(data: &Value) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for item in data.as_array()? {
        match item {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(_) => texts.extend(strings(item)?),
            _ => return None,
        }
    }
    Some(texts)
}

fn elements(mut bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        let element = rest.get(..len).ok_or("an element is longer than the binary data")?;
        texts.push(String::from_utf8(element.to_vec()).map_err(|_| "an element is not UTF-8".to_owned())?);
        bytes = &rest[len..];
    }
    if bytes.is_empty() {
        Ok(texts)
    } else {
        Err("the binary data ends inside the length of an element".into())
    }
}

/// A tensor of an answer.
pub struct Output {
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub values: Values,
}

pub enum Values {
    Texts(Vec<String>),
    Floats(Vec<f32>),
}

impl Values {
    pub fn datatype(&self) -> &'static str {
        match self {
            Values::Texts(_) => "BYTES",
            Values::Floats(_) => "FP32",
        }
    }

    fn json(&self) -> Value {
        match self {
            Values::Texts(texts) => texts.clone().into(),
            Values::Floats(floats) => floats.clone().into(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Values::Texts(texts) => {
                let element = |t: &String| {
                    let mut bytes = (t.len() as u32).to_le_bytes().to_vec();
                    bytes.extend(t.as_bytes());
                    bytes
                };
                texts.iter().flat_map(element).collect()
            }
            Values::Floats(floats) => floats.iter().flat_map(|f| f.to_le_bytes()).collect(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct InferResponse {
    model_name: String,
    model_version: String,
    id: Option<String>,
    outputs: Vec<OutputTensor>,
}

#[derive(Serialize, ToSchema)]
pub struct OutputTensor {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

/// Puts an answer together, each output as JSON or as bytes as the request has it.
pub fn respond(
    request: InferRequest,
    model_name: String,
    model_version: String,
    outputs: Vec<Output>,
) -> Result<Response, Problem> {
    for (i, wanted) in request.outputs.iter().enumerate() {
        if !outputs.iter().any(|o| o.name == wanted.name) {
            let known = outputs.iter().map(|o| o.name).collect::<Vec<_>>().join(", ");
            let detail = format!("there is no output {:?}; there are {known}", wanted.name);
            return Err(Problem::at(problem::INVALID_BODY, format!("/outputs/{i}/name"), detail));
        }
    }
    let all_binary = request.parameters.as_ref().and_then(|p| p.binary_data_output).unwrap_or(false);
    let mut tail = Vec::new();
    let tensors = outputs
        .into_iter()
        .filter_map(|output| {
            let wanted = request.outputs.iter().find(|w| w.name == output.name);
            if wanted.is_none() && !request.outputs.is_empty() {
                return None;
            }
            let said = wanted.and_then(|w| w.parameters.as_ref()).and_then(|p| p.binary_data);
            let binary = said.unwrap_or(all_binary);
            let mut tensor = OutputTensor {
                name: output.name,
                datatype: output.values.datatype(),
                shape: output.shape,
                data: None,
                parameters: None,
            };
            if binary {
                let bytes = output.values.bytes();
                tensor.parameters = Some(serde_json::json!({"binary_data_size": bytes.len()}));
                tail.extend(bytes);
            } else {
                tensor.data = Some(output.values.json());
            }
            Some(tensor)
        })
        .collect();
    let response = InferResponse { model_name, model_version, id: request.id, outputs: tensors };
    // Cannot fail: strings, finite numbers and maps with string keys only.
    let mut body = serde_json::to_vec(&response).unwrap_or_default();
    if tail.is_empty() {
        return Ok(
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
        );
    }
    let json_len = HeaderValue::from(body.len());
    body.extend(tail);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (HEADER_LENGTH, json_len),
    ];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> InferRequest {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn texts_come_as_json_or_as_bytes() {
        let json =
            request(r#"{"inputs":[{"name":"TEXT","shape":[2,1],"datatype":"BYTES","data":[["a"],["b"]]}]}"#);
        assert_eq!(texts(&json, "TEXT", &Bytes::new()).unwrap().unwrap(), ["a", "b"]);
        assert!(texts(&json, "TEXT_PAIR", &Bytes::new()).unwrap().is_none());

        let body =
            br#"{"inputs":[{"name":"X","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}},
            {"name":"TEXT","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}]}"#;
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_LENGTH, body.len().into());
        let tail = b"\x01\0\0\0x\x02\0\0\0\xc3\xa9";
        let (request, binary) = read(&headers, &Bytes::from([&body[..], &tail[..]].concat())).unwrap();
        assert_eq!(texts(&request, "TEXT", &binary).unwrap().unwrap(), ["é"]);
        for cut in 0..tail.len() {
            assert!(texts(&request, "TEXT", &binary.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_does_not_fit_is_pointed_at() {
        let refused =
            |json: &str| texts(&request(json), "TEXT", &Bytes::new()).unwrap_err().detail().to_owned();
        let tensor = |rest: &str| format!(r#"{{"inputs":[{{"name":"TEXT",{rest}}}]}}"#);
        assert!(refused(&tensor(r#""shape":[1],"datatype":"FP32","data":[1.0]"#)).contains("must be BYTES"));
        assert!(
            refused(&tensor(r#""shape":[1],"datatype":"BYTES","data":[1]"#)).contains("no list of texts")
        );
        assert!(
            refused(&tensor(r#""shape":[3],"datatype":"BYTES","data":["a"]"#))
                .contains("does not fit 1 texts")
        );
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_LENGTH, 99.into());
        assert!(
            read(&headers, &Bytes::from_static(b"{}")).err().unwrap().detail().contains("body of 2 bytes")
        );
    }
}
