//! Client of the Kubernetes Container Runtime Interface (CRI), limited to calls that the kubelet makes, too.
//!
//! The messages are generated from Kubernetes' own definition, `cri.proto` (cri-api,
//! runtime/v1/api.proto). This module must not know what was baked: `verify/live.rs` and `verify/pod.rs` judge
//! the answers.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

use crate::interrupt;
use crate::printable::printable;

#[expect(
    unreachable_pub,
    clippy::doc_lazy_continuation,
    clippy::enum_variant_names,
    reason = "generated; cri.proto documents it"
)]
#[allow(
    clippy::missing_docs_in_private_items,
    reason = "cri.proto documents it; the lint is silent in unit tests"
)]
pub(crate) mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Time limit for one answer; pulls and pods have their own.
const ANSWER: Duration = Duration::from_secs(10);

/// Interval at which signals are checked during a long call.
const TICK: Duration = Duration::from_millis(100);

/// Length of the longest message; the status of a node with many runtimes and images is far shorter.
const LONGEST_MESSAGE: usize = 16 << 20;

/// Connection to the runtime.
pub(crate) struct Cri {
    driver: Runtime,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// Error of a call, with the runtime's own message if it sent one.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CriError {
    message: String,
    /// The socket does not serve the CRI, so trying again is useless.
    pub is_final: bool,
}

impl CriError {
    /// Creates an error that may be temporary.
    pub(crate) fn of(message: &str) -> CriError {
        CriError { message: printable(message), is_final: false }
    }
}

impl From<Status> for CriError {
    fn from(status: Status) -> CriError {
        // containerd has loaded its plugins before it serves anything.
        const NO_CRI: &str = "the CRI plugin is not loaded: see disabled_plugins in config.toml and its log";
        match status.code() {
            Code::Unimplemented => CriError { message: NO_CRI.to_owned(), is_final: true },
            _ => CriError::of(status.message()),
        }
    }
}

/// Name and version of the runtime.
#[derive(Debug)]
pub(crate) struct RuntimeVersion {
    /// The name, `containerd`.
    pub name: String,
    /// The version, with or without a leading `v`.
    pub version: String,
}

/// Status of the runtime.
#[derive(Debug)]
pub(crate) struct Condition {
    /// RuntimeReady: containers can be started.
    pub runtime: Result<(), String>,
    /// NetworkReady: a CNI configuration exists, which does not mean that its plugins work.
    pub network: Result<(), String>,
    /// The effective configuration of the CRI plugin, as the plugin returns it.
    pub config: Value,
}

