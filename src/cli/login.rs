//! Logins at MCP servers: `tools login`, `tools logout`. Invariant: a token is printed nowhere; what a person opens is
//! printed, and never opened by itself.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use super::approve;
use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, now_ms};
use super::screen::{clean, span};
use super::wiring::Servers;
use super::{Context, drive};
use crate::adapters::mcp::{AtServer, Forgot, Mcp, Standing};
use crate::adapters::settings::Flags;
use crate::core::crew::Server;

/// The server of this name, and where its logins are kept.
fn find(context: &Context, name: &str, crew: Option<&Path>, command: &str) -> Result<Place, Failure> {
    let (root, servers) = approve::servers(context, Some(name), crew, command)?;
    let server = servers.into_iter().next().ok_or_else(|| Failure::usage(format!("no crew has `{}`", clean(name))))?;
    let project = Project::at(context, root, Flags::new())?;
    let mcp = Servers::new(&project, context.env.clone()).alone(&server)?;
    let Some(at) = mcp.login() else {
        let message = format!("the server {} is a program, or a header says who asks: there is no login", clean(name));
        return Err(Failure::usage(message).hint("a login is for a [tools.N] with `url` and no header `Authorization`"));
    };
    Ok(Place { mcp, at, time: Duration::from_millis(server.timeout_ms), _project: project })
}

struct Place {
    mcp: Mcp,
    at: AtServer,
    time: Duration,
    /// Its log ends with it.
    _project: Project,
}

/// `bosun tools login`.
pub fn login(context: &Context, name: &str, crew: Option<&Path>) -> Outcome {
    let place = find(context, name, crew, "login")?;
    let shown = clean(name);
    let say = |address: &str| {
        context.out.note(&format!("open this address in a browser and log in at the server {shown}:"));
        // As it is: nothing in it is a secret, and a line that is cut could not be opened.
        context.out.line(&clean(address));
        context.out.note(match std::io::stdin().is_terminal() {
            true => "waiting for the browser to come back here; from another machine: paste the address it came to",
            false => "waiting for the browser to come back here",
        });
    };
    let standing = drive::block_on(async {
        tokio::select! {
            standing = async {
                place.mcp.knock(place.time).await;
                place.at.login(&say, pasted()).await
            } => standing.map_err(|why| {
                Failure::new(Exit::Credentials, format!("no login at the server {shown}: {}", clean(&why)))
            }),
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::new(Exit::Interrupted, format!("nobody has logged in at the server {shown}")))
            }
        }
    })?;
    context.out.note(&format!("the server {shown}: {}", clean(&words(&standing))));
    Ok(Exit::Done)
}

/// The first line with something in it that is typed; without a terminal there is none.
async fn pasted() -> String {
    if !std::io::stdin().is_terminal() {
        return std::future::pending().await;
    }
    let (line, typed) = tokio::sync::oneshot::channel();
    // Reading cannot be taken back: a thread of its own, which ends with the process.
    std::thread::spawn(move || {
        let typed = std::io::stdin().lines().map_while(Result::ok).find(|text| !text.trim().is_empty());
        typed.map(|text| line.send(text))
    });
    match typed.await {
        Ok(text) => text,
        Err(_) => std::future::pending().await,
    }
}

/// `bosun tools logout`.
pub fn logout(context: &Context, name: &str, crew: Option<&Path>) -> Outcome {
    let place = find(context, name, crew, "logout")?;
    let gone =
        drive::block_on(async { place.at.forget().await.map_err(|why| Failure::new(Exit::State, clean(&why))) })?;
    let shown = clean(name);
    context.out.note(&match gone {
        Forgot::Everywhere(issuer) => {
            format!("the login at the server {shown} is forgotten, and given back to {}", clean(&issuer))
        }
        Forgot::Here(why) => {
            format!("the login at the server {shown} is forgotten here, and not given back: {}", clean(&why))
        }
        Forgot::Nothing => format!("there is no login at the server {shown}"),
    });
    Ok(Exit::Done)
}

/// What there is of a login.
pub(super) fn words(standing: &Standing) -> String {
    match standing {
        Standing::None => "no login".to_owned(),
        Standing::Over(why) => format!("its login {why}"),
        Standing::Here { issuer, expires_ms, renews } => {
            let renews = if *renews { ", renewed by itself" } else { ", and cannot be renewed" };
            let until = match expires_ms {
                Some(at) if *at > now_ms() => format!("for another {}{renews}", span(at - now_ms())),
                Some(_) => format!("ended{renews}"),
                None => "without a stated end".to_owned(),
            };
            format!("logged in at {issuer}, {until}")
        }
    }
}

/// What a run would find, for `doctor`: nothing of servers of which the crew states no login and that have none.
pub(super) fn look(project: &Project, context: &Context, server: &Server) -> Option<Result<Standing, String>> {
    let crate::core::crew::Link::Http { login: Some(oauth), .. } = &server.link else { return None };
    let at = match Servers::new(project, context.env.clone()).alone(server) {
        Ok(mcp) => mcp.login()?,
        Err(failure) => return Some(Err(failure.message)),
    };
    match at.standing() {
        Ok(Standing::None) if !oauth.stated => None,
        // Nobody is asked: the first call gets a token.
        Ok(Standing::None) if !at.asks_a_person() => None,
        other => Some(other),
    }
}
