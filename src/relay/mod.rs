//! `mynah relay`: uploads to a container of Blob Storage become runs of a pipeline, many uploads one run.
//!
//! Event Grid delivers an event for each upload (`server`, `event`, `door`). An upload is on the disk before it
//! is acknowledged (`journal`, `intake`, `ledger`), and stays pending until a run is known that will see it
//! (`dispatch`).

mod dispatch;
mod door;
mod entra;
mod error;
mod event;
mod figures;
mod intake;
mod journal;
mod ledger;
mod server;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mynah_contracts::Fault;
use url::Url;

use self::dispatch::Pace;
use self::door::Door;
use self::entra::{EVENT_GRID, Entra, Trust};
use self::event::Watched;
use self::figures::Figures;
use self::intake::Intake;
use self::journal::{Holder, Journal};
use self::server::Shared;
use crate::agent::{Console, Env, InputError, Inputs, OptionKind, OptionSpec};
use crate::azure::pipelines::{Pipeline, PipelineRef};
use crate::azure::storage::Location;
use crate::http::{self, Client, Policy};

pub use self::error::RelayError;

/// Where the host of Azure Functions wants its handler to listen.
const FUNCTIONS_PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// How often a state that another process holds is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What `--help` adds.
pub const DETAILS: &str = "\
Takes Event Grid's events for photos that were uploaded, waits until uploads are quiet, and queues one run of a
pipeline, or none where one waits already. An upload is on the disk before it is acknowledged: a kill loses none.

Callers are known by a key of at least 20 characters: MYNAH_RELAY_KEY, and MYNAH_RELAY_KEY_NEXT while it is changed.
They send it as the header `x-mynah-key` or in the address as `?key=`. With --tenant and --audience they may also
bring a token of Microsoft Entra, as Event Grid does; its signature, issuer, audience, caller and life are looked at.

Signs in to Azure DevOps with AZURE_DEVOPS_EXT_PAT, a service principal (AZURE_TENANT_ID, AZURE_CLIENT_ID and a
secret, certificate or federated token), a managed identity, or the Azure CLI.

Serves POST and OPTIONS /events, /metrics and /healthz. Under Azure Functions it listens where
FUNCTIONS_CUSTOMHANDLER_PORT says, below /api.

Example:
  mynah relay --source https://ACCOUNT.blob.core.windows.net/photos \\
    --organization https://dev.azure.com/ORG --project PROJECT --pipeline 12 --state /var/lib/mynah-relay";

/// The options.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::required(
        "source",
        OptionKind::Text,
        "The container whose photos are watched, as ImportImages reads it: https://ACCOUNT.blob.core.windows.net/CONTAINER[/FOLDER].",
    ),
    OptionSpec::required(
        "organization",
        OptionKind::Text,
        "The organisation, such as https://dev.azure.com/ORG.",
    ),
    OptionSpec::required("project", OptionKind::Text, "The project's name or id."),
    OptionSpec::required(
        "pipeline",
        OptionKind::Integer { min: 1, max: u64::MAX },
        "The pipeline's number: the definitionId in its address.",
    ),
    OptionSpec::with_default("branch", OptionKind::Text, "main", "The branch whose pipeline is run."),
    OptionSpec::optional(
        "parameters",
        OptionKind::Text,
        "Parameters of the pipeline, as name=value with commas between them.",
    ),
    OptionSpec::required("state", OptionKind::Path, "A folder that lasts, for the journal of uploads."),
    OptionSpec::with_default(
        "listen",
        OptionKind::Text,
        "127.0.0.1:8080",
        "Address and port. Azure Functions names the port itself.",
    ),
    OptionSpec::optional(
        "routePrefix",
        OptionKind::Text,
        "What stands before /events, such as /relay; under Azure Functions /api.",
    ),
    OptionSpec::optional("keyFile", OptionKind::Path, "A file with keys of callers, one a line."),
    OptionSpec::optional(
        "tenant",
        OptionKind::Text,
        "The id of the Microsoft Entra tenant whose tokens are taken, beside keys or in place of them.",
    ),
    OptionSpec::optional(
        "audience",
        OptionKind::Text,
        "What tokens must be for: the relay's application by its id and its URI, with a comma between them.",
    ),
    OptionSpec::with_default(
        "callers",
        OptionKind::Text,
        EVENT_GRID,
        "The ids of the applications that may deliver with a token, with commas between them. Event Grid's, if left out.",
    ),
    OptionSpec::with_default(
        "quietFor",
        OptionKind::Integer { min: 0, max: 86_400 },
        "60",
        "Seconds without an upload before a run is queued.",
    ),
    OptionSpec::with_default(
        "maxWait",
        OptionKind::Integer { min: 0, max: 604_800 },
        "900",
        "Seconds after which a run is queued although uploads go on.",
    ),
];

