//! Who Bosun is at an authorization server. Invariant: what one authorization server gave, an id, a secret, no other
//! one is ever sent.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::discover::Issuer;
use super::wire::{Wire, encoded};
use crate::core::crew::OAuth;

/// How long an assertion holds, in seconds.
const ASSERTION_S: u64 = 120;

/// How a client proves that it is the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Method {
    #[serde(rename = "none")]
    None,
    #[serde(rename = "client_secret_basic")]
    Basic,
    #[serde(rename = "client_secret_post")]
    Post,
    #[serde(rename = "private_key_jwt")]
    Jwt,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::Basic => "client_secret_basic",
            Method::Post => "client_secret_post",
            Method::Jwt => "private_key_jwt",
        }
    }
    fn named(name: &str) -> Option<Method> {
        [Method::None, Method::Basic, Method::Post, Method::Jwt].into_iter().find(|method| method.name() == name)
    }
    /// The best that the server takes of what there is.
    fn choose(issuer: &Issuer, secret: bool, key: bool) -> Method {
        let taken = |method: Method| {
            let known = issuer.token_endpoint_auth_methods_supported.as_deref();
            // Where nothing is said, RFC 8414 says `client_secret_basic`.
            known.map_or(method == Method::Basic, |known| known.iter().any(|name| name == method.name()))
        };
        match (secret, key) {
            (_, true) => Method::Jwt,
            (true, false) if taken(Method::Basic) => Method::Basic,
            (true, false) if taken(Method::Post) => Method::Post,
            (true, false) if taken(Method::None) => Method::None,
            (true, false) => Method::Basic,
            (false, false) => Method::None,
        }
    }
}

/// What the crew's author has of a client: values of the variables that it names.
#[derive(Default)]
pub(super) struct Given {
    pub secret: Option<SecretString>,
    pub key: Option<SecretString>,
}

/// A client of one authorization server.
#[derive(Clone)]
pub(super) struct Client {
    pub id: String,
    pub method: Method,
    /// Its secret or, for [`Method::Jwt`], its key.
    pub proof: Option<SecretString>,
    /// It came by registering, and is kept with the login: nobody else has it.
    pub registered: bool,
}

impl Client {
    /// The one that the crew names.
    pub fn stated(oauth: &OAuth, given: &Given, issuer: &Issuer) -> Option<Client> {
        let method = Method::choose(issuer, given.secret.is_some(), given.key.is_some());
        let proof = given.key.clone().or_else(|| given.secret.clone());
        Some(Client { id: oauth.client_id.clone()?, method, proof, registered: false })
    }

    /// The one that the crew names, else its metadata document, else one that is registered now.
    pub async fn of(
        wire: &Wire,
        oauth: &OAuth,
        given: &Given,
        issuer: &Issuer,
        redirect: &str,
    ) -> Result<Client, String> {
        if let Some(client) = Client::stated(oauth, given, issuer) {
            return Ok(client);
        }
        if let Some(document) = oauth.client_metadata.as_ref().filter(|_| issuer.client_id_metadata_document_supported)
        {
            return Ok(Client { id: document.clone(), method: Method::None, proof: None, registered: false });
        }
        let Some(endpoint) = &issuer.registration_endpoint else {
            let name = &issuer.issuer;
            return Err(format!(
                "{name} registers no clients: get a client id from whoever runs it and write \
                 `auth = {{ kind = \"oauth\", client_id = \"…\" }}`"
            ));
        };
        register(wire, issuer, endpoint, redirect).await
    }

    /// Puts what proves the client into a request; what `Authorization` says.
    pub fn prove(&self, issuer: &str, form: &mut Vec<(&str, String)>) -> Result<Option<String>, String> {
        let proof = self.proof.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
        match self.method {
            Method::None => form.push(("client_id", self.id.clone())),
            Method::Post => {
                form.push(("client_id", self.id.clone()));
                form.push(("client_secret", proof.to_owned()));
            }
            Method::Basic => {
                // RFC 6749 section 2.3.1: both as in a form.
                let [id, secret] =
                    [self.id.as_str(), proof].map(|text| encoded(&[("x", text.to_owned())])[2..].to_owned());
                return Ok(Some(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))));
            }
            Method::Jwt => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                form.push(("client_assertion_type", kind.to_owned()));
                form.push(("client_assertion", assertion(&self.id, issuer, proof)?));
            }
        }
        Ok(None)
    }
}

