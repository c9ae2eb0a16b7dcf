//! Asking pods whether they are ready and which model they run, through the API server.

use std::time::Duration;

use mynah_contracts::Sha256Digest;
use tokio::time::{Instant, sleep};

use super::ClusterError;
use super::api::Api;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// What a pod answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is ready and runs this model.
    Model(Sha256Digest),
    /// It is ready, and tells its model only to those with its token.
    Withheld,
    /// It is no longer there.
    Gone,
    /// It is not ready, or cannot be asked.
    NotReady(String),
}

/// A pod to be asked.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) port: u64,
}

impl Asked<'_> {
    /// Asks until it is ready, or time is over.
    pub(super) async fn until(&self, api: &Api, deadline: Instant) -> Result<Answer, ClusterError> {
        loop {
            let answer = self.once(api).await?;
            if !matches!(answer, Answer::NotReady(_)) || Instant::now() >= deadline {
                return Ok(answer);
            }
            sleep(PAUSE).await;
        }
    }

    async fn once(&self, api: &Api) -> Result<Answer, ClusterError> {
        let (status, text) = match api.ask(self.namespace, self.pod, self.port, "readyz").await {
            Err(ClusterError::Http(error)) => {
                return Ok(Answer::NotReady(mynah_contracts::error_chain(&error)));
            }
            answer => answer?,
        };
        if status == 404 {
            return Ok(Answer::Gone);
        }
        if !(200..300).contains(&status) {
            let said = crate::http::clean(&text);
            return Ok(Answer::NotReady(format!("it answers {status} ({said})")));
        }
        let (status, text) = match api.ask(self.namespace, self.pod, self.port, "metrics").await {
            // The pod wants its token, and the API server hands its refusal on.
            Err(ClusterError::NotAccepted { .. }) => return Ok(Answer::Withheld),
            Err(ClusterError::Http(error)) => {
                return Ok(Answer::NotReady(mynah_contracts::error_chain(&error)));
            }
            answer => answer?,
        };
        Ok(match status {
            200..300 => {
                model(&text).map_or_else(|| Answer::NotReady("it tells no model".into()), Answer::Model)
            }
            401 | 403 => Answer::Withheld,
            404 => Answer::Gone,
            status => Answer::NotReady(format!("its figures answer {status}")),
        })
    }
}

/// The model in the runtime's figures: `mynah_model_info{sha256="…"}`.
fn model(figures: &str) -> Option<Sha256Digest> {
    let line = figures.lines().find(|line| line.starts_with("mynah_model_info{"))?;
    let (_, rest) = line.split_once("sha256=\"")?;
    let (hex, _) = rest.split_once('"')?;
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_read_from_the_figures() {
        let digest = Sha256Digest::of(b"model");
        let text = format!(
            "# HELP mynah_model_info The model in use.\n# TYPE mynah_model_info gauge\n\
             mynah_model_info{{sha256=\"{}\",version=\"0.1.0\"}} 1\n",
            digest.hex()
        );
        assert_eq!(model(&text), Some(digest));
        for other in ["", "mynah_model_info{sha256=\"xyz\"} 1", "mynah_model_info{version=\"1\"} 1"] {
            assert_eq!(model(other), None);
        }
    }
}
