//! All routes, and the description of the API that follows from them.

mod bundles;
mod catalog;
pub(crate) mod certificates;
mod deployments;
mod dns;
mod documents;
mod drift;
mod events;
mod exec;
mod hooks;
mod metrics;
mod moves;
mod node_roles;
mod nodes;
mod probes;
mod redeploys;
mod secrets;
mod settings;

use axum::Router;
use engine_core::request::Problem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::App;

/// Routes without a token, routes with one, and their description.
pub(crate) fn parts() -> (Router<App>, Router<App>, OpenApi) {
    let (open, mut description) = OpenApiRouter::<App>::with_openapi(frame())
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::version))
        .routes(routes!(probes::description))
        .routes(routes!(certificates::part))
        .split_for_parts();
    let (closed, mut described) =
        OpenApiRouter::<App>::new().nest("/api/v1", closed()).routes(routes!(metrics::show)).split_for_parts();
    for item in described.paths.paths.values_mut() {
        let all = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in all.into_iter().flatten() {
            operation.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
        }
    }
    description.merge(described);
    (open, closed, description)
}

fn closed() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(deployments::list))
        .routes(routes!(deployments::show, moves::destroy))
        .routes(routes!(deployments::status))
        .routes(routes!(deployments::why))
        .routes(routes!(deployments::graph))
        .routes(routes!(documents::plan))
        .routes(routes!(documents::dry_run))
        .routes(routes!(documents::apply))
        .routes(routes!(moves::plan_destroy))
        .routes(routes!(moves::ask))
        .routes(routes!(redeploys::plan))
        .routes(routes!(redeploys::redeploy))
        .routes(routes!(redeploys::revisions))
        .routes(routes!(drift::check))
        .routes(routes!(drift::show))
        .routes(routes!(drift::residue))
        .routes(routes!(certificates::authorities))
        .routes(routes!(certificates::rotate))
        .routes(routes!(certificates::ask))
        .routes(routes!(certificates::revoke_authority))
        .routes(routes!(certificates::sign))
        .routes(routes!(certificates::request))
        .routes(routes!(certificates::import))
        .routes(routes!(certificates::list))
        .routes(routes!(certificates::show))
        .routes(routes!(certificates::revoke))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::rotate))
        .routes(routes!(secrets::seal))
        .routes(routes!(secrets::reseal))
        .routes(routes!(certificates::renew))
        .routes(routes!(node_roles::why))
        .routes(routes!(node_roles::jobs))
        .routes(routes!(node_roles::log))
        .routes(routes!(node_roles::follow))
        .routes(routes!(node_roles::job))
        .routes(routes!(nodes::list, nodes::add))
        .routes(routes!(nodes::show, nodes::remove))
        .routes(routes!(nodes::node_roles))
        .routes(routes!(nodes::stand))
        .routes(routes!(nodes::lose))
        .routes(routes!(bundles::list, bundles::push))
        .routes(routes!(bundles::remove))
        .routes(routes!(bundles::diff))
        .routes(routes!(hooks::list, hooks::add))
        .routes(routes!(hooks::remove))
        .routes(routes!(hooks::test))
        .routes(routes!(hooks::skip))
        .routes(routes!(settings::set))
        .routes(routes!(settings::list))
        .routes(routes!(settings::remove))
        .routes(routes!(settings::test))
        .routes(routes!(settings::label))
        .routes(routes!(catalog::roles))
        .routes(routes!(catalog::role))
        .routes(routes!(catalog::workloads))
        .routes(routes!(catalog::workload))
        .routes(routes!(dns::zones))
        .routes(routes!(dns::records))
        .routes(routes!(events::list))
        .routes(routes!(events::follow))
        .routes(routes!(exec::exec))
        .routes(routes!(probes::engines))
}

/// What no route says.
fn frame() -> OpenApi {
    let about = "Every error is `application/problem+json` with a stable `code`. Lists come in parts: `next` of one is \
                 `after` of the following.";
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Plinth").version("v1").description(Some(about)))
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
                .schema(Problem::name(), Problem::schema())
                .build(),
        ))
        .build()
}

/// The description of the API (OpenAPI 3.1).
pub fn openapi() -> OpenApi {
    parts().2
}
