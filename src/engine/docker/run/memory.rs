//! What a container takes of memory.

use bollard::models::ContainerMemoryStats;
use bollard::query_parameters::StatsOptions;
use futures_util::StreamExt as _;

use super::super::client::DockerEngine;
use crate::engine::run::{MemorySample, RunError};

impl DockerEngine {
    /// What a container takes of memory now; `None` if it is not running.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn memory(&self, container: &str) -> Result<Option<MemorySample>, RunError> {
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut told = Box::pin(self.docker.stats(container, Some(options)));
        let told = async { told.next().await.transpose() };
        let told = self
            .call(told)
            .await
            .map_err(|error| super::of_container(error, container))?;
        Ok(told.and_then(|told| told.memory_stats).and_then(sample))
    }
}

/// docker/cli's `calculateMemUsageUnixNoCache`: memory that the kernel would give back at once does
/// not count.
fn sample(stats: ContainerMemoryStats) -> Option<MemorySample> {
    let usage = stats.usage?;
    let details = stats.stats.unwrap_or_default();
    // The first is cgroup v1's, the second v2's.
    let inactive = ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|name| details.get(*name))
        .copied()
        .filter(|inactive| *inactive < usage);
    Some(MemorySample {
        used: usage - inactive.unwrap_or(0),
        peak: stats.max_usage.filter(|peak| *peak > 0),
    })
}