#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<String>,
    token_endpoint_auth_method: Option<String>,
}

/// Dynamic registration (RFC 7591).
async fn register(wire: &Wire, issuer: &Issuer, endpoint: &str, redirect: &str) -> Result<Client, String> {
    let failed = |why: String| format!("{} did not register Bosun as a client: {why}", issuer.issuer);
    let taken = issuer.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
    let takes = |method: &Method| taken.is_empty() || taken.iter().any(|name| name == method.name());
    let wanted = [Method::None, Method::Basic, Method::Post].into_iter().find(takes).unwrap_or(Method::None);
    let body = json!({
        "client_name": "Bosun",
        "redirect_uris": [redirect],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": wanted.name(),
        "application_type": "native",
    });
    let url = Url::parse(endpoint).map_err(|why| failed(format!("`{endpoint}`: {why}")))?;
    let reply = wire.json(&url, &body).await.map_err(failed)?;
    if !matches!(reply.status, 200 | 201) {
        return Err(failed(super::token::refusal(&reply)));
    }
    let answer = reply.json.ok_or_else(|| failed("its answer is no JSON".to_owned()))?;
    let answer: Registered = serde_json::from_value(answer).map_err(|why| failed(why.to_string()))?;
    // Some say that there is none by an empty one.
    let secret = answer.client_secret.filter(|secret| !secret.is_empty());
    let said = answer.token_endpoint_auth_method.as_deref().and_then(Method::named);
    let method = said.unwrap_or_else(|| Method::choose(issuer, secret.is_some(), false));
    match (method, &secret) {
        (Method::Basic | Method::Post, None) => Err(failed("it wants a secret and gave none".to_owned())),
        (Method::Jwt, _) => Err(failed("it wants a key; Bosun has none of its own".to_owned())),
        (Method::None, _) => Ok(Client { id: answer.client_id, method, proof: None, registered: true }),
        (Method::Basic | Method::Post, Some(_)) => {
            Ok(Client { id: answer.client_id, method, proof: secret.map(SecretString::from), registered: true })
        }
    }
}

/// A client's word for itself (RFC 7523), signed by ES256 or RS256 as the key is.
fn assertion(client: &str, issuer: &str, pem: &str) -> Result<String, String> {
    let der = pem_body(pem)?;
    let rng = SystemRandom::new();
    let now = super::now_ms() / 1000;
    let claims = json!({
        "iss": client, "sub": client, "aud": issuer, "iat": now, "exp": now + ASSERTION_S,
        "jti": super::random()?,
    });
    let signed = |alg: &str| {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(json!({ "alg": alg, "typ": "JWT" })), part(claims.clone()))
    };
    if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &rng) {
        let text = signed("ES256");
        let signature = key.sign(&rng, text.as_bytes()).map_err(|_| "its private key does not sign")?;
        return Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)));
    }
    let key = RsaKeyPair::from_pkcs8(&der)
        .map_err(|_| "its private key is neither P-256 nor RSA of at least 2048 bits in PKCS #8".to_owned())?;
    let text = signed("RS256");
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &rng, text.as_bytes(), &mut signature).map_err(|_| "its private key does not sign")?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// What stands between the lines of a PEM. Some keep it in a variable with its line ends as `\n`.
fn pem_body(pem: &str) -> Result<Vec<u8>, String> {
    let wrong = || "its private key is no PEM of PKCS #8 (`-----BEGIN PRIVATE KEY-----`)".to_owned();
    let pem = pem.replace("\\n", "\n");
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----").ok_or_else(wrong)?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----").ok_or_else(wrong)?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
