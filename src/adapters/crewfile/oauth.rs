//! `auth` of a server with an address. Invariant: a secret is the name of a variable; what the login needs and has not
//! is said here, and not when a run wants it.

use std::collections::BTreeMap;

use super::Loader;
use super::doc::Table;
use super::http::net;
use super::problem::Problem;
use crate::adapters::models::secrets::is_variable;
use crate::core::crew::{Grant, OAuth};

/// How the server is told who asks. A server of which nothing is said may ask for a login, unless a header says it.
pub(super) fn read(loader: &mut Loader<'_>, server: &Table, headers: &BTreeMap<String, String>) -> Option<OAuth> {
    let header = headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
    let (Some(entry), Some(table)) = (server.entry("auth"), server.table("auth")) else {
        return (!header).then(OAuth::default);
    };
    let mut wrong = Vec::new();
    if header {
        wrong.push((
            &entry.key_at,
            "E0203",
            "the header `Authorization` says who asks already",
            "leave out one of them",
        ));
    }
    if table.get("kind").is_none() {
        wrong.push((&entry.key_at, "E0106", "`auth` has no `kind`", "write `kind = \"oauth\"`"));
    }
    let has = |key: &str| table.get(key).is_some();
    for key in ["client_secret", "private_key"].into_iter().filter(|key| has(key) && !has("client_id")) {
        let at = table.entry(key).map_or(&entry.key_at, |entry| &entry.key_at);
        wrong.push((at, "E0106", "a secret is of a client, and there is no `client_id`", "write `client_id = \"…\"`"));
    }
    let client = table.text("grant") == Some("client_credentials");
    if client && !(has("client_id") && (has("client_secret") || has("private_key"))) {
        let help = "write `client_id = \"…\"` and `client_secret = \"env:NAME\"` or `private_key = \"env:NAME\"`";
        wrong.push((&entry.key_at, "E0106", "a client that asks for itself must say who it is", help));
    }
    if let Some(node) = table.get("client_metadata")
        && !node.text().is_some_and(|url| url.starts_with("https://"))
    {
        let message = "the address of a client's document begins with https://";
        wrong.push((&node.at, "E0111", message, "it is fetched by the authorization server"));
    }
    for (at, code, message, help) in wrong {
        loader.report(Problem::error(code, at, message).help(help));
    }
    let text = |key: &str| table.text(key).map(str::to_owned);
    Some(OAuth {
        stated: true,
        grant: if client { Grant::Client } else { Grant::Person },
        scopes: table.texts("scopes").into_iter().map(|(text, _)| text.to_owned()).collect(),
        client_id: text("client_id"),
        client_secret: variable(loader, table, "client_secret"),
        private_key: variable(loader, table, "private_key"),
        client_metadata: text("client_metadata"),
        redirect_port: table.int("redirect_port").and_then(|port| u16::try_from(port).ok()),
        net: net(loader, table),
    })
}

/// `"env:NAME"`.
fn variable(loader: &mut Loader<'_>, table: &Table, key: &str) -> Option<String> {
    let node = table.get(key)?;
    let name = node.text().and_then(|text| text.strip_prefix("env:")).filter(|name| is_variable(name));
    if name.is_none() {
        let message = format!("the value of `{key}` is not the name of a variable");
        let help = format!("write `{key} = \"env:NAME\"`: the value stays out of the file");
        loader.report(Problem::error("E0110", &node.at, message).help(help));
    }
    name.map(str::to_owned)
}