/// What the options mean.
#[derive(Debug)]
pub struct Plan {
    watched: Watched,
    source: Location,
    pipeline: PipelineRef,
    state: PathBuf,
    listen: SocketAddr,
    prefix: String,
    key_file: Option<PathBuf>,
    trust: Option<Trust>,
    pace: Pace,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "photos    {}", self.source)?;
        writeln!(
            f,
            "pipeline  {} of {} in {}, {}",
            self.pipeline.id,
            self.pipeline.project.escape_debug(),
            self.pipeline.organization,
            self.pipeline.branch.escape_debug()
        )?;
        for (name, value) in &self.pipeline.parameters {
            writeln!(f, "          {} = {}", name.escape_debug(), value.escape_debug())?;
        }
        writeln!(f, "listens   {}{}/events", self.listen, self.prefix)?;
        if let Some(trust) = &self.trust {
            writeln!(f, "callers   {trust}")?;
        }
        writeln!(f, "state     {}", self.state.display())?;
        write!(
            f,
            "runs      {} s after the last upload, at most {} s after the first",
            self.pace.quiet.as_secs(),
            self.pace.longest.as_secs()
        )
    }
}

impl Plan {
    /// What options and environment say.
    ///
    /// # Errors
    /// Options that are not what they should be.
    pub fn new(inputs: &Inputs, env: &Env) -> Result<Self, Fault> {
        let source = Location::parse(inputs.required("source")?)?;
        let watched = Watched {
            account: source.account().map(str::to_owned),
            container: source.container_name().to_owned(),
            prefix: source.prefix().to_owned(),
        };
        let organization = inputs.required("organization")?;
        let is_plain = |url: &Url| {
            url.has_host() && url.query().is_none() && url.username().is_empty() && url.password().is_none()
        };
        let organization = Url::parse(organization).ok().filter(is_plain).ok_or_else(|| {
            inputs.refused("organization", organization, "an address such as https://dev.azure.com/ORG")
        })?;
        let branch = inputs.required("branch")?;
        let branch =
            if branch.starts_with("refs/") { branch.to_owned() } else { format!("refs/heads/{branch}") };
        let pipeline = PipelineRef {
            organization,
            project: inputs.required("project")?.to_owned(),
            id: inputs.integer("pipeline")?.unwrap_or_default(),
            branch,
            parameters: parameters(inputs)?,
        };
        let seconds = |name| inputs.integer(name).map(|value| Duration::from_secs(value.unwrap_or_default()));
        let quiet = seconds("quietFor")?;
        let (listen, prefix) = place(inputs, env)?;
        Ok(Self {
            watched,
            source,
            pipeline,
            state: inputs.required_path("state")?,
            listen,
            prefix,
            key_file: inputs.path("keyFile")?,
            trust: Trust::read(inputs, env)?,
            pace: Pace { quiet, longest: seconds("maxWait")?.max(quiet) },
        })
    }

    /// Listens and works until someone asks to stop.
    ///
    /// # Errors
    /// It cannot listen, knows no caller, cannot keep its state, or has nobody to sign in as.
    pub fn run(self, env: &Env, console: &dyn Console) -> Result<(), Fault> {
        let client = Client::new(Policy::default()).map_err(RelayError::from)?;
        let entra = self.trust.map(|trust| Entra::new(trust, client.clone()));
        let door = Door::read(env, self.key_file.as_deref(), entra.clone())?;
        let pipeline = Pipeline::new(self.pipeline, env, client)?;
        let figures = Arc::new(Figures::default());
        let intake = Arc::new(OnceLock::new());
        // Before anyone is let in: what cannot be read is told, and nobody is sent away without need.
        if let Some(holder) = journal::hold(&self.state)? {
            begin(holder, &intake, &figures)?;
        } else {
            tracing::warn!("another relay holds `{}`; waiting for it to end", self.state.display());
        }
        let refused = |source| RelayError::Listen { address: self.listen, source };
        let listener = TcpListener::bind(self.listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let shared = Shared::new(door, self.watched, Arc::clone(&figures), Arc::clone(&intake));
        console.result(&format!("listening on http://{address}{}/events", self.prefix));
        let work = async {
            if let Some(entra) = entra {
                tokio::spawn(entra.prepare());
            }
            let dispatched = async {
                let intake = take_over(&self.state, &intake, &figures).await?;
                dispatch::dispatch(intake, pipeline, self.pace, figures).await
            };
            tokio::select! {
                ended = dispatched => ended,
                ended = server::serve(listener, &self.prefix, shared) => ended.map_err(refused),
            }
        };
        match http::block_on(console, work) {
            // It is meant to end so.
            Err(RelayError::Cancelled(_)) => Ok(()),
            ended => Ok(ended?),
        }
    }
}

/// Reads the journal and lets uploads in.
fn begin(holder: Holder, place: &OnceLock<Intake>, figures: &Arc<Figures>) -> Result<(), RelayError> {
    let (journal, ledger) = Journal::open(holder)?;
    let waiting = ledger.taken() - ledger.handed();
    if waiting > 0 {
        tracing::info!("{waiting} uploads from before the start wait for a run");
    }
    let intake = Intake::start(journal, ledger, Arc::clone(figures))?;
    place.get_or_init(|| intake);
    Ok(())
}

/// Waits until no other process holds the state: while a new version of a container starts, the old one still works.
async fn take_over(
    state: &Path,
    place: &OnceLock<Intake>,
    figures: &Arc<Figures>,
) -> Result<Intake, RelayError> {
    loop {
        if let Some(intake) = place.get() {
            return Ok(intake.clone());
        }
        tokio::time::sleep(TRY_AGAIN).await;
        if let Some(holder) = journal::hold(state)? {
            begin(holder, place, figures)?;
        }
    }
}

fn parameters(inputs: &Inputs) -> Result<BTreeMap<String, String>, InputError> {
    let Some(text) = inputs.text("parameters")? else { return Ok(BTreeMap::new()) };
    text.split(',')
        .map(|pair| {
            pair.split_once('=')
                .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| inputs.refused("parameters", pair, "name=value"))
        })
        .collect()
}

