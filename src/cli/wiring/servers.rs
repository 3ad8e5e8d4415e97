//! The MCP servers of a process. Invariant: a run begins only with servers that are up and say what was approved;
//! which actor serves a tool is decided here alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Ready;
use crate::actors::service::{ServiceTool, Services, quarantine};
use crate::adapters::mcp::{Logins, Mcp, Surroundings, wants_login};
use crate::adapters::models::secrets::Env;
use crate::cli::failure::{Exit, Failure};
use crate::cli::open::Project;
use crate::cli::screen::clean;
use crate::core::crew::{Crew, Server, ToolDef, ToolSource};
use crate::core::definition::Definition;
use crate::ports::service::Service;
use crate::ports::tool::Tool;

pub struct Servers {
    services: Arc<Services>,
    around: Surroundings,
    made: Mutex<BTreeMap<String, Arc<dyn Service>>>,
}

impl Servers {
    pub fn new(project: &Project, env: Arc<Env>) -> Servers {
        let logins = Some(Logins::new(&project.settings.state_dir, project.secrets.clone()));
        let around = Surroundings { root: project.root.clone(), env, leash: project.leash.clone(), logins };
        Servers { services: Arc::new(Services::default()), around, made: Mutex::default() }
    }

    /// The server by itself, outside of any run.
    pub fn alone(&self, server: &Server) -> Result<Mcp, Failure> {
        let made = Mcp::new(server, &self.around);
        made.map_err(|why| Failure::new(Exit::Credentials, clean(&why)).hint("nothing was sent"))
    }

    fn service(&self, server: &Server) -> Result<Arc<dyn Service>, Failure> {
        let made = self.alone(server)?;
        let mut known = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(made.key().to_owned()).or_insert_with(|| Arc::new(made));
        Ok(known.clone())
    }

    /// The tool as the crew has it, if it is one of a server.
    pub(super) fn tool(&self, def: &ToolDef) -> Result<Option<Arc<dyn Tool>>, Failure> {
        let ToolSource::Mcp { server, tool } = &def.source else { return Ok(None) };
        let (services, service) = (self.services.clone(), self.service(server)?);
        let (server, spec, tool) = (server.clone(), def.spec.clone(), tool.clone());
        Ok(Some(Arc::new(ServiceTool { services, service, server, spec, tool })))
    }

    /// What a server says of its tools now.
    pub async fn definitions(&self, server: &Server) -> Result<Vec<Definition>, Failure> {
        let service = self.service(server)?;
        let listed = self.services.definitions(&service, server.timeout_ms).await;
        listed.map_err(|why| Failure::new(exit([&why]), clean(&why)))
    }

    /// Starts every server that the crew's agents and tasks may call, all at once, and holds what they say
    /// against what is pinned: before anything is sent, and before the run is there.
    pub(super) async fn ready(&self, ready: &Ready) -> Result<(), Failure> {
        if let Some(name) = ready.loaded.unpinned.first() {
            let failure = Failure::new(Exit::Crew, format!("the server {name} is not in bosun.lock yet"));
            return Err(failure.hint(format!("bosun tools approve {name}")).hint("nothing was sent"));
        }
        let mut servers = BTreeMap::new();
        of(&ready.crew, &mut servers);
        let mut asked = tokio::task::JoinSet::new();
        for server in servers.into_values() {
            let (services, service) = (self.services.clone(), self.service(&server)?);
            asked.spawn(async move {
                let listed = services.definitions(&service, server.timeout_ms).await;
                let none = BTreeMap::new();
                listed.map(|found| quarantine(&server, server.pins.as_ref().unwrap_or(&none), &found))
            });
        }
        let mut wrong = Vec::new();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(why)) | Err(why)) => wrong.push(why),
                Err(why) => wrong.push(why.to_string()),
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        wrong.sort();
        Err(Failure::new(exit(&wrong), clean_lines(&wrong)).hint("nothing was sent"))
    }

    /// Stops them all.
    pub async fn stop(&self) {
        self.services.stop().await;
    }
}

/// What ends a run before it begins: a login that is missing, and nothing else.
fn exit<'a>(wrong: impl IntoIterator<Item = &'a String>) -> Exit {
    if wrong.into_iter().all(|why| wants_login(why)) { Exit::Credentials } else { Exit::Crew }
}

fn clean_lines(lines: &[String]) -> String {
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}

/// The servers of a crew and its sub-crews, each once.
fn of(crew: &Crew, all: &mut BTreeMap<String, Arc<Server>>) {
    for def in crew.tools.values() {
        if let ToolSource::Mcp { server, .. } = &def.source {
            all.insert(format!("{} {} {:?}", server.name, server.link.text(), server.allow), server.clone());
        }
    }
    crew.crews.values().for_each(|sub| of(&sub.crew, all));
}
