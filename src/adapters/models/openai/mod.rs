//! Chat Completions, at OpenAI and at whoever speaks it. Invariant: a failure says what it says
//! about money only on evidence: released only if nothing was written, or by a listed status.

mod map;
mod wire;

pub use map::{Dialect, is_strict, refused_extra};

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use self::map::Bodies;
use crate::adapters::models::failure::{Said, capped};
use crate::adapters::models::http::{Body, Client, Reply, Trouble};
use crate::adapters::models::secrets::{SecretInputs, redact};
use crate::core::chat::{CallFailure, FailureClass, ModelAnswer, ModelRequest};
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
    client: Client,
    bodies: Bodies,
    key: Option<SecretString>,
    secrets: Arc<SecretInputs>,
}

impl OpenAi {
    /// Fails in words: an address that cannot be used, a key that no header can carry.
    pub fn new(spec: OpenAiSpec) -> Result<OpenAi, String> {
        let mut client = Client::new(&spec.base_url, "chat/completions", spec.timeout, spec.connections)?;
        if let Some(key) = &spec.key {
            client = client.with_bearer(key)?;
        }
        Ok(OpenAi { client, bodies: Bodies::new(spec.dialect), key: spec.key, secrets: spec.secrets })
    }

    async fn ask(&self, request: &ModelRequest) -> Result<ModelAnswer, CallFailure> {
        let body = self.bodies.body(request, &self.secrets).map_err(|why| CallFailure {
            class: FailureClass::OurFault,
            status: None,
            message: why.to_string(),
            retry_after_ms: None,
            param: None,
        })?;
        let reply = self.client.send(body).await.map_err(|Trouble { not_sent, words }| {
            let class = if not_sent { FailureClass::NotSent } else { FailureClass::Ambiguous };
            self.failure(class, None, &words)
        })?;
        if (200..300).contains(&reply.status) { self.answer(reply) } else { Err(self.refusal(reply)) }
    }

    fn answer(&self, reply: Reply) -> Result<ModelAnswer, CallFailure> {
        match reply.body {
            Body::Whole(bytes) => Ok(map::answer(&bytes, reply.request_id, |text| self.hide(text))),
            Body::TooLarge(bytes) => Ok(map::malformed(&bytes, reply.request_id, |text| self.hide(text))),
            Body::Cut(why) => {
                let words = format!("the answer broke off: {why}");
                Err(self.failure(FailureClass::Ambiguous, Some(reply.status), &words))
            }
        }
    }

    fn refusal(&self, reply: Reply) -> CallFailure {
        let said = match reply.body {
            Body::Whole(bytes) | Body::TooLarge(bytes) => Said::read(&bytes),
            Body::Cut(why) => Said { message: format!("(its words broke off: {why})"), ..Said::default() },
        };
        said.failure(reply.status, reply.retry_after_ms, |text| self.hide(text))
    }

    fn failure(&self, class: FailureClass, status: Option<u16>, words: &str) -> CallFailure {
        CallFailure { class, status, message: capped(&self.hide(words)), retry_after_ms: None, param: None }
    }

    fn hide(&self, text: &str) -> String {
        redact(text, self.key.iter().chain(self.secrets.values()))
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
