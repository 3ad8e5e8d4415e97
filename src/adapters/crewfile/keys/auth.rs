//! The keys of a login at a server.

use super::{Kind, Spec, key};

pub static AUTH: Spec = Spec {
    name: "[tools.N.auth]",
    keys: &[
        key("kind", Kind::Choice(&["oauth"], &[]), "", "how the server knows who asks"),
        key(
            "grant",
            Kind::Choice(&["authorization_code", "client_credentials"], &[]),
            "authorization_code",
            "a person's rights, who logs in once: `bosun tools login N`; or the client's own",
        ),
        key("scopes", Kind::Texts, "what the server asks for", "what the token is to be good for"),
        key("client_id", Kind::Text, "Bosun registers itself", "of a client that the authorization server knows"),
        key("client_secret", Kind::Text, "", "of that client: \"env:NAME\""),
        key("private_key", Kind::Text, "", "of that client: \"env:NAME\", a PEM (P-256 or RSA, PKCS #8)"),
        key("client_metadata", Kind::Text, "", "https address of a document that describes the client"),
        key("redirect_port", Kind::Int(1, 65535), "a free one", "loopback port that the browser comes back to"),
        key("net", Kind::Texts, "[]", "`host:port` of authorization servers that are not public"),
    ],
};
