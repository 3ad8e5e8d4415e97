//! Chat Completions, at OpenAI and at whoever speaks it. Invariant: one call is one
//! request, streamed or not, and both ways make the same answer.

mod map;
mod wire;

pub use map::{Dialect, is_strict, refused_extra};

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use self::map::Bodies;
use crate::adapters::models::failure::malformed;
use crate::adapters::models::http::Client;
use crate::adapters::models::line::{Answer, Line};
use crate::adapters::models::secrets::SecretInputs;
use crate::core::chat::{CallFailure, ModelAnswer, ModelRequest};
use crate::ports::BoxFuture;
use crate::ports::model::{Model, Watch};

/// What a client of this kind is made of.
pub struct OpenAiSpec {
    /// With `/v1`, as the vendor's SDK takes it.
    pub base_url: String,
    /// None sends no `Authorization`.
    pub key: Option<SecretString>,
    /// Of one request, until its last byte.
    pub timeout: Duration,
    /// Connections that are kept open.
    pub connections: usize,
    pub dialect: Dialect,
    pub secrets: Arc<SecretInputs>,
}

pub struct OpenAi {
    line: Line,
    bodies: Bodies,
}

impl OpenAi {
    /// Fails in words: an address that cannot be used, a key that no header can carry.
    pub fn new(spec: OpenAiSpec) -> Result<OpenAi, String> {
        let mut client = Client::new(&spec.base_url, "chat/completions", spec.timeout, spec.connections)?;
        if let Some(key) = &spec.key {
            client = client.with_bearer(key)?;
        }
        Ok(OpenAi { line: Line::new(client, spec.key, spec.secrets), bodies: Bodies::new(spec.dialect) })
    }

    async fn ask(&self, request: &ModelRequest) -> Result<ModelAnswer, CallFailure> {
        let body = self.bodies.body(request, self.line.secrets()).map_err(|why| self.line.cannot_say(&why))?;
        let answer = self.line.send(body).await?;
        Ok(self.whole(answer))
    }

    fn whole(&self, answer: Answer) -> ModelAnswer {
        let Answer { bytes, whole, request_id, .. } = answer;
        let hide = |text: &str| self.line.hide(text);
        if whole { map::answer(&bytes, request_id, hide) } else { malformed(&bytes, request_id, hide) }
    }
}

impl Model for OpenAi {
    fn call<'a>(
        &'a self,
        request: &'a ModelRequest,
        _: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<ModelAnswer, CallFailure>> {
        Box::pin(self.ask(request))
    }
}