impl Cri {
    /// Connects to the CRI at `socket` of this host. The error says why the CRI does not answer.
    pub(crate) fn connect(socket: &'static str) -> Result<Cri, CriError> {
        let driver = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CriError::of(&error.to_string()))?;
        let endpoint = Endpoint::from_static(socket);
        let nobody = |why: &str| CriError::of(&format!("nobody answers on {socket}: {why}"));
        let channel = driver
            .block_on(async { tokio::time::timeout(ANSWER, endpoint.connect()).await })
            .map_err(|_| nobody("no answer"))?
            .map_err(|error| nobody(&root_cause(&error)))?;
        let images = ImageServiceClient::new(channel.clone());
        let runtime = RuntimeServiceClient::new(channel);
        Ok(Cri {
            driver,
            runtime: runtime.max_decoding_message_size(LONGEST_MESSAGE),
            images: images.max_decoding_message_size(LONGEST_MESSAGE),
        })
    }

    /// Asks for name and version of the runtime.
    pub(crate) fn version(&mut self) -> Result<RuntimeVersion, CriError> {
        let answer = answer(&self.driver, ANSWER, self.runtime.version(v1::VersionRequest::default()))?;
        Ok(RuntimeVersion { name: answer.runtime_name, version: answer.runtime_version })
    }

    /// Asks for the conditions and the configuration of the runtime.
    pub(crate) fn condition(&mut self) -> Result<Condition, CriError> {
        let request = v1::StatusRequest { verbose: true };
        let answer = answer(&self.driver, ANSWER, self.runtime.status(request))?;
        let conditions = answer.status.unwrap_or_default().conditions;
        let condition = |name: &str| match conditions.iter().find(|condition| condition.r#type == name) {
            Some(condition) if condition.status => Ok(()),
            Some(v1::RuntimeCondition { reason, message, .. }) => {
                Err(printable(format!("{reason}: {message}").trim_end_matches([':', ' '])))
            }
            None => Err("the runtime does not say".to_owned()),
        };
        let config = answer.info.get("config").and_then(|text| serde_json::from_str(text).ok());
        Ok(Condition {
            runtime: condition("RuntimeReady"),
            network: condition("NetworkReady"),
            config: config.unwrap_or_default(),
        })
    }

    /// Asks whether runc uses the systemd cgroup driver; `None` for containerd 1.x, which does not tell.
    pub(crate) fn systemd_cgroup(&mut self) -> Result<Option<bool>, CriError> {
        let request = self.runtime.runtime_config(v1::RuntimeConfigRequest {});
        let known = async {
            match request.await {
                Err(status) if status.code() == Code::Unimplemented => {
                    Ok(Response::new(v1::RuntimeConfigResponse::default()))
                }
                answer => answer,
            }
        };
        let linux = answer(&self.driver, ANSWER, known)?.linux;
        Ok(linux.map(|linux| linux.cgroup_driver() == v1::CgroupDriver::Systemd))
    }

    /// Pulls an image and returns its reference; `meanwhile` is called every [`TICK`] until the call ends.
    pub(crate) fn pull(
        &mut self,
        image: &str,
        limit: Duration,
        meanwhile: impl FnMut(),
    ) -> Result<String, CriError> {
        let request = v1::PullImageRequest { image: Some(named(image)), ..Default::default() };
        let pulling = interruptible(self.images.pull_image(request), meanwhile);
        Ok(last_answer(&self.driver, limit, pulling)?.image_ref)
    }

    /// Starts the sandbox of a pod and returns its id.
    pub(crate) fn run_sandbox(
        &mut self,
        config: &v1::PodSandboxConfig,
        limit: Duration,
    ) -> Result<String, CriError> {
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        Ok(answer(&self.driver, limit, self.runtime.run_pod_sandbox(request))?.pod_sandbox_id)
    }

    /// Asks for the IP address of a sandbox; `None` if it uses the host's network.
    pub(crate) fn sandbox_address(&mut self, id: &str) -> Result<Option<String>, CriError> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = answer(&self.driver, ANSWER, self.runtime.pod_sandbox_status(request))?;
        let network = answer.status.and_then(|status| status.network);
        Ok(network.map(|network| network.ip).filter(|ip| !ip.is_empty()))
    }

    /// Lists the ids of the sandboxes with these labels.
    pub(crate) fn sandboxes(&mut self, labels: &BTreeMap<String, String>) -> Result<Vec<String>, CriError> {
        let label_selector = labels.clone().into_iter().collect();
        let filter = v1::PodSandboxFilter { label_selector, ..Default::default() };
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        let answer = last_answer(&self.driver, ANSWER, self.runtime.list_pod_sandbox(request))?;
        Ok(answer.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Creates a container in a sandbox, starts it and returns its id.
    pub(crate) fn run_container(
        &mut self,
        sandbox: &str,
        sandbox_config: &v1::PodSandboxConfig,
        config: v1::ContainerConfig,
        limit: Duration,
    ) -> Result<String, CriError> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let id = answer(&self.driver, limit, self.runtime.create_container(request))?.container_id;
        let request = v1::StartContainerRequest { container_id: id.clone() };
        answer(&self.driver, limit, self.runtime.start_container(request))?;
        Ok(id)
    }

    /// Asks for the first process of a running container. The error says how the container ended.
    pub(crate) fn container_process(&mut self, id: &str) -> Result<u32, CriError> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer = answer(&self.driver, ANSWER, self.runtime.container_status(request))?;
        let status = answer.status.unwrap_or_default();
        if status.state() != v1::ContainerState::ContainerRunning {
            let v1::ContainerStatus { exit_code, reason, message, .. } = status;
            return Err(CriError::of(&format!("it ended with {exit_code}: {reason} {message}")));
        }
        let info: Option<Value> = answer.info.get("info").and_then(|text| serde_json::from_str(text).ok());
        let process = info.as_ref().and_then(|info| info.get("pid")?.as_u64());
        process
            .and_then(|process| u32::try_from(process).ok())
            .ok_or_else(|| CriError::of("the runtime names no process"))
    }

    /// Stops a sandbox with its containers and removes it.
    pub(crate) fn remove_sandbox(&mut self, id: &str, limit: Duration) -> Result<(), CriError> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        last_answer(&self.driver, limit, self.runtime.stop_pod_sandbox(request))?;
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        last_answer(&self.driver, limit, self.runtime.remove_pod_sandbox(request)).map(drop)
    }
}

/// Waits for an answer, at most `limit` and until a signal arrives.
fn answer<T>(
    driver: &Runtime,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    last_answer(driver, limit, interruptible(call, || ()))
}

/// Waits for an answer, at most `limit` and without regard to signals, which cleaning up needs.
fn last_answer<T>(
    driver: &Runtime,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    match driver.block_on(async { tokio::time::timeout(limit, call).await }) {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(CriError::of(&format!("no answer within {} s", limit.as_secs()))),
    }
}

/// Makes `call` end at a signal to this process; `meanwhile` is called every [`TICK`].
async fn interruptible<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
    mut meanwhile: impl FnMut(),
) -> Result<Response<T>, Status> {
    let stopped = async {
        let mut ticks = tokio::time::interval(TICK);
        // With the default, Burst, a slow `meanwhile` would leave the call no time to be polled.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            meanwhile();
            if let Err(signal) = interrupt::check() {
                return Status::cancelled(signal.to_string());
            }
        }
    };
    tokio::select! {
        answer = call => answer,
        status = stopped => Err(status),
    }
}

/// Returns the innermost cause of an error.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Returns the message for an image's reference.
fn named(image: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: image.to_owned(), ..Default::default() }
}
