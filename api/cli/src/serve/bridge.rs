//! The API's side of what the engine can do.

use std::sync::Arc;

use api_server::control::{Control, Document};
use async_trait::async_trait;
use engine_core::catalog::Catalog;
use engine_core::document::setting::SettingKind;
use engine_core::plan::dry_run::DryRun;
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

/// The engine's control, as the API asks for it.
pub(super) struct Bridge(pub(super) engine_daemon::Control);

#[async_trait]
impl Control for Bridge {
    fn counted(&self) -> Counted {
        self.0.counted()
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, Refusal> {
        self.0.catalog().await
    }

    async fn bundles(&self) -> Result<Vec<BundleView>, Refusal> {
        self.0.bundles().await
    }

    async fn push_bundles(&self, what: &BundlesRequest, by: &str) -> Result<Pushed, Refusal> {
        self.0.push_bundles(&what.bundles, by).await
    }

    async fn remove_bundle(&self, name: &str, by: &str) -> Result<Pushed, Refusal> {
        self.0.remove_bundle(name, by).await
    }

    async fn diff_bundles(&self, what: &BundlesRequest) -> Result<BundleDiff, Refusal> {
        self.0.diff_bundles(&what.bundles).await
    }

    async fn hooks(&self) -> Result<Vec<HookView>, Refusal> {
        self.0.hooks().await
    }

    async fn add_hook(&self, what: &HookRequest, by: &str) -> Result<HookAdded, Refusal> {
        self.0.add_hook(what, by).await
    }

    async fn remove_hook(&self, name: &str, by: &str) -> Result<(), Refusal> {
        self.0.remove_hook(name, by).await
    }

    async fn test_hook(&self, name: &str, by: &str) -> Result<HookTest, Refusal> {
        self.0.test_hook(name, by).await
    }

    async fn skip_hook(&self, name: &str) -> Result<i64, Refusal> {
        self.0.skip_hook(name).await
    }

    async fn settings(&self, kind: SettingKind) -> Result<Vec<SettingView>, Refusal> {
        self.0.settings(kind).await
    }

    async fn set(&self, document: &Document, by: &str) -> Result<Settled, Refusal> {
        self.0.set(&document.text, &document.file, by).await
    }

    async fn remove_setting(&self, kind: SettingKind, name: &str, by: &str) -> Result<Settled, Refusal> {
        self.0.remove_setting(kind, name, by).await
    }

    async fn test_rules(&self, what: &RuleTestRequest) -> Result<Vec<RuleTest>, Refusal> {
        self.0.test_rules(what.document.as_ref()).await
    }

    async fn label_node(&self, name: &str, what: &LabelRequest, by: &str) -> Result<(), Refusal> {
        self.0.label_node(name, what, by).await
    }

    async fn plan(&self, document: &Document) -> Result<Vec<Applied>, Refusal> {
        self.0.plan(&document.text, &document.file).await
    }

    async fn dry_run(&self, document: &Document) -> Result<Vec<DryRun>, Refusal> {
        self.0.dry_run(&document.text, &document.file).await
    }

    async fn apply(&self, document: &Document, seen: &[Seen], by: &str) -> Result<Vec<Applied>, Refusal> {
        self.0.apply(&document.text, &document.file, seen, by).await
    }

    async fn plan_destroy(&self, name: &str) -> Result<Applied, Refusal> {
        self.0.plan_destroy(name).await
    }

    async fn destroy(&self, name: &str, by: &str) -> Result<Applied, Refusal> {
        self.0.destroy(name, by).await
    }

    async fn plan_redeploy(&self, name: &str, what: &RedeployRequest) -> Result<Applied, Refusal> {
        self.0.plan_redeploy(name, &what.nodes).await
    }

    async fn redeploy(&self, name: &str, what: &RedeployRequest, by: &str) -> Result<Applied, Refusal> {
        self.0.redeploy(name, what, by).await
    }

    async fn check(&self, name: &str, what: &CheckRequest, by: &str) -> Result<Moved, Refusal> {
        self.0.check(name, what.role.as_deref(), what.node.as_deref(), by).await
    }

    async fn ask(&self, name: &str, what: &AskRequest, by: &str) -> Result<Moved, Refusal> {
        self.0.ask(what.ask, name, what.node_role.as_deref(), by).await
    }

    async fn add_nodes(
        &self,
        document: &Document,
        keys: &[(String, String)],
        by: &str,
    ) -> Result<Vec<String>, Refusal> {
        self.0.add_nodes(&document.text, &document.file, keys, by).await
    }

    async fn stand_node(&self, name: &str, aside: bool, by: &str) -> Result<Stood, Refusal> {
        self.0.stand_node(name, aside, by).await
    }

    async fn lose_node(&self, name: &str, by: &str) -> Result<(), Refusal> {
        self.0.lose_node(name, by).await
    }

    async fn revoke(&self, serial: &str, reason: RevocationReason, by: &str) -> Result<(), Refusal> {
        self.0.revoke(serial, reason, by).await
    }

    async fn renew_secret(&self, name: &str, role: &str) -> Result<(), Refusal> {
        self.0.renew_secret(name, role).await
    }

    async fn reseal(&self) -> Result<Resealed, Refusal> {
        self.0.reseal().await
    }

    async fn seal_document(&self, document: &Document) -> Result<String, Refusal> {
        self.0.seal_document(&document.text, &document.file).await
    }

    async fn rotate(&self, name: &str, role: &str, by: &str) -> Result<(), Refusal> {
        self.0.rotate(name, role, by).await
    }

    async fn ask_rotation(&self, name: &str, role: &str, what: RotationMove, by: &str) -> Result<(), Refusal> {
        self.0.ask_rotation(name, role, what, by).await
    }

    async fn revoke_authority(
        &self,
        name: &str,
        role: &str,
        reason: RevocationReason,
        by: &str,
    ) -> Result<(), Refusal> {
        self.0.revoke_authority(name, role, reason, by).await
    }

    async fn request_authority(&self, name: &str, role: &str) -> Result<AuthorityRequestView, Refusal> {
        self.0.request_authority(name, role).await
    }

    async fn import_authority(&self, name: &str, role: &str, what: &ImportRequest, by: &str) -> Result<(), Refusal> {
        self.0.import_authority(name, role, what, by).await
    }

    async fn renew(&self, serial: &str, by: &str) -> Result<(), Refusal> {
        self.0.renew(serial, by).await
    }

    async fn sign(&self, name: &str, role: &str, what: &SignRequest, by: &str) -> Result<CertificateView, Refusal> {
        self.0.sign(name, role, what, by).await
    }

    async fn list(&self, authority: Uuid, part: i32, as_pem: bool) -> Result<Vec<u8>, Refusal> {
        self.0.list(authority, part, as_pem).await
    }

    async fn remove_node(&self, name: &str, force: bool, by: &str) -> Result<(), Refusal> {
        self.0.remove_node(name, force, by).await
    }

    async fn exec(
        &self,
        nodes: &[String],
        command: Vec<String>,
        seconds: u64,
    ) -> Result<mpsc::Receiver<ExecEvent>, Refusal> {
        self.0.exec(nodes, command, seconds).await
    }
}
