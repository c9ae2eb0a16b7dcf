//! The API of a Custom Vision container, so that camera modules made for it work against ours: a picture in, the
//! probability of each label out. Unlike there, an error is answered as an error, never with status 200.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use mynah_model::ModelPackage;
use mynah_photo::{DecodeError, Limits};
use serde::{Deserialize, Serialize};

use super::{Shared, fetch};

/// The largest body, in bytes.
pub(super) const MAX_BODY: usize = 4 << 20;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a request waits for its turn.
const TURN_TIME: Duration = Duration::from_secs(10);
/// How many fields of a form are looked at.
const MAX_FIELDS: usize = 16;
/// The field of a form that holds the picture.
const FIELD: &str = "imageData";
/// Probabilities up to this are left out.
const LEAST: f64 = 1e-8;

/// `/image` and `/url` with all their aliases.
pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new();
    for (last, handler) in [("image", post(image)), ("url", post(url))] {
        for path in
            ["", "/{project}", "/{project}/classify/iterations/{name}", "/{project}/detect/iterations/{name}"]
        {
            router = router.route(&format!("{path}/{last}"), handler.clone());
            if !path.is_empty() {
                router = router.route(&format!("{path}/{last}/nostore"), handler.clone());
            }
        }
    }
    router.layer(DefaultBodyLimit::max(MAX_BODY))
}

/// An error as clients of the API read it.
pub(super) fn problem(status: StatusCode, code: &'static str, message: impl Into<String>) -> Response {
    #[derive(Serialize)]
    struct Problem {
        code: &'static str,
        message: String,
    }
    (status, axum::Json(Problem { code, message: message.into() })).into_response()
}

/// The answer.
#[derive(Serialize)]
struct Answer {
    id: &'static str,
    project: &'static str,
    iteration: &'static str,
    created: String,
    predictions: Vec<Prediction>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Prediction {
    tag_name: String,
    probability: f64,
    tag_id: &'static str,
    bounding_box: Option<()>,
}

/// Classifies the picture in the body: the field `imageData` of a form, or the body itself.
async fn image(State(shared): State<Shared>, request: Request) -> Response {
    let bytes = match tokio::time::timeout(BODY_TIME, picture(request)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(refusal)) => return refusal,
        Err(_) => {
            return problem(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeout",
                "the body took more than 30 s to arrive",
            );
        }
    };
    classify(&shared, bytes).await
}

/// Where a picture is to be fetched from.
#[derive(Deserialize)]
struct Address {
    #[serde(alias = "Url")]
    url: String,
}

/// Classifies the picture at an address.
async fn url(State(shared): State<Shared>, request: Request) -> Response {
    let body = match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return refuse(refusal.status(), refusal.body_text()),
        Err(_) => {
            return problem(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeout",
                "the body took more than 30 s to arrive",
            );
        }
    };
    let address: Address = match serde_json::from_slice(&body) {
        Ok(address) => address,
        Err(error) => {
            let message = format!("a body such as {{\"url\": \"https://…\"}} is needed: {error}");
            return problem(StatusCode::BAD_REQUEST, "BadRequest", message);
        }
    };
    let policy = shared.settings.fetch;
    match tokio::task::spawn_blocking(move || fetch::fetch(&address.url, policy)).await {
        Ok(Ok(bytes)) => classify(&shared, Bytes::from(bytes)).await,
        Ok(Err(error)) => problem(error.status(), "BadRequestImageUrl", mynah_contracts::error_chain(&error)),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "Failed", "fetching the picture failed"),
    }
}

fn refuse(status: StatusCode, message: String) -> Response {
    let code =
        if status == StatusCode::PAYLOAD_TOO_LARGE { "BadRequestImageSizeBytes" } else { "BadRequest" };
    problem(status, code, message)
}

/// The bytes of the picture in a request.
async fn picture(request: Request) -> Result<Bytes, Response> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        let body = Bytes::from_request(request, &())
            .await
            .map_err(|refusal| refuse(refusal.status(), refusal.body_text()))?;
        return Ok(form_field(&body).unwrap_or(body));
    }
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|refusal| refuse(refusal.status(), refusal.body_text()))?;
    for _ in 0..MAX_FIELDS {
        let field = form.next_field().await.map_err(|error| refuse(error.status(), error.body_text()))?;
        let Some(field) = field else { break };
        if field.name() == Some(FIELD) {
            return field.bytes().await.map_err(|error| refuse(error.status(), error.body_text()));
        }
    }
    Err(problem(StatusCode::BAD_REQUEST, "BadRequestImage", format!("the form has no field `{FIELD}`")))
}

