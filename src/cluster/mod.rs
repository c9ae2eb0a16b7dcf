//! Deployment to a Kubernetes cluster: objects applied on the server's side, watched until they run, taken back where
//! they do not.
//!
//! Before anything changes, the whole deployment is tried with `dryRun`, so that a missing right, a field that is
//! someone else's or a kind the cluster does not know costs nothing. What was there is kept in the cluster first
//! (`inventory`), so that a run that was killed is finished, or taken back, by the next one.
//!
//! | part | what it owns |
//! |---|---|
//! | `access`, `kubeconfig`, `exec` | which cluster, whom to trust, who signs in |
//! | `api` | the calls, and what refusals mean |
//! | `object` | objects of a manifest, and where the API has their kind |
//! | `inventory` | what the cluster keeps of the last deployments |
//! | `plan` | what would change, found by trying |
//! | `health` | what the status of workloads and pods says |
//! | `watch` | lists that follow the cluster through lost connections |
//! | `verify` | asking pods whether they are ready and which model they run |
//! | `running` | whether what was applied runs |
//! | `deploy` | the order of all this, canary and going back |

mod access;
mod api;
mod deploy;
mod error;
mod exec;
mod health;
mod inventory;
mod kubeconfig;
mod object;
mod plan;
mod running;
mod verify;
mod watch;

pub use access::Access;
pub use api::Api;
pub use deploy::{Arrived, Rollout};
pub use error::{After, ClusterError};
pub use object::Manifest;

/// The field manager under which fields are set.
pub const MANAGER: &str = "mynah";

/// The annotation of a pod that says which model it is to run.
pub const MODEL_ANNOTATION: &str = "mynah/model-digest";

/// What everything deployed by us has among its labels, as a selector.
const OURS: &str = "app.kubernetes.io/managed-by=mynah,app.kubernetes.io/part-of=mynah";

/// What every pod deployed by us has among its labels, as a selector.
const PODS: &str = "app.kubernetes.io/part-of=mynah";
