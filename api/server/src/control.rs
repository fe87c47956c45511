//! What the API asks of the engine beyond reading: implemented by the daemon's control and wired in by the command.

use std::sync::Arc;

use async_trait::async_trait;
use engine_core::catalog::Catalog;
use engine_core::document::setting::SettingKind;
use engine_core::plan::dry_run::DryRun;
pub use engine_core::request::Document;
use engine_core::request::{
    AskRequest, CheckRequest, ImportRequest, RedeployRequest, RevocationReason, RotationMove, Seen, SignRequest,
};
use engine_core::view::{
    Applied, AuthorityRequestView, BundleDiff, BundleView, BundlesRequest, CertificateView, Counted, ExecEvent,
    HookAdded, HookRequest, HookTest, HookView, LabelRequest, Moved, Pushed, Refusal, Resealed, RuleTest,
    RuleTestRequest, SettingView, Settled, Stood,
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// The engine's abilities that change something, or reach nodes. Every one changes nothing when it refuses.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// What the engine counts itself.
    fn counted(&self) -> Counted;
    /// What can be deployed.
    async fn catalog(&self) -> Result<Arc<Catalog>, Refusal>;
    /// The bundles of the catalog, by name.
    async fn bundles(&self) -> Result<Vec<BundleView>, Refusal>;
    /// Takes bundles into the catalog, all of them or none.
    async fn push_bundles(&self, what: &BundlesRequest, by: &str) -> Result<Pushed, Refusal>;
    /// Takes a bundle out of the catalog.
    async fn remove_bundle(&self, name: &str, by: &str) -> Result<Pushed, Refusal>;
    /// What pushing bundles would change, and which deployments are committed with other contents.
    async fn diff_bundles(&self, what: &BundlesRequest) -> Result<BundleDiff, Refusal>;
    /// Web hooks, by name.
    async fn hooks(&self) -> Result<Vec<HookView>, Refusal>;
    /// Lets events be sent somewhere.
    async fn add_hook(&self, what: &HookRequest, by: &str) -> Result<HookAdded, Refusal>;
    /// Sends no more to a hook.
    async fn remove_hook(&self, name: &str, by: &str) -> Result<(), Refusal>;
    /// Sends something to a hook to try it.
    async fn test_hook(&self, name: &str, by: &str) -> Result<HookTest, Refusal>;
    /// Goes past the event that a hook fails to take.
    async fn skip_hook(&self, name: &str) -> Result<i64, Refusal>;
    /// Profiles, policies or rules, by name.
    async fn settings(&self, kind: SettingKind) -> Result<Vec<SettingView>, Refusal>;
    /// Sets the profiles, policies and rules of a file, all of them or none.
    async fn set(&self, document: &Document, by: &str) -> Result<Settled, Refusal>;
    /// Removes a profile, a policy, a rule or a budget.
    async fn remove_setting(&self, kind: SettingKind, name: &str, by: &str) -> Result<Settled, Refusal>;
    /// What rules would make of every node.
    async fn test_rules(&self, what: &RuleTestRequest) -> Result<Vec<RuleTest>, Refusal>;
    /// Sets labels of a node and takes others away.
    async fn label_node(&self, name: &str, what: &LabelRequest, by: &str) -> Result<(), Refusal>;
    /// What applying the deployment documents of a file would do, one result a document.
    async fn plan(&self, document: &Document) -> Result<Vec<Applied>, Refusal>;
    /// What the steps that it would run again would change on their nodes.
    async fn dry_run(&self, document: &Document) -> Result<Vec<DryRun>, Refusal>;
    /// Commits the deployment documents of a file. `revisions`: the revision of each deployment that the person saw;
    /// another one by now is a conflict. Refused as a whole, or committed one by one in the order of the file.
    async fn apply(&self, document: &Document, seen: &[Seen], by: &str) -> Result<Vec<Applied>, Refusal>;
    /// What a destroy would do.
    async fn plan_destroy(&self, name: &str) -> Result<Applied, Refusal>;
    /// Lets everything of a deployment leave.
    async fn destroy(&self, name: &str, by: &str) -> Result<Applied, Refusal>;
    /// What a redeploy would do.
    async fn plan_redeploy(&self, name: &str, what: &RedeployRequest) -> Result<Applied, Refusal>;
    /// Makes nodes of a deployment anew, or all of it.
    async fn redeploy(&self, name: &str, what: &RedeployRequest, by: &str) -> Result<Applied, Refusal>;
    /// Asks for checks.
    async fn check(&self, name: &str, what: &CheckRequest, by: &str) -> Result<Moved, Refusal>;
    /// Asks something of one node role (`NODE/ROLE`), or of all of the deployment that it can be asked of.
    async fn ask(&self, name: &str, what: &AskRequest, by: &str) -> Result<Moved, Refusal>;
    /// Adopts the hosts that node documents describe; returns their names. Private keys are in `keys` by node name.
    async fn add_nodes(&self, document: &Document, keys: &[(String, String)], by: &str)
    -> Result<Vec<String>, Refusal>;
    /// Puts a node aside, or takes it back in.
    async fn stand_node(&self, name: &str, aside: bool, by: &str) -> Result<Stood, Refusal>;
    /// Gives up a node that a deployment uses.
    async fn lose_node(&self, name: &str, by: &str) -> Result<(), Refusal>;
    /// Lets go of a node that no deployment uses.
    async fn remove_node(&self, name: &str, force: bool, by: &str) -> Result<(), Refusal>;
    /// Revokes a certificate by its serial number.
    async fn revoke(&self, serial: &str, reason: RevocationReason, by: &str) -> Result<(), Refusal>;
    /// Lets a role that makes a secret make another one.
    async fn renew_secret(&self, name: &str, role: &str) -> Result<(), Refusal>;
    /// Seals everything by the newest key.
    async fn reseal(&self) -> Result<Resealed, Refusal>;
    /// Deployment documents with their secrets sealed.
    async fn seal_document(&self, document: &Document) -> Result<String, Refusal>;
    /// Begins to go over to another key of an authority.
    async fn rotate(&self, name: &str, role: &str, by: &str) -> Result<(), Refusal>;
    /// Asks something of an authority that goes over to another key.
    async fn ask_rotation(&self, name: &str, role: &str, what: RotationMove, by: &str) -> Result<(), Refusal>;
    /// The key of an authority is not to be relied upon.
    async fn revoke_authority(&self, name: &str, role: &str, reason: RevocationReason, by: &str)
    -> Result<(), Refusal>;
    /// What somebody else is to sign for an authority.
    async fn request_authority(&self, name: &str, role: &str) -> Result<AuthorityRequestView, Refusal>;
    /// Brings an authority what somebody else signed for it.
    async fn import_authority(&self, name: &str, role: &str, what: &ImportRequest, by: &str) -> Result<(), Refusal>;
    /// Lets whoever had a certificate signed have another one signed.
    async fn renew(&self, serial: &str, by: &str) -> Result<(), Refusal>;
    /// Signs a request with an authority of a deployment; what is told is durable.
    async fn sign(&self, name: &str, role: &str, what: &SignRequest, by: &str) -> Result<CertificateView, Refusal>;
    /// A part of an authority's list of what was revoked.
    async fn list(&self, authority: Uuid, part: i32, as_pem: bool) -> Result<Vec<u8>, Refusal>;
    /// Runs a command on nodes, side by side; the receiver ends when it has ended on all of them.
    async fn exec(
        &self,
        nodes: &[String],
        command: Vec<String>,
        seconds: u64,
    ) -> Result<mpsc::Receiver<ExecEvent>, Refusal>;
}
