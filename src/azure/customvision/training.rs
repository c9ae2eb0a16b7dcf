//! An iteration: trained, or the last one reused where nothing changed; waited for; old ones removed.

use std::time::Duration;

use mynah_contracts::Monitor;
use tokio::time::Instant;

use super::VisionError;
use super::api::Api;
use super::wire::Iteration;
use super::workspace::Workspace;

/// Before the second look at a training or an export; it grows with every further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Between two looks.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How often a training is asked for while others get in its way.
const ASKED: u32 = 5;

/// Waits that grow, up to a deadline.
#[derive(Debug)]
pub(super) struct Patience {
    next: Duration,
    started: Instant,
    deadline: Instant,
}

impl Patience {
    pub(super) fn of(limit: Duration) -> Self {
        let started = Instant::now();
        Self { next: FIRST_WAIT, started, deadline: started + limit }
    }

    /// Waits until the next look; false once there is no time left for one.
    pub(super) async fn wait(&mut self) -> bool {
        let wait = self.next;
        self.next = (wait * 3 / 2).min(LONGEST_WAIT);
        if Instant::now() + wait > self.deadline {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    /// How many minutes it lasted at most.
    pub(super) fn minutes(&self) -> u64 {
        (self.deadline - self.started).as_secs().div_ceil(60)
    }

    fn seconds(&self) -> (u64, u64) {
        (self.started.elapsed().as_secs(), (self.deadline - self.started).as_secs())
    }
}

/// A finished iteration of what the workspace holds.
pub(super) async fn trained(
    api: &Api,
    workspace: &Workspace,
    keep: usize,
    timeout: Duration,
    monitor: &dyn Monitor,
) -> Result<Iteration, VisionError> {
    let project = &workspace.project;
    let mut patience = Patience::of(timeout);
    let mut keep_now = keep.saturating_sub(1);
    for asked in 1..=ASKED {
        let iterations = api.iterations(&project.id).await?;
        if let Some(running) = iterations.iter().find(|iteration| iteration.is_training()) {
            // Of an earlier run, or someone else's: what comes of it says whether another one is needed.
            tracing::info!("waiting for the training `{}` that is under way", running.name);
            finished(api, &project.id, running.clone(), &mut patience, monitor).await?;
        }
        prune(api, &project.id, keep_now).await?;
        match api.train(&project.id, workspace.parameters()).await {
            Ok(started) => {
                tracing::info!("training `{}` on {} photos", started.name, workspace.photos);
                let ended = finished(api, &project.id, started, &mut patience, monitor).await?;
                if ended.is_failed() {
                    return Err(VisionError::TrainingFailed { iteration: ended.name });
                }
                return Ok(ended);
            }
            Err(error) => match error.code() {
                Some(
                    "BadRequestTrainingNotNeeded" | "BadRequestTrainingNotNeededButTrainingPipelineUpdated",
                ) => {
                    let latest = latest(api.iterations(&project.id).await?)
                        .ok_or_else(|| VisionError::NothingTrained { project: project.name.clone() })?;
                    tracing::info!("nothing changed since the training `{}`: it is used", latest.name);
                    return Ok(latest);
                }
                // Also what a training answers that an earlier try began.
                Some("BadRequestTrainingAlreadyInProgress") if asked < ASKED => {}
                Some("BadRequestExceedIterationPerProjectLimit") if keep_now > 1 => keep_now = 1,
                _ => return Err(error),
            },
        }
    }
    Err(VisionError::NothingTrained { project: project.name.clone() })
}

/// Waits for the end of a training.
async fn finished(
    api: &Api,
    project: &str,
    mut iteration: Iteration,
    patience: &mut Patience,
    monitor: &dyn Monitor,
) -> Result<Iteration, VisionError> {
    loop {
        iteration = api.iteration(project, &iteration.id).await?;
        if iteration.is_completed() || iteration.is_failed() {
            return Ok(iteration);
        }
        // Statuses that nobody published are taken for work in progress, up to the deadline.
        let (done, total) = patience.seconds();
        monitor.progress("waiting for the training", done, total);
        if !patience.wait().await {
            return Err(VisionError::TrainingTimeout {
                iteration: iteration.name,
                minutes: patience.minutes(),
                status: iteration.status.unwrap_or_default().escape_debug().to_string(),
            });
        }
    }
}

/// The iteration that was trained last.
fn latest(iterations: Vec<Iteration>) -> Option<Iteration> {
    iterations.into_iter().filter(Iteration::is_completed).max_by(|a, b| a.age().cmp(&b.age()))
}

/// Removes unpublished iterations beyond the newest `keep`, and those that failed. The service takes 20 in all and
/// then trains no more.
pub(super) async fn prune(api: &Api, project: &str, keep: usize) -> Result<usize, VisionError> {
    let mut removed = 0;
    for old in superfluous(api.iterations(project).await?, keep) {
        match api.delete_iteration(project, &old.id).await {
            Ok(()) => {
                tracing::info!("removed the old iteration `{}`", old.name);
                removed += 1;
            }
            // Published since it was listed, or the workspace itself: it stays.
            Err(error) if error.status() == Some(400) => {
                tracing::debug!("the iteration `{}` stays: {error}", old.name);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn superfluous(iterations: Vec<Iteration>, keep: usize) -> Vec<Iteration> {
    let (mut done, failed): (Vec<Iteration>, Vec<Iteration>) = iterations
        .into_iter()
        .filter(|iteration| !iteration.is_published())
        .filter(|iteration| iteration.is_completed() || iteration.is_failed())
        .partition(Iteration::is_completed);
    done.sort_by(|a, b| b.age().cmp(&a.age()));
    // The last finished one is what an unchanged dataset is answered with.
    failed.into_iter().chain(done.into_iter().skip(keep.max(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iteration(id: &str, status: &str, trained_at: &str, published: &str) -> Iteration {
        Iteration {
            id: id.into(),
            name: format!("Iteration {id}"),
            status: Some(status.into()),
            created: Some("2026-01-01T00:00:00Z".into()),
            trained_at: Some(trained_at.into()).filter(|text: &String| !text.is_empty()),
            publish_name: Some(published.into()),
        }
    }

    #[test]
    fn the_old_and_the_failed_go_the_published_and_the_running_stay() {
        let all = vec![
            iteration("1", "Completed", "2026-01-01", ""),
            iteration("2", "Completed", "2026-01-02", "live"),
            iteration("3", "Failed", "", ""),
            iteration("4", "Completed", "2026-01-04", ""),
            iteration("5", "Training", "", ""),
            iteration("6", "Completed", "2026-01-06", ""),
            iteration("7", "Brewing", "", ""),
        ];
        let gone = |keep| -> Vec<String> {
            superfluous(all.clone(), keep).into_iter().map(|iteration| iteration.id).collect()
        };
        assert_eq!(gone(2), ["3", "1"]);
        assert_eq!(gone(0), ["3", "4", "1"], "the last finished one always stays");
        assert_eq!(latest(all).unwrap().id, "6");
    }
}