/// Where to listen, and what stands before the routes.
fn place(inputs: &Inputs, env: &Env) -> Result<(SocketAddr, String), InputError> {
    let functions = env.get(FUNCTIONS_PORT);
    let listen = if let Some(port) = functions {
        let port = port.parse().map_err(|_| inputs.refused(FUNCTIONS_PORT, port, "a port"))?;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    } else {
        let text = inputs.required("listen")?;
        let expected = "an address and a port, such as 0.0.0.0:8080";
        text.parse().map_err(|_| inputs.refused("listen", text, expected))?
    };
    let prefix = inputs.text("routePrefix")?.unwrap_or(if functions.is_some() { "/api" } else { "" });
    let prefix = prefix.trim_end_matches('/');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    if !(prefix.is_empty() || prefix.starts_with('/')) || !prefix.bytes().all(fits) || prefix.contains("//") {
        return Err(inputs.refused("routePrefix", prefix, "a path such as /relay"));
    }
    Ok((listen, prefix.to_owned()))
}

#[cfg(test)]
mod tests {
    use mynah_contracts::FaultKind;

    use super::*;

    fn plan(changed: &[(&'static str, &str)], env: &Env) -> Result<Plan, Fault> {
        let mut pairs = vec![
            ("source", "https://photos9411.blob.core.windows.net/in/shop"),
            ("organization", "https://dev.azure.com/contoso"),
            ("project", "Eyes & Ears"),
            ("pipeline", "12"),
            ("state", "state"),
        ];
        pairs.retain(|(name, _)| changed.iter().all(|(other, _)| name != other));
        pairs.extend(changed);
        Plan::new(&Inputs::from_pairs(OPTIONS, pairs.into_iter().map(|(n, v)| (n, v.to_owned()))), env)
    }

    #[test]
    fn a_plan_says_what_it_does() {
        let plan = plan(&[("parameters", "force=true, note = a b")], &Env::default()).unwrap();
        assert_eq!(
            plan.to_string(),
            "photos    https://photos9411.blob.core.windows.net/in/shop\n\
             pipeline  12 of Eyes & Ears in https://dev.azure.com/contoso, refs/heads/main\n\
             \u{20}         force = true\n\
             \u{20}         note = a b\n\
             listens   127.0.0.1:8080/events\n\
             state     state\n\
             runs      60 s after the last upload, at most 900 s after the first"
        );
    }

    #[test]
    fn azure_functions_names_the_port() {
        let env = Env::from_iter([(FUNCTIONS_PORT, "4711")]);
        let plan = plan(&[], &env).unwrap();
        assert_eq!((plan.listen.to_string().as_str(), plan.prefix.as_str()), ("127.0.0.1:4711", "/api"));
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        for (name, value) in [
            ("source", "photos"),
            ("source", "https://photos9411.blob.core.windows.net/in?sig=secret"),
            ("organization", "contoso"),
            ("organization", "https://user:pass@dev.azure.com/contoso"),
            ("pipeline", "0"),
            ("pipeline", "mynah"),
            ("listen", "8080"),
            ("routePrefix", "relay"),
            ("routePrefix", "/{x}"),
            ("routePrefix", "//a"),
            ("parameters", "force"),
            ("quietFor", "-1"),
            ("state", ""),
        ] {
            let fault = plan(&[(name, value)], &Env::default()).unwrap_err();
            assert_eq!(fault.kind(), FaultKind::BadInput, "{name} {value}: {fault}");
        }
    }
}