/// The picture in a form that was sent as one line; some clients claim this form and send the picture itself.
fn form_field(body: &Bytes) -> Option<Bytes> {
    let value = body.strip_prefix(format!("{FIELD}=").as_bytes())?;
    let value = value.split(|&byte| byte == b'&').next()?;
    Some(percent_encoding::percent_decode(value).collect::<Vec<u8>>().into())
}

async fn classify(shared: &Shared, bytes: Bytes) -> Response {
    if bytes.is_empty() {
        return problem(StatusCode::BAD_REQUEST, "BadRequestImage", "the body holds no picture");
    }
    let Some(model) = shared.board.model() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "NoModel", "the model is being loaded");
    };
    let turn = tokio::time::timeout(TURN_TIME, shared.classifiers.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "Busy", "too many pictures are waiting");
    };
    let done = tokio::task::spawn_blocking(move || {
        let answer = answer(&model, &bytes);
        drop(turn);
        answer
    });
    done.await.unwrap_or_else(|_| {
        problem(StatusCode::INTERNAL_SERVER_ERROR, "Failed", "classifying the picture failed")
    })
}

fn answer(model: &Arc<ModelPackage>, bytes: &[u8]) -> Response {
    let limits = Limits { min_side: 1, ..Limits::default() };
    let image = match mynah_photo::decode(bytes, &limits) {
        Ok(decoded) => decoded.image,
        Err(error @ (DecodeError::TooManyPixels { .. } | DecodeError::TooManyBytes { .. })) => {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "BadRequestImageSizePixels", error.to_string());
        }
        Err(error) => {
            return problem(StatusCode::UNPROCESSABLE_ENTITY, "BadRequestImageFormat", error.to_string());
        }
    };
    match model.classify(&image) {
        Ok(probabilities) => {
            let labels = model.card().labels.iter().map(ToString::to_string);
            axum::Json(Answer {
                id: "",
                project: "",
                iteration: "",
                created: created(jiff::Timestamp::now()),
                predictions: predictions(labels, &probabilities),
            })
            .into_response()
        }
        Err(error) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "Failed", mynah_contracts::error_chain(&error))
        }
    }
}

/// In the order of the labels, rounded to eight places; what is next to nothing is left out.
fn predictions(labels: impl Iterator<Item = String>, probabilities: &[f32]) -> Vec<Prediction> {
    labels
        .zip(probabilities)
        .map(|(tag_name, &probability)| Prediction {
            tag_name,
            probability: (f64::from(probability) * 1e8).round() / 1e8,
            tag_id: "",
            bounding_box: None,
        })
        .filter(|prediction| prediction.probability > LEAST)
        .collect()
}

/// UTC to the microsecond and without a zone, as Python writes it.
fn created(time: jiff::Timestamp) -> String {
    format!("{time:.6}").trim_end_matches('Z').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_containers_form() {
        let labels = ["a", "b", "c"].map(str::to_owned).into_iter();
        let answer = Answer {
            id: "",
            project: "",
            iteration: "",
            created: created(jiff::Timestamp::from_microsecond(1_600_000_000_123_456).unwrap()),
            predictions: predictions(labels, &[0.1, 1e-9, 0.75]),
        };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"id":"","project":"","iteration":"","created":"2020-09-13T12:26:40.123456","predictions":[{"tagName":"a","probability":0.1,"tagId":"","boundingBox":null},{"tagName":"c","probability":0.75,"tagId":"","boundingBox":null}]}"#
        );
    }

    #[test]
    fn a_form_of_one_line_is_read_and_anything_else_left_as_it_is() {
        let field = |body: &'static [u8]| form_field(&Bytes::from_static(body));
        assert_eq!(field(b"imageData=%FF%D8x&y=1"), Some(Bytes::from_static(b"\xFF\xD8x")));
        assert_eq!(field(b"\xFF\xD8"), None);
    }
}
