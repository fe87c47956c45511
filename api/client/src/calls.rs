//! A method for every route.

use engine_core::document::setting::SettingKind;
use engine_core::id::JobId;
use engine_core::plan::dry_run::DryRun;
use engine_core::request::{
    AddNodesRequest, ApplyRequest, Ask, AskRequest, CheckRequest, Document, ExecRequest, ImportRequest, NodeKey, Page,
    RedeployRequest, RevocationReason, RevokeRequest, RoleDetail, RoleView, RotationMove, RotationRequest, Seen,
    SignRequest, StandRequest, Version, WorkloadDetail, WorkloadView,
};
use engine_core::view::{
    Applied, AuthorityRequestView, AuthorityView, BundleDiff, BundleFiles, BundleView, BundlesRequest, CertificateView,
    DeploymentDetail, DeploymentView, DeploymentWhyView, DriftReport, EngineView, EventView, HookAdded, HookRequest,
    HookTest, HookView, JobView, LabelRequest, LogLine, Moved, NodeRoleView, NodeView, Pushed, RecordView, Resealed,
    ResidueView, RevisionView, RuleTest, RuleTestRequest, SecretView, SettingView, Settled, StatusView, Stood, WhyView,
    ZoneView,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::http::{Http, Place};
use crate::stream::{Events, Exec, Log};
use crate::{ClientError, Endpoint};

/// The engine, as far as the API goes. Every method fails with what the engine says, or with why it says nothing.
#[derive(Clone, Debug)]
pub struct Client {
    http: Http,
}

const API: [&str; 2] = ["api", "v1"];

macro_rules! at {
    ($($segment:expr),* $(; $($key:literal = $value:expr),*)?) => {
        Place(&[API[0], API[1], $($segment),*], {
            #[allow(unused_mut)]
            let mut parameters: Vec<(&'static str, String)> = Vec::new();
            $($(if let Some(value) = $value { parameters.push(($key, value.to_string())); })*)?
            parameters
        })
    };
}

#[allow(missing_docs, reason = "the routes say what they do; see docs/reference/openapi.json")]
impl Client {
    /// Talks to this engine in the name of `by`, which goes into its records.
    pub fn new(endpoint: Endpoint, by: impl Into<String>) -> Result<Self, ClientError> {
        Ok(Self { http: Http::new(endpoint, by.into())? })
    }

    /// Where the engine is.
    pub fn endpoint(&self) -> &str {
        self.http.endpoint()
    }

    /// All parts of a list.
    async fn all<T: DeserializeOwned>(&self, what: &str) -> Result<Vec<T>, ClientError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page: Page<T> = self.http.get(at!(what; "limit" = Some(1000), "after" = after.as_ref())).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    pub async fn version(&self) -> Result<Version, ClientError> {
        self.http.get(Place(&["version"], Vec::new())).await
    }

    pub async fn ready(&self) -> Result<(), ClientError> {
        self.http.text(Place(&["readyz"], Vec::new())).await.map(drop)
    }

    pub async fn openapi(&self) -> Result<Value, ClientError> {
        self.http.get(Place(&["openapi.json"], Vec::new())).await
    }

    pub async fn engines(&self) -> Result<Vec<EngineView>, ClientError> {
        Ok(self.http.get::<Page<EngineView>>(at!("engines")).await?.items)
    }

    pub async fn deployments(&self) -> Result<Vec<DeploymentView>, ClientError> {
        self.all("deployments").await
    }

    pub async fn deployment(&self, name: &str) -> Result<DeploymentDetail, ClientError> {
        self.http.get(at!("deployments", name)).await
    }

    pub async fn status(&self, name: &str) -> Result<StatusView, ClientError> {
        self.http.get(at!("deployments", name, "status")).await
    }

    /// `format`: `json`, `dot`, `mermaid` or `svg`.
    pub async fn graph(&self, name: &str, format: &str) -> Result<String, ClientError> {
        self.http.text(at!("deployments", name, "graph"; "format" = Some(format))).await
    }

    pub async fn plan(&self, document: &Document) -> Result<Vec<Applied>, ClientError> {
        self.http.post(at!("plans"), document).await
    }

    pub async fn dry_run(&self, document: &Document) -> Result<Vec<DryRun>, ClientError> {
        self.http.post(at!("dry-runs"), document).await
    }

    pub async fn apply(&self, document: Document, seen: Vec<Seen>) -> Result<Vec<Applied>, ClientError> {
        self.http.post(at!("applies"), &ApplyRequest { document, seen }).await
    }

    pub async fn plan_destroy(&self, name: &str) -> Result<Applied, ClientError> {
        self.http.post(at!("deployments", name, "destroy-plans"), &json!({})).await
    }

    pub async fn destroy(&self, name: &str) -> Result<Applied, ClientError> {
        self.http.delete_for(at!("deployments", name)).await
    }

    /// All of it, if no nodes are named.
    pub async fn plan_redeploy(&self, name: &str, nodes: &[String]) -> Result<Applied, ClientError> {
        let request = RedeployRequest { nodes: nodes.to_vec(), ..RedeployRequest::default() };
        self.http.post(at!("deployments", name, "redeploy-plans"), &request).await
    }

    pub async fn redeploy(&self, name: &str, request: &RedeployRequest) -> Result<Applied, ClientError> {
        self.http.post(at!("deployments", name, "redeploys"), request).await
    }

    /// Newest first.
    pub async fn revisions(&self, name: &str, limit: u32) -> Result<Vec<RevisionView>, ClientError> {
        let place = at!("deployments", name, "revisions"; "limit" = Some(limit));
        Ok(self.http.get::<Page<RevisionView>>(place).await?.items)
    }

    pub async fn check(&self, name: &str, request: &CheckRequest) -> Result<Moved, ClientError> {
        self.http.post(at!("deployments", name, "checks"), request).await
    }

    pub async fn drift(&self, name: &str) -> Result<DriftReport, ClientError> {
        self.http.get(at!("deployments", name, "drift")).await
    }

    pub async fn residue(&self, name: &str) -> Result<Vec<ResidueView>, ClientError> {
        Ok(self.http.get::<Page<ResidueView>>(at!("deployments", name, "residue")).await?.items)
    }

    /// By node.
    pub async fn certificates(&self, name: &str) -> Result<Vec<CertificateView>, ClientError> {
        Ok(self.http.get::<Page<CertificateView>>(at!("deployments", name, "certificates")).await?.items)
    }

    /// Those that are trusted, by role and generation.
    pub async fn authorities(&self, name: &str) -> Result<Vec<AuthorityView>, ClientError> {
        Ok(self.http.get::<Page<AuthorityView>>(at!("deployments", name, "authorities")).await?.items)
    }

    /// By name.
    pub async fn secrets(&self, name: &str) -> Result<Vec<SecretView>, ClientError> {
        Ok(self.http.get::<Page<SecretView>>(at!("deployments", name, "secrets")).await?.items)
    }

    pub async fn rotate_secret(&self, name: &str, role: &str) -> Result<(), ClientError> {
        self.http.post_empty(at!("deployments", name, "secrets", role, "rotations")).await
    }

    /// Everything by the newest seal key.
    pub async fn reseal(&self) -> Result<Resealed, ClientError> {
        self.http.post(at!("reseals"), &json!({})).await
    }

    /// The document with its secrets sealed.
    pub async fn seal(&self, document: &Document) -> Result<Document, ClientError> {
        self.http.post(at!("sealed-documents"), document).await
    }

    pub async fn rotate(&self, name: &str, role: &str) -> Result<(), ClientError> {
        self.http.post_empty(at!("deployments", name, "authorities", role, "rotations")).await
    }

    /// The key of an authority is not to be relied upon: it goes over to another one, with no way back.
    pub async fn revoke_authority(&self, name: &str, role: &str, reason: RevocationReason) -> Result<(), ClientError> {
        let place = at!("deployments", name, "authorities", role, "revocations");
        self.http.post_for_nothing(place, &RevokeRequest { reason }).await
    }

    /// What somebody else is to sign for an authority.
    pub async fn request_authority(&self, name: &str, role: &str) -> Result<AuthorityRequestView, ClientError> {
        self.http.post(at!("deployments", name, "authorities", role, "requests"), &()).await
    }

    /// Brings an authority what somebody else signed for it.
    pub async fn import_authority(&self, name: &str, role: &str, what: &ImportRequest) -> Result<(), ClientError> {
        self.http.post_for_nothing(at!("deployments", name, "authorities", role, "imports"), what).await
    }

    /// Has a request signed by an authority of a deployment.
    pub async fn sign(&self, name: &str, role: &str, what: &SignRequest) -> Result<CertificateView, ClientError> {
        self.http.post(at!("deployments", name, "authorities", role, "certificates"), what).await
    }

    /// A certificate, also one that has ended.
    pub async fn certificate(&self, serial: &str) -> Result<CertificateView, ClientError> {
        self.http.get(at!("certificates", serial)).await
    }

    /// Lets the node role that had a certificate signed have another one signed.
    pub async fn renew(&self, serial: &str) -> Result<(), ClientError> {
        self.http.post_empty(at!("certificates", serial, "renewals")).await
    }

    /// Asks something of an authority that goes over to another key.
    pub async fn ask_rotation(&self, name: &str, role: &str, ask: RotationMove) -> Result<(), ClientError> {
        let place = at!("deployments", name, "authorities", role, "asks");
        self.http.post_for_nothing(place, &RotationRequest { ask }).await
    }

    pub async fn revoke(&self, serial: &str, reason: RevocationReason) -> Result<(), ClientError> {
        self.http.post_for_nothing(at!("certificates", serial, "revocations"), &RevokeRequest { reason }).await
    }

    pub async fn ask(&self, name: &str, ask: Ask, node_role: Option<&str>) -> Result<Moved, ClientError> {
        let request = AskRequest { ask, node_role: node_role.map(str::to_owned) };
        self.http.post(at!("deployments", name, "asks"), &request).await
    }

    /// With a revision: as it was when the next one was committed.
    pub async fn why(&self, name: &str, node: &str, role: &str, revision: Option<i32>) -> Result<WhyView, ClientError> {
        self.http.get(at!("deployments", name, "node-roles", node, role, "why"; "revision" = revision)).await
    }

    pub async fn why_deployment(&self, name: &str, revision: Option<i32>) -> Result<DeploymentWhyView, ClientError> {
        self.http.get(at!("deployments", name, "why"; "revision" = revision)).await
    }

    pub async fn jobs(&self, name: &str, node: &str, role: &str) -> Result<Vec<JobView>, ClientError> {
        Ok(self.http.get::<Page<JobView>>(at!("deployments", name, "node-roles", node, role, "jobs")).await?.items)
    }

    pub async fn job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.http.get(at!("jobs", &id.to_string())).await
    }

    /// The log of an attempt from its beginning; of the newest if none is named.
    pub async fn log(
        &self,
        name: &str,
        node: &str,
        role: &str,
        job: Option<JobId>,
    ) -> Result<Vec<LogLine>, ClientError> {
        let (mut lines, mut job, mut after): (Vec<LogLine>, _, _) = (Vec::new(), job, None::<String>);
        loop {
            let place = at!("deployments", name, "node-roles", node, role, "logs";
                "job" = job.as_ref(), "after" = after.as_ref(), "limit" = Some(1000));
            let page: Page<LogLine> = self.http.get(place).await?;
            lines.extend(page.items);
            // The same attempt in all parts, even if another one begins meanwhile.
            job = job.or_else(|| lines.first().map(|line| line.job));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(lines),
            }
        }
    }

    /// The log as it is written.
    pub fn follow_log(&self, name: &str, node: &str, role: &str) -> Log {
        let path = ["api", "v1", "deployments", name, "node-roles", node, role, "logs", "stream"];
        Log::new(self.http.clone(), path.map(str::to_owned).to_vec())
    }

    pub async fn zones(&self) -> Result<Vec<ZoneView>, ClientError> {
        Ok(self.http.get::<Page<ZoneView>>(at!("dns", "zones")).await?.items)
    }

    pub async fn records(&self, zone: &str) -> Result<Vec<RecordView>, ClientError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page: Page<RecordView> =
                self.http.get(at!("dns", "zones", zone, "records"; "after" = after.as_ref())).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        self.all("nodes").await
    }

    pub async fn node(&self, name: &str) -> Result<NodeView, ClientError> {
        self.http.get(at!("nodes", name)).await
    }

    pub async fn node_roles(&self, node: &str) -> Result<Vec<NodeRoleView>, ClientError> {
        Ok(self.http.get::<Page<NodeRoleView>>(at!("nodes", node, "node-roles")).await?.items)
    }

    pub async fn add_nodes(&self, document: Document, keys: Vec<NodeKey>) -> Result<Vec<String>, ClientError> {
        self.http.post(at!("nodes"), &AddNodesRequest { document, keys }).await
    }

    pub async fn stand_node(&self, name: &str, aside: bool) -> Result<Stood, ClientError> {
        self.http.post(at!("nodes", name, "standings"), &StandRequest { aside }).await
    }

    pub async fn lose_node(&self, name: &str) -> Result<(), ClientError> {
        self.http.post_empty(at!("nodes", name, "losses")).await
    }

    pub async fn remove_node(&self, name: &str, force: bool) -> Result<(), ClientError> {
        self.http.delete(at!("nodes", name; "force" = force.then_some(true))).await
    }

    /// By name.
    pub async fn bundles(&self) -> Result<Vec<BundleView>, ClientError> {
        Ok(self.http.get::<Page<BundleView>>(at!("bundles")).await?.items)
    }

    pub async fn push_bundles(&self, bundles: Vec<BundleFiles>) -> Result<Pushed, ClientError> {
        self.http.post(at!("bundles"), &BundlesRequest { bundles }).await
    }

    pub async fn remove_bundle(&self, name: &str) -> Result<Pushed, ClientError> {
        self.http.delete_for(at!("bundles", name)).await
    }

    /// Against the catalog as it is, if no bundles are sent.
    pub async fn diff_bundles(&self, bundles: Vec<BundleFiles>) -> Result<BundleDiff, ClientError> {
        self.http.post(at!("bundle-diffs"), &BundlesRequest { bundles }).await
    }

    /// By name.
    pub async fn hooks(&self) -> Result<Vec<HookView>, ClientError> {
        Ok(self.http.get::<Page<HookView>>(at!("hooks")).await?.items)
    }

    /// The answer has the secret, which is not told again.
    pub async fn add_hook(&self, hook: &HookRequest) -> Result<HookAdded, ClientError> {
        self.http.post(at!("hooks"), hook).await
    }

    pub async fn remove_hook(&self, name: &str) -> Result<(), ClientError> {
        self.http.delete(at!("hooks", name)).await
    }

    pub async fn test_hook(&self, name: &str) -> Result<HookTest, ClientError> {
        self.http.post(at!("hooks", name, "tests"), &json!({})).await
    }

    /// The number of the event that is passed over.
    pub async fn skip_hook(&self, name: &str) -> Result<i64, ClientError> {
        self.http.post(at!("hooks", name, "skips"), &json!({})).await
    }

    /// By name.
    pub async fn settings(&self, kind: SettingKind) -> Result<Vec<SettingView>, ClientError> {
        Ok(self.http.get::<Page<SettingView>>(at!("settings", kind.as_str())).await?.items)
    }

    /// Profiles, policies and rules of a file.
    pub async fn set(&self, document: &Document) -> Result<Settled, ClientError> {
        self.http.post(at!("settings"), document).await
    }

    pub async fn remove_setting(&self, kind: SettingKind, name: &str) -> Result<Settled, ClientError> {
        self.http.delete_for(at!("settings", kind.as_str(), name)).await
    }

    pub async fn test_rules(&self, document: Option<Document>) -> Result<Vec<RuleTest>, ClientError> {
        Ok(self.http.post::<Page<RuleTest>>(at!("rule-tests"), &RuleTestRequest { document }).await?.items)
    }

    pub async fn label_node(&self, name: &str, request: &LabelRequest) -> Result<(), ClientError> {
        self.http.post_for_nothing(at!("nodes", name, "labels"), request).await
    }

    pub async fn roles(&self) -> Result<Vec<RoleView>, ClientError> {
        Ok(self.http.get::<Page<RoleView>>(at!("roles")).await?.items)
    }

    pub async fn role(&self, name: &str) -> Result<RoleDetail, ClientError> {
        self.http.get(at!("roles", name)).await
    }

    pub async fn workloads(&self) -> Result<Vec<WorkloadView>, ClientError> {
        Ok(self.http.get::<Page<WorkloadView>>(at!("workloads")).await?.items)
    }

    pub async fn workload(&self, name: &str) -> Result<WorkloadDetail, ClientError> {
        self.http.get(at!("workloads", name)).await
    }

    /// The newest events, oldest first.
    pub async fn events(&self, deployment: Option<&str>, limit: u32) -> Result<Vec<EventView>, ClientError> {
        let place = at!("events"; "deployment" = deployment, "limit" = Some(limit));
        Ok(self.http.get::<Page<EventView>>(place).await?.items)
    }

    /// Events after the one with this number, as they happen.
    pub fn follow_events(&self, deployment: Option<&str>, after: i64) -> Events {
        Events::new(self.http.clone(), deployment, after)
    }

    pub async fn exec(&self, request: &ExecRequest) -> Result<Exec, ClientError> {
        let response = self.http.post_stream(at!("exec"), request).await?;
        Ok(Exec::new(self.http.clone(), response))
    }
}
